"""What a backend must do to keep sessions for a time, to list them and to forget them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from langmem_plugin.records import AccessKey, OwnerInfo, SessionInfo, SessionKey, SessionQuery
from langmem_plugin.store.scan import Needles


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What one transaction forgot: for the receipt and the scan, never for a log."""

    keys: tuple[SessionKey, ...] = ()
    versions: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    """The text of each message."""
    strings: tuple[str, ...] = ()
    """Every text that the rows held: of messages, constraints, summaries, recalled blocks."""
    terms: tuple[str, ...] = ()
    """Keywords that no remaining message has."""
    vectors: tuple[bytes, ...] = ()
    vectors_left: bool = False
    """Vectors of sessions that ended earlier, in a write, may still be in an index."""


class Keeps(Protocol):
    """The part of `Store` that is about how long, for whom, and no more."""

    def set_ttl(self, key: SessionKey, ttl: timedelta | None, *, now: datetime) -> None:
        """Let the session end so long after each write, this one included; None: never. Makes it if there is none.

        A session whose time is over reads as one that nobody wrote to, before it is swept as
        well, and begins anew with the next write. Time is the store's clock's; nothing but what
        people and applications write prolongs it: neither reading nor what is made behind. An id
        that begins anew, after its end or after it was forgotten, has the time that it had.
        """
        ...

    def erase_expired(self, *, now: datetime, limit: int) -> Erased:
        """Delete at most `limit` sessions whose time is over, longest over first, as `erase` does; and expired keys.

        One that is written to meanwhile stays. No keys if there is none. Its terms may be such
        that other messages have as well.
        """
        ...

    def session_infos(self, query: SessionQuery) -> list[SessionInfo]:
        """The sessions that a query means, in its order."""
        ...

    def owner_infos(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> list[OwnerInfo]:
        """Who has sessions or constraints here, by name in the order of code points."""
        ...

    def holding(self, *, owner: str, terms: Sequence[str]) -> list[SessionKey]:
        """The owner's sessions in which at least one of the terms stands, oldest first."""
        ...

    def add_key(self, access: AccessKey) -> None:
        """Keep a key; one with this id is there already: nothing changes."""
        ...

    def key_of(self, id: str) -> AccessKey | None:
        """The key with this public part, expired or not; None if it was never issued or was revoked."""
        ...

    def access_keys(self, *, owner: str, session: str | None = None) -> list[AccessKey]:
        """An owner's keys, or those of one session alone, in the order of issue."""
        ...

    def end_keys(self, *, owner: str, session: str | None = None, id: str | None = None) -> int:
        """Delete an owner's keys, or one session's, or that one of them; gives how many. `erase` deletes them, too."""
        ...

    def forget(self, key: SessionKey, *, keep_constraints: bool = False) -> None:
        """Delete the session's log and all that came of it."""
        ...

    def erase(self, *, owner: str, session: str | None = None, now: datetime) -> Erased:
        """Delete a session, or all of an owner's, with everything that came of them; tombstones stay."""
        ...

    def erase_messages(self, key: SessionKey, seqs: Sequence[int], *, now: datetime) -> Erased:
        """Put tombstones in the place of entries, and delete what came of them.

        Summaries that saw one go, and recalled blocks that quote one; constraints said in one; its
        keywords and vectors.
        """
        ...

    def seqs_of(self, key: SessionKey, message: str | int, *, whole_turn: bool = False) -> list[int]:
        """The entries that a message's id or number means, with the others of its turn if wanted; [] if none."""
        ...

    def said_in_rows(self, needles: Needles) -> set[bytes]:
        """Those of the byte strings that stand in what remains."""
        ...
