"""One session, written the way LlamaIndex's engines and agents put messages.

LlamaIndex knows neither turns nor message ids. A user's message opens a turn, an answer
without tool calls commits it, and what is delivered twice is recognised by its place.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from itertools import takewhile
from typing import Final
from uuid import uuid4
from weakref import WeakValueDictionary, ref

from langmem_plugin.errors import TurnClosed
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role, ToolCall
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn
from llama_index.memory.langmem_plugin.convert import with_payload

_OPENING: Final = 4
"""How many messages at the beginning of a session may be system messages that are kept as such."""

_answering: ContextVar[tuple[ref[Conversation], str] | None] = ContextVar("langmem_plugin_answering", default=None)
"""The turn whose answer this context produces; a stream's writer runs in a copy of it."""


class Conversation:
    """A session's transcript: committed turns and the open one.

    Every buffer on one session of one memory shares one conversation, so a buffer that a
    workflow rebuilt from its context goes on with the open turn.
    """

    def __init__(self, memory: Memory, session_id: str, *, owner: str) -> None:
        self.memory: Final = memory
        self.session: Final[Session] = memory.session(session_id, owner=owner)
        self._lock: Final = threading.RLock()
        self._turn: Turn | None = None

    def pending(self) -> Turn | None:
        """The open turn, also one that a process which died left behind."""
        with self._lock:
            turn = self._turn
            if turn is None or turn.state != "pending":
                turn = self.session.resume()
            if turn is not None and _is_answer(turn.messages[-1:]):  # died between the answer and the commit
                turn.commit()
                turn = None
            self._turn = turn
            return turn

    def transcript(self) -> list[Message]:
        """Every message as it was put, oldest first: the log, then the open turn."""
        with self._lock:
            turn = self.pending()
            said = [entry.message for entry in self.session.history()]
            return said + list(turn.messages if turn is not None else ())

    def opening(self) -> list[str]:
        """The system messages that stand before anything else: the developer's, put into the history."""
        said = [entry.message for entry in self.session.history(limit=_OPENING)]
        if len(said) < _OPENING and (turn := self.pending()) is not None:
            said.extend(turn.messages)
        return [message.text for message in takewhile(lambda message: message.role is Role.SYSTEM, said)]

    def put(self, message: Message, *, from_stream: bool = False) -> str | None:
        """Add one message; durable when it returns.

        Args:
            message: A user's message opens a turn, an assistant's without tool calls commits it.
            from_stream: The message is the answer of a stream, which may have been left
                long ago; then it goes to the turn it answers.

        Returns:
            The id of the turn that is open now; None if none is.
        """
        with self._lock:
            turn = self.pending()
            if message.role is Role.USER:
                self._put_user(message, turn)
            elif turn is None or (from_stream and self._answers_an_earlier_turn(turn)):
                self._open_or_add([message])
            else:
                self._continue(turn, [message])
            return self._turn.id if self._turn is not None else None

    def put_all(self, messages: Sequence[Message]) -> None:
        """Add a batch: an agent's notes of one turn in one transaction, or whole exchanges."""
        if not messages:
            return
        with self._lock:
            turn = self.pending()
            if turn is not None and messages[0].role is not Role.USER:
                self._continue(turn, _steps(messages))
                return
            first, *rest = _exchanges(messages)
            if turn is not None and same(first[0], turn.messages[-1]):  # the open turn's message, again
                if first[1:]:
                    self._continue(turn, first[1:])
            else:
                self._close_unanswered()
                self._open_or_add(first)
            for exchange in rest:
                self._open_or_add(exchange)

    def replace(self, messages: Sequence[Message]) -> None:
        """Make the transcript equal to `messages`, writing only what differs from it."""
        with self._lock:
            log = [entry.message for entry in self.session.history()]
            if _starts_with(messages, log):
                rest = list(messages[len(log) :])
                turn = self.pending()
                if turn is not None and _starts_with(rest, turn.messages):
                    rest = rest[len(turn.messages) :]
                elif turn is not None:
                    turn.abort()
                self.put_all(rest)
                return
            by_hand = [c for c in self.session.constraints() if c.source == "app" and c.scope == "session"]
            self.clear()
            self.put_all(messages)
            for constraint in by_hand:
                self.session.add_constraint(constraint.text, kind=constraint.kind)

    def seed(self, messages: Sequence[Message]) -> bool:
        """Add what `messages` holds beyond the transcript; False if they are another conversation."""
        with self._lock:
            held = self.transcript()
            if _starts_with(messages, held):
                self.put_all(messages[len(held) :])
                return True
            return _starts_with(held, messages)

    def clear(self, *, keep_constraints: bool = False) -> None:
        """Forget this session's messages and what was derived from them."""
        with self._lock:
            if (turn := self.pending()) is not None:
                turn.abort()
                self._turn = None
            self.session.clear(keep_constraints=keep_constraints)

    # -- turns ----------------------------------------------------------------------------

    def _put_user(self, message: Message, turn: Turn | None) -> None:
        if turn is None or not any(same(message, one) for one in _newest_asked(turn.messages)):  # else: a retry
            self._close_unanswered()
            self._turn = self.session.begin(message)

    def _close_unanswered(self) -> None:
        """Keep what was acknowledged of a turn whose answer never came, or comes late."""
        if (turn := self.pending()) is not None:
            turn.commit()
            self._turn = None

    def _continue(self, turn: Turn, messages: Sequence[Message]) -> None:
        try:
            turn.append(*messages)
        except TurnClosed:  # another process gave it up
            self._turn = None
            self._open_or_add(messages)
            return
        if _is_answer(messages):  # a process that dies here leaves an answered turn, which `pending` commits
            turn.commit()
            self._turn = None

    def _open_or_add(self, messages: Sequence[Message]) -> None:
        if messages[-1].role is Role.SYSTEM or _is_answer(messages):
            self.session.add(*messages)
        else:
            self._turn = self.session.begin(*messages)

    def _answers_an_earlier_turn(self, turn: Turn) -> bool:
        mark = _answering.get()
        return mark is not None and mark[0]() is self and mark[1] != turn.id

    def mark_context(self, turn_id: str | None) -> None:
        """Note in the caller's context which turn the answers that come from it belong to."""
        _answering.set((ref(self), turn_id) if turn_id is not None else None)


_conversations: WeakValueDictionary[tuple[int, str, str], Conversation] = WeakValueDictionary()
_conversations_lock = threading.Lock()


def conversation(memory: Memory, session_id: str, *, owner: str) -> Conversation:
    """The conversation of this session; the same object while anyone holds it."""
    key = (id(memory), owner, session_id)
    with _conversations_lock:
        known = _conversations.get(key)
        if known is None or known.memory is not memory:
            _conversations[key] = known = Conversation(memory, session_id, owner=owner)
        return known


def _newest_asked(messages: Sequence[Message]) -> list[Message]:
    """The open turn's newest run of user messages; only calls and results, such as a handoff's, come after it."""
    asked: list[Message] = []
    for message in reversed(messages):
        if message.role is Role.USER:
            asked.append(message)
        elif asked:
            break
    return asked


def _is_answer(messages: Sequence[Message]) -> bool:
    """Whether the last message is the assistant's and asks for no tool."""
    return bool(messages) and messages[-1].role is Role.ASSISTANT and not messages[-1].tool_calls


def _steps(messages: Sequence[Message]) -> list[Message]:
    """An agent's notes, with what its code printed marked as a tool's words.

    `CodeActAgent` hands its model the result of the code in the user's role. The user did
    not say it, so it may not become a constraint; as a call and its result it stays with
    the code it belongs to. The payload keeps LlamaIndex's own form for LlamaIndex.
    """
    steps = list(messages)
    for place, message in enumerate(steps):
        before = steps[place - 1] if place else None
        if message.role is Role.USER and before is not None and before.role is Role.ASSISTANT and not before.tool_calls:
            call = ToolCall(id=f"code_{uuid4().hex[:12]}", name="execute", arguments="{}")
            steps[place - 1] = replace(with_payload(before), tool_calls=(call,))
            steps[place] = replace(with_payload(message), role=Role.TOOL, tool_call_id=call.id)
    return steps


def _exchanges(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages by turn: a new one begins where the user speaks after another speaker."""
    turns: list[list[Message]] = []
    for message in messages:
        if not turns or (message.role is Role.USER and turns[-1][-1].role is not Role.USER):
            turns.append([])
        turns[-1].append(message)
    return turns


def _starts_with(messages: Sequence[Message], first: Sequence[Message]) -> bool:
    return len(messages) >= len(first) and all(map(same, messages, first))


def same(one: Message, other: Message) -> bool:
    """Whether two deliveries are one message; what applications attach to it may differ."""
    return _said(one) == _said(other)


def _said(message: Message) -> Message:
    return replace(message, id=None, name=None, usage=None, metadata={}, payload=None)
