"""Postings that were read before: a log only grows, so only what is new has to be read again."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from langmem_plugin.store.protocol import Postings

_EMPTY = Postings(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
_READ_ROWS = 100
"""So many postings are read in the time that a read takes by itself."""
_RECENT = 8_192
"""Messages just written that are held of a session; up to twice as many before the oldest go."""
_RECENT_BYTES = 16 * 1024 * 1024
"""Of all sessions together; the least recently written to leave."""
_ENTRY_BYTES = 300
"""About what an entry takes beside its columns."""
_TERM_BYTES = 250
"""About what a term of messages just written takes beside its numbers."""


Rows: TypeAlias = npt.NDArray[np.int64]
"""(seq, count, length), ascending."""

Generation: TypeAlias = tuple[int, int]
"""A session's row and when something of it was last forgotten: neither comes again."""


@dataclass(slots=True)
class _Recent:
    """Messages of a session without a gap, as they were written."""

    first: int
    """The number of the first one."""
    end: int
    """One more than the number of the last one."""
    terms: dict[str, array[int]] = field(default_factory=dict)
    """By term the numbers of `Rows`, one row after the other."""
    bytes: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        length = sum(counts.values())
        for term, count in counts.items():
            numbers = self.terms.get(term)
            if numbers is None:
                numbers = self.terms[term] = array("i")
                self.bytes += _TERM_BYTES
            numbers.extend((self.end, count, length))
        self.bytes += 3 * _NONE.itemsize * len(counts)
        self.end += 1

    def drop(self, first: int) -> None:
        """Let go of the messages before this one."""
        self.first = first
        for term, numbers in list(self.terms.items()):
            del numbers[: _place(numbers, first)]
            if not numbers:
                del self.terms[term]
        left = sum(map(len, self.terms.values()))
        self.bytes = _TERM_BYTES * len(self.terms) + _NONE.itemsize * left

    def rows(self, term: str, after: int, upto: int) -> Rows:
        numbers = self.terms.get(term, _NONE)
        some = numbers[_place(numbers, after + 1) : _place(numbers, upto + 1)]
        return np.frombuffer(some, np.intc).reshape(-1, 3).astype(np.int64)


_NONE = array("i")


def _place(numbers: array[int], seq: int) -> int:
    """Where the first row of that message or a later one begins."""
    return 3 * bisect_left(range(0, len(numbers), 3), seq, key=numbers.__getitem__)


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
        self._recent_bytes = 0
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
                recent = self._recent[generation] = _Recent(first, first)
            before = recent.bytes
            for counts in terms:
                recent.add(counts)
            if recent.end - recent.first > 2 * _RECENT:  # seldom, because it looks at every term
                recent.drop(recent.end - _RECENT)
            self._recent_bytes += recent.bytes - before
            self._recent.move_to_end(generation)
            while self._recent_bytes > _RECENT_BYTES and len(self._recent) > 1:
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
            self._recent_bytes -= held.bytes

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
