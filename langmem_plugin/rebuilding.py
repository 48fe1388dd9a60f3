"""Checking what is derived against the log, and deriving it again (guarantee G10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import FORGOTTEN
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.records import Constraint, ConstraintState, Entry, SessionKey
from langmem_plugin.stating import restated
from langmem_plugin.transfer import Progress

Part: TypeAlias = Literal["log", "keywords", "constraints", "summaries"]
"""What can differ: the log's own numbers, and what is derived from it."""

DERIVED: Final[tuple[Part, ...]] = get_args(Part)[1:]
"""What can be derived again."""

_BATCH = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Something in a session that is not what the log says; holds no message text."""

    owner: str
    session: str
    part: Part
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked, and what differs."""

    sessions: int
    messages: int
    differences: tuple[Difference, ...] = ()

    @property
    def sound(self) -> bool:
        """True if nothing differs."""
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What was derived again."""

    sessions: int
    messages: int
    """Messages that were read for it."""
    keywords: int = 0
    """Messages whose keywords were not what they are now."""
    constraints: int = 0
    """Constraints that were missing."""
    summaries: int = 0
    """Summaries that were dropped; they are written anew behind."""


def verify(engine: Engine, keys: Iterable[SessionKey], *, progress: Progress | None = None) -> Verified:
    """See `Memory.verify`."""
    sessions = messages = 0
    found: list[Difference] = []
    for key in keys:
        sessions += 1
        with engine.store.reading():
            for part, what in _differences(engine, key):
                found.append(Difference(owner=key.owner, session=key.session, part=part, what=what))
            messages += engine.store.head(key).last_seq
        if progress is not None:
            progress(messages)
    return Verified(sessions=sessions, messages=messages, differences=tuple(found))


def rebuild(
    engine: Engine, keys: Iterable[SessionKey], parts: Sequence[str], *, progress: Progress | None = None
) -> Rebuilt:
    """See `Memory.rebuild`."""
    for part in parts:
        if part not in DERIVED:
            raise InvalidSetting("parts", part, f"use some of {', '.join(DERIVED)}")
    done = Rebuilt(sessions=0, messages=0)
    for key in keys:
        keywords = constraints = summaries = 0
        if "keywords" in parts:
            for entries in _log(engine, key):
                keywords += _rebuild_keywords(engine, key, entries)
                if progress is not None:
                    progress(done.messages + entries[-1].seq)
        if "constraints" in parts:
            lost = _as_they_stood(engine, key, _missing(engine, key))
            constraints = engine.store.restore_constraints(key, lost, now=engine.clock())
        if "summaries" in parts:
            summaries = engine.store.drop_summaries(key, now=engine.clock())
        read = engine.store.head(key).last_seq
        done = Rebuilt(
            sessions=done.sessions + 1,
            messages=done.messages + read,
            keywords=done.keywords + keywords,
            constraints=done.constraints + constraints,
            summaries=done.summaries + summaries,
        )
        if progress is not None:
            progress(done.messages)
    return done


def _log(engine: Engine, key: SessionKey) -> Iterator[list[Entry]]:
    after, upto = 0, engine.store.head(key).last_seq
    while entries := engine.store.entries(key, after=after, upto=upto, limit=_BATCH):
        yield entries
        after = entries[-1].seq


def _rebuild_keywords(engine: Engine, key: SessionKey, entries: Sequence[Entry]) -> int:
    """Derive the keywords of some messages again; gives how many of them had others."""
    wanted = _terms(engine, entries)
    held = engine.store.keywords(key, after=entries[0].seq - 1, upto=entries[-1].seq)
    wrong = {seq: terms for seq, terms in wanted.items() if held.get(seq, {}) != terms}
    engine.store.replace_keywords(key, wrong)
    return len(wrong)


def _terms(engine: Engine, entries: Sequence[Entry]) -> dict[int, dict[str, int]]:
    language = engine.config.recall.language
    return {
        entry.seq: {} if _is_tombstone(entry) else dict(message_terms(entry.message, language=language))
        for entry in entries
    }


def _is_tombstone(entry: Entry) -> bool:
    return entry.counter == "" and entry.message.text == FORGOTTEN


def _differences(engine: Engine, key: SessionKey) -> Iterator[tuple[Part, str]]:
    store = engine.store
    head, stats = store.head(key), store.keyword_stats(key)
    spans: dict[int, list[Constraint]] = {}
    for constraint in store.constraints(key):
        if constraint.session == key.session and constraint.seq is not None:
            spans.setdefault(constraint.seq, []).append(constraint)
    last = other = terms = altered = 0
    for entries in _log(engine, key):
        upto = entries[-1].seq
        if [entry.seq for entry in entries] != list(range(last + 1, upto + 1)):
            yield "log", f"numbers are missing between {last + 1} and {upto}"
        wanted, kept = _terms(engine, entries), store.keywords(key, after=last, upto=upto)
        other += sum(kept.get(seq, {}) != counts for seq, counts in wanted.items())
        terms += sum(sum(counts.values()) for counts in wanted.values())
        altered += sum(
            entry.message.text[one.start : one.end] != one.text for entry in entries for one in spans.get(entry.seq, ())
        )
        last = upto
    counted = (stats.documents, stats.length) == (last, terms)
    wrong: list[tuple[Part, bool, str]] = [
        ("log", last != head.last_seq, f"it ends at {last}, and should at {head.last_seq}"),
        ("keywords", other > 0, f"of {other} messages they are not what is derived now"),
        ("keywords", not other and not counted, f"{stats.length} terms are noted, and {terms} are there"),
        ("constraints", altered > 0, f"{altered} are not the words of their message"),
    ]
    yield from ((part, what) for part, holds, what in wrong if holds)
    if missing := len(_missing(engine, key)):
        yield "constraints", f"{missing} that the rules find are not kept"
    summary = store.summaries(key)[1]
    if summary is not None and summary.upto_seq > head.last_seq:
        yield "summaries", f"the newest one reaches {summary.upto_seq}, the log {head.last_seq}"


def _missing(engine: Engine, key: SessionKey) -> list[Constraint]:
    """Constraints that the rules find in the log and that are not kept."""
    store = engine.store
    if not engine.config.constraints.enabled:
        return []
    kept = {(one.seq, one.start, one.end) for one in store.constraints(key) if one.session == key.session}
    versions = {commit.turn: commit.version for commit in store.past(key).commits}
    entries = (entry for batch in _log(engine, key) for entry in batch)
    turns = ((versions.get(turn, 0), list(said)) for turn, said in groupby(entries, attrgetter("turn")))
    return [one for one in restated(engine, key, turns) if (one.seq, one.start, one.end) not in kept]


def _as_they_stood(engine: Engine, key: SessionKey, lost: Sequence[Constraint]) -> list[Constraint]:
    """Lost constraints in the state that the trails of the owner's sessions tell of last."""
    if not lost:
        return []
    last = {
        event.ref: event.detail
        for other in engine.store.keys(owner=key.owner)
        for event in engine.store.events(other)
        if event.kind == "constraint"
    }
    return [replace(one, state=ConstraintState(last.get(one.id, one.state))) for one in lost]


class Rebuilding:
    """The part of a memory that checks and derives again."""

    _engine: Engine
    _vectors: VectorIndex | None

    if TYPE_CHECKING:

        def _let_go(self, key: SessionKey) -> None:
            """Clear what is held in memory of a session."""
            ...

    def verify(
        self, *, owner: str | None = None, session: str | None = None, progress: Progress | None = None
    ) -> Verified:
        """Compare what is derived with the log: numbers, keywords, constraints, summaries. Changes nothing.

        The vector index looks after itself; see `status`. Analysing every message again takes about
        a millisecond each.

        Args:
            owner: Whose sessions; everybody's if not given.
            session: One session of that owner.
            progress: Called with how many messages are done.
        """
        return verify(self._engine, self._keys(owner, session), progress=progress)

    def rebuild(
        self,
        *parts: Part,
        owner: str | None = None,
        session: str | None = None,
        progress: Progress | None = None,
    ) -> Rebuilt:
        """Derive keywords, constraints or summaries from the log again; all three if none is named.

        Keywords become what `recall.language` and this release make of each message. Constraints that
        the rules find and that are not kept come back as they stood last; those that are kept stay as
        they are, and what the application or a model added is not found by rules. Summaries are
        dropped and written anew behind, so requests of earlier versions are then built without them.
        Other processes that have the memory open should open it again after a rebuild of keywords.

        Args:
            parts: What to derive again.
            owner: Whose sessions; everybody's if not given.
            session: One session of that owner.
            progress: Called with how many messages are done.

        Raises:
            InvalidSetting: There is no such part.
        """
        keys = self._keys(owner, session)
        rebuilt = rebuild(self._engine, keys, parts or DERIVED, progress=progress)
        for key in keys:
            self._let_go(key)
        return rebuilt

    def rebuild_vectors(self, progress: Callable[[int, int], object] | None = None) -> None:
        """Build the vector index anew from the stored vectors; nothing to do without one.

        Args:
            progress: Called with how many vectors are in, and of how many.

        Raises:
            StoreUnavailable: Chroma failed; recall goes on by exact search over the stored vectors.
        """
        if self._vectors is not None:
            self._vectors.rebuild(progress)

    def _keys(self, owner: str | None, session: str | None) -> list[SessionKey]:
        if session is not None and owner is None:
            raise InvalidSetting("owner", owner, "name the owner of the session")
        return self._engine.keys(owner, session)
