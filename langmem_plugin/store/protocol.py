"""What a backend must do; one protocol, and the values that cross it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from langmem_plugin.messages import Message
from langmem_plugin.records import (
    Attachment,
    Constraint,
    ConstraintKind,
    ConstraintState,
    Entry,
    Event,
    Head,
    SessionKey,
    Summary,
    Uncovered,
)
from langmem_plugin.store.claims import WorkStore
from langmem_plugin.store.keeping import Keeps
from langmem_plugin.store.place import Place
from langmem_plugin.store.rebuilding import Rebuilds
from langmem_plugin.store.sealing import Seals
from langmem_plugin.store.spending import SpendStore

TurnState: TypeAlias = Literal["pending", "committed", "aborted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A message of a turn that is not committed yet."""

    message: Message
    tokens: int
    counter: str
    """What counted them."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTurn:
    """An open turn as the store holds it."""

    turn_id: str
    staged: tuple[Staged, ...]
    started_at: datetime
    holder: str | None = None
    """The process that has it open."""
    held_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConstraint:
    """A constraint that a rule found in a message of the turn being committed."""

    id: str
    kind: ConstraintKind
    state: ConstraintState
    scope: Literal["session", "owner"]
    text: str
    position: int
    """Of the message within the turn, from 0."""
    start: int
    end: int
    confidence: float
    expires_in: timedelta | None = None

    def said(self, *, seq: int, at: datetime, version: int, session: str = "") -> Constraint:
        """The constraint, once its message is the log's entry `seq`, said at `at`."""
        return Constraint(
            id=self.id,
            kind=self.kind,
            text=self.text,
            state=self.state,
            scope=self.scope,
            source="rule",
            session=session,
            seq=seq,
            start=self.start,
            end=self.end,
            confidence=self.confidence,
            created_version=version,
            created_at=at,
            expires_at=None if self.expires_in is None else at + self.expires_in,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedConstraint:
    """An active constraint that a message of the turn revokes or replaces."""

    id: str
    state: ConstraintState
    superseded_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnWrite:
    """All that one committed turn changes, in one transaction."""

    staged: tuple[Staged, ...]
    terms: tuple[Mapping[str, int], ...]
    """Keyword counts, one mapping a message; empty for a message without words."""
    attachment: Attachment | None = None
    attached_to: int = 0
    """Position within the turn of the message that the attachment stands before."""
    history_tokens: int = 0
    """What the request had for history; 0 keeps what the session knows."""
    constraints: tuple[NewConstraint, ...] = ()
    ended: tuple[EndedConstraint, ...] = ()
    expected_version: int | None = None
    """Refuse if anybody changed the session since; summaries, which are made behind, do not count."""
    begun: bool = False
    """The turn was staged before; if the store does not know it, it was forgotten."""


@dataclass(frozen=True, slots=True)
class Postings:
    """Where one term stands in a session, ascending by seq."""

    seqs: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    """Terms of each of those messages."""


@dataclass(frozen=True, slots=True)
class KeywordStats:
    """What the keyword index holds of a session."""

    documents: int
    length: int
    """Terms of all messages together."""
    generation: tuple[int, ...] = ()
    """Changes when the session, or a message of it, was forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A session at one version, read in one transaction."""

    head: Head
    generation: tuple[int, int]
    """Changes when the session, or a message of it, was forgotten."""
    constraints: tuple[Constraint, ...]
    summary: Summary | None
    entries: tuple[Entry, ...] = field(default=())
    """Committed entries after the later of `after` and the summary."""
    moment: datetime | None = None
    """Of an earlier version: when it was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """When a turn became part of the session."""

    version: int
    """The version that it made."""
    turn: str
    first_seq: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How a session came to be what it is, without its messages and constraints."""

    commits: tuple[Commit, ...] = ()
    """By version, ascending."""
    summaries: tuple[Summary, ...] = ()
    """Every summary that was ever saved, by version, ascending."""


class Store(Keeps, Rebuilds, Seals, SpendStore, WorkStore, Protocol):
    """Durable, isolated by owner and session; every method is thread-safe.

    A method that writes is one transaction: when it returns, its effect survives a
    killed process and a power cut; when it raises, nothing of it stands.
    """

    @property
    def database(self) -> Place:
        """The database below."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Have this thread's reads inside see one state, where the backend can; writes are as ever."""
        ...

    def alone(self, key: SessionKey) -> AbstractContextManager[bool]:
        """True inside if no other process works behind on that session, as far as this backend can tell."""
        ...

    def head(self, key: SessionKey) -> Head:
        """Where the session stands; version 0 if nobody wrote to it."""
        ...

    def snapshot(self, key: SessionKey, *, after: int = 0, now: datetime) -> Snapshot:
        """What assembly needs, at one version."""
        ...

    def past(self, key: SessionKey) -> Past:
        """Every commit and every summary of the session; empty for one that nobody wrote to."""
        ...

    def snapshot_at(self, key: SessionKey, version: int, *, moment: datetime | None = None) -> Snapshot | None:
        """What assembly needed at an earlier version; None if there is no such version.

        Args:
            key: The session.
            version: One it had.
            moment: When it was read, for what expired and for the owner's other sessions; when
                the version was made, if not given.
        """
        ...

    def keyword_stats_at(self, key: SessionKey, last_seq: int) -> KeywordStats:
        """Sizes of the session's index when its log ended at `last_seq`."""
        ...

    def events(self, key: SessionKey, *, after: int = 0) -> list[Event]:
        """Every change with a version > `after`, in order."""
        ...

    def fork(self, key: SessionKey, to: SessionKey, version: int, *, now: datetime) -> Head:
        """Copy a session as it was at a version into a new one of the same owner, which goes on from there.

        Raises:
            VersionConflict: The new one has a version already, or the old one never had that one.
        """
        ...

    def keys(self, *, owner: str | None = None) -> list[SessionKey]:
        """Every session, or every one of an owner, oldest first."""
        ...

    # Turns

    def stage(self, key: SessionKey, turn_id: str, staged: Sequence[Staged], *, position: int, now: datetime) -> None:
        """Keep messages of a pending turn, from `position` on; begins the turn if it is new.

        Raises:
            TurnClosed: The turn was committed.
            VersionConflict: Another writer staged a message at that position.
        """
        ...

    def pending(self, key: SessionKey) -> list[PendingTurn]:
        """The open turns, oldest first."""
        ...

    def turn_state(self, key: SessionKey, turn_id: str) -> TurnState | None:
        """The turn's state; None if there never was such a turn."""
        ...

    def commit(self, key: SessionKey, turn_id: str, write: TurnWrite, *, now: datetime) -> Head:
        """Append the turn to the log with all that follows from it; a committed turn changes nothing.

        Raises:
            TurnClosed: The turn was begun before and then forgotten with its session.
            VersionConflict: The session is not at `expected_version` any more.
        """
        ...

    def abort(self, key: SessionKey, turn_id: str, *, now: datetime) -> None:
        """Drop the turn's staged messages; does nothing to a committed or unknown turn."""
        ...

    # The log

    def entries(
        self, key: SessionKey, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Committed entries with after < seq <= upto, ascending, at most `limit`."""
        ...

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        """The entries with these numbers, ascending; absent ones are left out."""
        ...

    def find(self, key: SessionKey, message_ids: Iterable[str]) -> dict[str, str]:
        """Which of the framework's message ids are kept: id -> turn id, committed or pending."""
        ...

    # Keyword index

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        """Sizes of the session's index."""
        ...

    def postings(self, key: SessionKey, terms: Sequence[str]) -> dict[str, Postings]:
        """Where the terms stand; a term that stands nowhere is absent."""
        ...

    # Constraints

    def constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """Every constraint of the session and of its owner, in any state, in creation order."""
        ...

    def active_constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """Those that every request must carry, in creation order."""
        ...

    def add_constraint(self, key: SessionKey, constraint: Constraint) -> Constraint:
        """Keep a constraint; its `created_version` is the version this makes."""
        ...

    def end_constraint(
        self,
        key: SessionKey,
        constraint_id: str,
        state: ConstraintState,
        *,
        by: str | None = None,
        now: datetime | None = None,
    ) -> Constraint:
        """Change the state of an active or proposed constraint; one that has that state stays as it is.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        ...

    def replace_constraint(self, key: SessionKey, constraint_id: str, new: Constraint) -> tuple[Constraint, Constraint]:
        """Keep a new one and supersede the old one by it, at once; gives the old and the new.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        ...

    def mark_constraint(
        self, key: SessionKey, constraint_id: str, *, pinned: bool | None = None, display: str | None = None
    ) -> Constraint:
        """Set what is given, leave the rest.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        ...

    def shares_constraints(self, key: SessionKey) -> bool:
        """Whether the owner's constraints hold in this session; True for a new one."""
        ...

    def share_constraints(self, key: SessionKey, *, shared: bool, now: datetime) -> None:
        """Let the owner's constraints hold in this session, or not."""
        ...

    def refined_upto(self, key: SessionKey) -> int:
        """The last entry in which a model looked for constraints; 0 if none."""
        ...

    def save_refined(
        self, key: SessionKey, *, after: int, upto: int, new: Sequence[Constraint], read_at: int
    ) -> tuple[Constraint, ...] | None:
        """Keep what a model found in the entries after `after` up to `upto`, with the position, at once.

        Returns:
            The constraints that are new; None, and nothing is kept, if the position is not `after`
            any more, or something was forgotten after version `read_at`.
        """
        ...

    # Summaries

    def summaries(self, key: SessionKey) -> tuple[Summary | None, Summary | None]:
        """The newest by a model, and the newest of any method (the one that is shown)."""
        ...

    def uncovered(self, key: SessionKey) -> Uncovered | None:
        """How much of the session the summary shown does not cover; None for one that nobody wrote to."""
        ...

    def save_summary(self, key: SessionKey, summary: Summary, *, expected: Summary | None) -> bool:
        """Keep a summary if the shown one is still `expected`; False if it is not.

        False too if something was forgotten after `summary.created_version`, the version at which
        its making began: it may hold what is gone.
        """
        ...

    # Vectors

    def unembedded(self, key: SessionKey, model: str, *, limit: int) -> list[Entry]:
        """Committed entries without a vector of this model, ascending."""
        ...

    def save_vectors(self, key: SessionKey, model: str, seqs: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
        """Keep vectors, one row a seq; one that is there stays, one for a forgotten entry is dropped."""
        ...

    def skip_vectors(self, key: SessionKey, model: str, seqs: Sequence[int]) -> None:
        """Note that these entries get no vector."""
        ...

    def vectors(
        self, key: SessionKey, model: str, *, after: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Kept vectors with seq > after: numbers ascending, and one row each (0 columns if there are none)."""
        ...

    def vectors_of(
        self, key: SessionKey, model: str, seqs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The kept vectors of these entries, ascending; those without one are left out."""
        ...

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """Vectors of this model, of one session or of all."""
        ...

    def vector_keys(self, model: str) -> list[SessionKey]:
        """Sessions that have vectors of this model."""
        ...

    def close(self) -> None:
        """Give the connections back; every later call raises `StoreClosed`."""
        ...
