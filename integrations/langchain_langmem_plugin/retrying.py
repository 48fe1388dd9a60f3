"""A request that a model refused as too long is sent again, smaller (at most four requests a call)."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from langchain_langmem_plugin.convert import from_core, to_core
from langmem_plugin.context.smaller import Shrinking
from langmem_plugin.overflow import overflow_of
from langmem_plugin.session import Session
from langmem_plugin.tokens import TokenCounter


class Retrying:
    """Watches one call of a model; what it rebuilds is noted in the session's report."""

    def __init__(self, messages: Sequence[BaseMessage], *, session: Session, counter: TokenCounter) -> None:
        self._session = session
        self._counter = counter
        self._sent = list(messages)
        self._shrinking: Shrinking | None = None
        self._known: dict[int, BaseMessage] = {}

    def after(self, error: BaseException) -> list[BaseMessage] | None:
        """The messages to send instead; None if the error is another one, or nothing smaller is left."""
        overflow = overflow_of(error)
        if overflow is None:
            return None
        if self._shrinking is None:
            core = [to_core(message) for message in self._sent]
            # Messages that stay as they are go out as they were, with all that they carry.
            self._known = {id(one): message for one, message in zip(core, self._sent, strict=True)}
            self._shrinking = Shrinking(core, counter=self._counter)
        noted = len(self._shrinking.notes)
        smaller = self._shrinking.next(requested=overflow.requested, limit=overflow.limit)
        self._session.add_notes(*self._shrinking.notes[noted:])
        if smaller is None:
            return None
        return [self._known.get(id(one)) or from_core(one) for one in smaller]
