"""From a framework's list of messages to turns: what opens one, what joins it, what closes it.

A user message opens a turn, an assistant message without tool calls closes it, and
whatever comes between belongs to it. While no answer has come, the same user
message again is a retry and adds nothing; another one joins the turn.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn

_OPEN = 1_024


class OpenTurns:
    """The turns that are open in this process, so that what one recalled stays with it.

    Bounded: a turn that fell out is read from the store again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str], Turn] = OrderedDict()

    def newest(self, session: Session) -> Turn | None:
        """The session's newest pending turn; None if there is none."""
        turn = session.resume()
        if turn is None:
            return None
        kept = self._kept.get(_key(turn))
        if kept is not None and kept.state == "pending" and kept.messages == turn.messages:
            return kept
        self.keep(turn)
        return turn

    def keep(self, turn: Turn) -> None:
        """Remember a turn that is open."""
        with self._lock:
            self._kept[_key(turn)] = turn
            if len(self._kept) > _OPEN:
                self._kept.popitem(last=False)

    def drop(self, turn: Turn) -> None:
        """Forget a turn that was closed."""
        with self._lock:
            self._kept.pop(_key(turn), None)


def _key(turn: Turn) -> tuple[str, str, str]:
    return turn.session.owner, turn.session.id, turn.id


def record(
    session: Session,
    messages: Sequence[Message],
    *,
    finish: bool,
    resume: Callable[[Session], Turn | None] = Session.resume,
) -> Turn | None:
    """Write messages that the memory does not have yet.

    Args:
        session: Where they were said.
        messages: In order, none of them recorded before.
        finish: Whether an answer at the very end closes its turn. While an agent
            runs it does not: the agent may yet replace it.
        resume: Finds the pending turn.

    Returns:
        The turn that is pending after them, None if there is none.

    Raises:
        InvalidMessage: A message cannot be kept.
    """
    turn = resume(session)
    parts = _exchanges(messages)
    for number, part in enumerate(parts, start=1):
        closed = _is_answer(part[-1]) and (finish or number < len(parts))
        if turn is None:
            said = _without_retries(part, ())
            if closed:
                session.add(*said)
                continue
            turn = session.begin(*said)
        else:
            turn.append(*_without_retries(part, turn.messages))
        if closed:
            turn.commit()
            turn = None
    return turn


def same_words(one: Message, other: Message) -> bool:
    """Whether two messages say the same, whatever ids and metadata a framework gave them."""
    return _said(one) == _said(other)


def without_echo(messages: Sequence[Message], shown: Sequence[Message]) -> list[Message]:
    """The messages without a copy of what had been shown, as a graph that returns its whole state gives it."""
    size = len(shown)
    if size:
        for start in range(len(messages) - size + 1):
            if all(same_words(messages[start + place], shown[place]) for place in range(size)):
                return [*messages[:start], *messages[start + size :]]
    return list(messages)


def _said(message: Message) -> tuple[object, ...]:
    return message.role, message.blocks, message.tool_calls, message.tool_call_id


def _is_answer(message: Message) -> bool:
    return message.role is Role.ASSISTANT and not message.tool_calls


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    parts: list[list[Message]] = []
    for message in messages:
        if not parts or _is_answer(parts[-1][-1]):
            parts.append([])
        parts[-1].append(message)
    return parts


def _without_retries(messages: Sequence[Message], before: Sequence[Message]) -> list[Message]:
    """The messages without user messages that the open turn ends on already."""
    asked = _last_asked(before)
    kept: list[Message] = []
    for message in messages:
        if message.role is not Role.USER:
            kept.append(message)
        elif not any(same_words(message, earlier) for earlier in asked):
            asked.append(message)
            kept.append(message)
    return kept


def _last_asked(messages: Sequence[Message]) -> list[Message]:
    """The newest run of user messages, with nothing but tool calls and results after it."""
    asked: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            asked.append(message)
        elif asked:
            break
    return asked
