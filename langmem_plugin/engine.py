"""What the sessions of one memory share, and the names they go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from langmem_plugin.config import Budget, MemoryConfig, SpendConfig
from langmem_plugin.context.request import Document, DocumentSource
from langmem_plugin.erasure import Eraser
from langmem_plugin.errors import InvalidMessage, InvalidSetting
from langmem_plugin.measures import Observers, UsageReported, observers
from langmem_plugin.messages import Message, Role, Text, Usage
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import Entry, Head, SessionKey
from langmem_plugin.spending import Ledger
from langmem_plugin.store.protocol import Store
from langmem_plugin.store.spending import Learned
from langmem_plugin.tokens import Calibration, TokenCounter
from langmem_plugin.watching import Watchers

Said: TypeAlias = Message | str
"""A message, or the text of one."""


_MAX_NAME_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What every session of a memory shares."""

    store: Store
    counter: TokenCounter
    config: MemoryConfig
    clock: Callable[[], datetime]
    recaller: Recaller
    calibration: Calibration = field(default_factory=Calibration)
    """What providers report against what is counted."""
    ledger: Ledger = field(default_factory=lambda: Ledger(SpendConfig()))
    """What sessions and owners have used."""
    note: Callable[[SessionKey, Head | None], None]
    """Tells the runner that the session changed, and where it stands now, if known; never blocks."""
    erase: Callable[[SessionKey], None]
    """Takes a cleared session out of the vector index."""
    eraser: Eraser
    """Forgets for good."""
    watchers: Watchers = field(default_factory=Watchers)
    """Who wants to know what becomes of constraints."""
    observers: Observers = field(default_factory=observers)
    """Who measures."""

    documents: DocumentSource | None = None
    """The application's own texts for each request."""

    def documents_for(self, key: SessionKey, query: str) -> tuple[Document, ...]:
        """What the application shows with a message; () if it gives nothing."""
        return () if self.documents is None else tuple(self.documents(query, owner=key.owner, session=key.session))

    def keys(self, owner: str | None, session: str | None) -> list[SessionKey]:
        """The sessions of an owner, or everybody's, oldest first; with `session` only those of that id."""
        return [key for key in self.store.keys(owner=owner) if session in (None, key.session)]

    def counted(self, entry: Entry) -> Entry:
        """The entry with its tokens as this memory's counter counts them (guarantee G1)."""
        if entry.counter == self.counter.name:
            return entry
        return replace(entry, tokens=self.counter.count_message(entry.message), counter=self.counter.name)

    def used(self, key: SessionKey, usage: Usage, *, counted: int = 0, model: str, stored: bool = False) -> None:
        """Take in what a provider reported, `stored` if a message carries it; see `Session.report_usage`."""
        self.ledger.add(key, usage, now=self.clock(), stored=stored)
        learned = self.calibration.observe(counted=counted, reported=usage.input_tokens, model=model)
        if learned is not None:
            self.store.save_learned(self.counter.name, Learned(model=model, ratio=learned.ratio, extra=learned.extra))
        if self.observers:
            self.observers.tell([UsageReported(key=key, usage=usage, model=model)])


def as_message(said: Said, role: Role) -> Message:
    """The message, or the text as a message of that role."""
    if isinstance(said, Message):
        return said
    if isinstance(said, str):
        return Message(role=role, blocks=(Text(said),))
    raise InvalidMessage(f"a message is a {type(said).__name__}", "pass a langmem_plugin Message or a text")


def check_name(field: str, value: object) -> None:
    """Ids are compared and indexed as they are, so what a database cannot hold is refused."""
    want = "use 1 to 512 characters (at most 1024 bytes), without NUL and lone surrogates"
    if not isinstance(value, str) or not 0 < len(value) <= 512 or "\0" in value:
        raise InvalidSetting(field, value if isinstance(value, str) else type(value).__name__, want)
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidSetting(field, value, want) from error
    if size > _MAX_NAME_BYTES:  # what PostgreSQL can index, two at a time
        raise InvalidSetting(field, value, want)


def session_key(session_id: str, owner: str) -> SessionKey:
    """The checked key of a session.

    Raises:
        InvalidSetting: One of the two is empty, too long or cannot be stored.
    """
    check_name("session_id", session_id)
    check_name("owner", owner)
    return SessionKey(owner, session_id)


def most_hits(budget: Budget, config: MemoryConfig) -> int:
    """How many hits recall's room can take at most; short messages have some eighteen tokens."""
    return min(config.recall.candidates, 20 + budget.tokens("recall_max") // 18)
