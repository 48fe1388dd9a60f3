"""Postings that were read before: a log only grows, so only what is new has to be read again."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from langmem_plugin.store.protocol import Postings

_EMPTY = Postings(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
_READ_ROWS = 100
"""So many postings are read in the time that a read takes by itself."""
_RECENT = 1_024
"""Messages just written that are held of a session."""
_RECENT_ALL = 4_096
"""Of all sessions together; the least recently written to leave."""
_ENTRY_BYTES = 300
"""About what an entry takes beside its columns."""


Rows: TypeAlias = npt.NDArray[np.int64]
"""(seq, count, length), ascending."""

Generation: TypeAlias = tuple[int, int]
"""A session's row and when something of it was last forgotten: neither comes again."""


@dataclass(slots=True)
class _Term:
    """Where a term stands in the messages that are held."""

    name: str
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    """As of `Rows`."""


@dataclass(slots=True)
class _Recent:
    """Messages of a session without a gap, as they were written."""

    first: int
    """The number of the first one."""
    messages: deque[list[_Term]] = field(default_factory=deque)
    """The terms of each."""
    terms: dict[str, _Term] = field(default_factory=dict)
    """By name."""

    @property
    def end(self) -> int:
        return self.first + len(self.messages)

    def add(self, counts: Mapping[str, int]) -> None:
        seq, length, said = self.end, sum(counts.values()), []
        for name, count in counts.items():
            term = self.terms.get(name)
            if term is None:
                term = self.terms[name] = _Term(name)
            term.rows.append((seq, count, length))
            said.append(term)
        self.messages.append(said)

    def drop_first(self) -> None:
        for term in self.messages.popleft():
            del term.rows[0]
            if not term.rows:
                del self.terms[term.name]
        self.first += 1

    def rows(self, name: str, after: int, upto: int) -> Rows:
        term = self.terms.get(name)
        if term is None:
            return np.empty((0, 3), np.int64)
        start, end = (bisect_right(term.rows, seq, key=itemgetter(0)) for seq in (after, upto))
        return np.array(term.rows[start:end], np.int64).reshape(-1, 3)


class PostingCache:
    """Terms' postings by session, with how far in the log each was read; the least recently used leave.

    What this process writes is held for a while, so that to bring postings up to date
    reads nothing; what others wrote leaves a gap, and is read. Thread-safe.
    """

    def __init__(self, *, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[Generation, str], tuple[int, Postings]] = OrderedDict()
        self._recent: OrderedDict[Generation, _Recent] = OrderedDict()
        self._recent_held = 0
        """Messages in all of them."""
        self._lock = threading.Lock()

    def get(self, generation: Generation, terms: Iterable[str]) -> dict[str, tuple[int, Postings]]:
        """What is held of these terms: how far it was read, and the postings up to there."""
        found = {}
        with self._lock:
            for term in terms:
                held = self._entries.get((generation, term))
                if held is not None:
                    self._entries.move_to_end((generation, term))
                    found[term] = held
        return found

    def put(self, generation: Generation, upto: int, postings: Mapping[str, Postings]) -> None:
        """Hold terms' postings, complete up to the entry `upto`."""
        with self._lock:
            for term, one in postings.items():
                self._drop((generation, term))
                self._entries[generation, term] = (upto, one)
                self._bytes += _size(one)
            while self._bytes > self._max_bytes and self._entries:
                self._drop(next(iter(self._entries)))

    def wrote(self, generation: Generation, first: int, terms: Sequence[Mapping[str, int]]) -> None:
        """Hold the terms of messages that were just committed; `first` is the number of the first one."""
        with self._lock:
            recent = self._recent.get(generation)
            if recent is None or recent.end != first:
                self._drop_recent(generation)
                recent = self._recent[generation] = _Recent(first)
            before = len(recent.messages)
            for counts in terms:
                recent.add(counts)
            while len(recent.messages) > _RECENT:
                recent.drop_first()
            self._recent_held += len(recent.messages) - before
            self._recent.move_to_end(generation)
            while self._recent_held > _RECENT_ALL and len(self._recent) > 1:
                self._drop_recent(next(iter(self._recent)))

    def newer(self, generation: Generation, read_to: Mapping[str, int], upto: int) -> dict[str, Rows]:
        """What was written after each term was read, up to `upto`; without terms of which that is not held."""
        found: dict[str, Rows] = {}
        with self._lock:
            recent = self._recent.get(generation)
            if recent is None or recent.end <= upto:
                return found
            for term, after in read_to.items():
                if after + 1 >= recent.first:
                    found[term] = recent.rows(term, after, upto)
        return found

    def forget(self, session_id: int) -> None:
        """Let go of a session's postings (guarantee G11)."""
        with self._lock:
            for key in [key for key in self._entries if key[0][0] == session_id]:
                self._drop(key)
            for generation in [one for one in self._recent if one[0] == session_id]:
                self._drop_recent(generation)

    def _drop_recent(self, generation: Generation) -> None:
        held = self._recent.pop(generation, None)
        if held is not None:
            self._recent_held -= len(held.messages)

    def _drop(self, key: tuple[Generation, str]) -> None:
        held = self._entries.pop(key, None)
        if held is not None:
            self._bytes -= _size(held[1])


def extended(held: Postings | None, rows: Rows) -> Postings:
    """Postings with rows of (seq, count, length) behind them; columns are copied, never changed."""
    held = held or _EMPTY
    if not len(rows):
        return held
    return Postings(
        np.concatenate([held.seqs, rows[:, 0]]),
        np.concatenate([held.counts, rows[:, 1].astype(np.int32)]),
        np.concatenate([held.lengths, rows[:, 2].astype(np.int32)]),
    )


def by_what_was_read(held: Mapping[str, tuple[int, Postings]]) -> dict[int, list[str]]:
    """Terms by the message after which to read them, so that few reads bring what is new and little that is known.

    What is read of a term again, because one beside it was read less far, is reckoned from
    how many messages hold it: so many rows cost as much as a read of its own.
    """
    newest = max((read_to for read_to, _ in held.values()), default=0)
    reads: dict[int, list[str]] = {}
    after, again = 0, float(_READ_ROWS)
    for term, (read_to, postings) in sorted(held.items(), key=lambda one: one[1][0]):
        again += len(postings.seqs) * (read_to - after) / max(1, newest)
        if again >= _READ_ROWS:
            after, again = read_to, 0.0
        reads.setdefault(after, []).append(term)
    return reads


def _size(postings: Postings) -> int:
    return _ENTRY_BYTES + postings.seqs.nbytes + postings.counts.nbytes + postings.lengths.nbytes
