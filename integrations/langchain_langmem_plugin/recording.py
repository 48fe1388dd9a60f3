"""From a framework's list of messages to turns: what opens one, what joins it, what closes it.

A user message opens a turn, an assistant message without tool calls closes it, and
whatever comes between belongs to it. While no answer has come, the same user
message again is a retry and adds nothing; another one joins the turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn

_TRIES = 8
"""Writers on one session that may come between before an error is raised."""


def record(
    session: Session,
    messages: Sequence[Message],
    *,
    finish: bool,
    resume: Callable[[], Turn | None] | None = None,
) -> Turn | None:
    """Write messages that the memory does not have yet; several exchanges that no turn is open for are one turn.

    Args:
        session: Where they were said.
        messages: In order, none of them recorded before.
        finish: Whether an answer at the very end closes its turn. While an agent
            runs it does not: the agent may yet replace it.
        resume: Finds the open turn they go on with; the session's newest if not given.

    Returns:
        The turn that is pending after them, None if there is none.

    Raises:
        InvalidMessage: A message cannot be kept.
        SessionError: Other writers closed the turn again and again.
    """
    find = resume or session.resume
    parts = _exchanges(messages)
    if len(parts) > 1 and find() is None:  # together or not at all
        whole = len(parts) if _is_answer(parts[-1][-1]) and finish else len(parts) - 1
        session.add(*(message for part in parts[:whole] for message in without_retries(part, ())))
        parts = parts[whole:]
        if not parts:
            return None
    turn = None if parts else find()
    for number, part in enumerate(parts, start=1):
        closed = _is_answer(part[-1]) and (finish or number < len(parts))
        turn = _write(session, part, find, closed=closed)
    return turn


def _write(session: Session, part: list[Message], find: Callable[[], Turn | None], *, closed: bool) -> Turn | None:
    for tries_left in range(_TRIES - 1, -1, -1):
        turn = find()
        if turn is None:
            said = without_retries(part, ())
            if not closed:
                return session.begin(*said)
            session.add(*said)
            return None
        try:
            turn.append(*without_retries(part, turn.messages))
        except (TurnClosed, VersionConflict):  # another writer was faster: look again
            if not tries_left:
                raise
            continue
        if turn.state == "pending":
            if not closed:
                return turn
            turn.commit()
            return None
    raise TurnClosed("of this session", "committed again and again by others")


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


def without_retries(messages: Sequence[Message], before: Sequence[Message]) -> list[Message]:
    """The messages without user messages that the open turn ends on already."""
    asked = last_asked(before)
    kept: list[Message] = []
    for message in messages:
        if message.role is not Role.USER:
            kept.append(message)
        elif not any(same_words(message, earlier) for earlier in asked):
            asked.append(message)
            kept.append(message)
    return kept


def last_asked(messages: Sequence[Message]) -> list[Message]:
    """The newest run of user messages, with nothing but tool calls and results after it."""
    asked: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            asked.append(message)
        elif asked:
            break
    return asked
