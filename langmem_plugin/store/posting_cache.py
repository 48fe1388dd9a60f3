"""Postings that were read before: a log only grows, so only what is new has to be read again."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from langmem_plugin.store.protocol import Postings

_EMPTY = Postings(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
_READ_ROWS = 100
"""So many postings are read in the time that a read takes by itself."""
_RECENT_BYTES = 16 * 1024 * 1024
"""For messages just written, of all sessions together; the least recently written to leave."""
_MOST_OF_THEM = 3 / 4
"""Of these bytes a session has at most so many, then its older half goes."""
_ENTRY_BYTES = 300
"""About what an entry takes beside its columns."""
_TERM_BYTES = 250
"""About what a term of messages just written takes beside its numbers."""


_Number = TypeVar("_Number", bound=np.generic)
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
    """By term a message's number and the term's count in it, one message after the other."""
    lengths: array[int] = field(default_factory=lambda: array("i"))
    """Of the messages, from the first one on."""
    bytes: int = 0

    def add(self, counts: Mapping[str, int]) -> None:
        for term, count in counts.items():
            numbers = self.terms.get(term)
            if numbers is None:
                numbers = self.terms[term] = array("i")
                self.bytes += _TERM_BYTES
            numbers.extend((self.end, count))
        self.lengths.append(sum(counts.values()))
        self.bytes += _NONE.itemsize * (2 * len(counts) + 1)
        self.end += 1

    def halve(self) -> None:
        """Let go of the older messages."""
        first = (self.first + self.end) // 2
        del self.lengths[: first - self.first]
        self.first = first
        for term, numbers in list(self.terms.items()):
            del numbers[: _place(numbers, first)]
            if not numbers:
                del self.terms[term]
        left = len(self.lengths) + sum(map(len, self.terms.values()))
        self.bytes = _TERM_BYTES * len(self.terms) + _NONE.itemsize * left

    def rows(self, term: str, after: int, upto: int) -> Rows:
        numbers = self.terms.get(term, _NONE)
        some = numbers[_place(numbers, after + 1) : _place(numbers, upto + 1)]
        out = np.empty((len(some) // 2, 3), np.int64)
        out[:, :2] = np.frombuffer(some, np.intc).reshape(-1, 2)
        out[:, 2] = np.frombuffer(self.lengths, np.intc)[out[:, 0] - self.first]
        return out


_NONE = array("i")


def _place(numbers: array[int], seq: int) -> int:
    """Where the first row of that message or a later one begins."""
    return 2 * bisect_left(range(0, len(numbers), 2), seq, key=numbers.__getitem__)


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
            if recent.bytes > _MOST_OF_THEM * _RECENT_BYTES:  # seldom, because it looks at every term
                recent.halve()
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
    """Postings with rows of (seq, count, length) behind them; what is `held` stays as it is."""
    held = held or _EMPTY
    if not len(rows):
        return held
    return Postings(
        _grown(held.seqs, rows[:, 0]),
        _grown(held.counts, rows[:, 1].astype(np.int32)),
        _grown(held.lengths, rows[:, 2].astype(np.int32)),
    )


def _grown(column: npt.NDArray[_Number], added: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """A column with more behind it, in the room that an earlier growth left there.

    A log only grows: whoever else writes to that room, from the same column, writes the same.
    """
    whole, size = _whole(column), len(column) + len(added)
    if size > len(whole):
        whole = np.empty(size + size // 4, column.dtype)
        whole[: len(column)] = column
    whole[len(column) : size] = added
    return whole[:size]


def _whole(column: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """The column with the room behind it."""
    return column.base if isinstance(column.base, np.ndarray) else column


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
    return _ENTRY_BYTES + sum(_whole(column).nbytes for column in (postings.seqs, postings.counts, postings.lengths))
