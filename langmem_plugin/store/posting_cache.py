"""Postings that were read before: a log only grows, so only what is new has to be read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from langmem_plugin.store.protocol import Postings

_EMPTY = Postings(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
_RARE = 64
"""Terms in fewer messages are read again rather than in a read of their own."""
_NEAR = 256
"""Terms read so few messages apart are read together."""
_RECENT = 128
"""Messages just written that are held of a session; up to twice as many before the oldest go."""
_RECENT_ALL = 4_096
"""Of all sessions together; the least recently written to leave."""
_ENTRY_BYTES = 300
"""About what an entry takes beside its columns."""


Rows: TypeAlias = npt.NDArray[np.int64]
"""(seq, count, length), ascending."""

Generation: TypeAlias = tuple[int, int]
"""A session's row and when something of it was last forgotten: neither comes again."""


@dataclass(slots=True)
class _Recent:
    """Messages of a session without a gap, as they were written."""

    first: int
    """The number of the first one."""
    messages: list[tuple[Mapping[str, int], int]] = field(default_factory=list)
    """Counts of its terms, and how many terms there are."""

    @property
    def end(self) -> int:
        return self.first + len(self.messages)


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
            recent.messages += [(counts, sum(counts.values())) for counts in terms]
            self._recent_held += len(terms)
            if len(recent.messages) > 2 * _RECENT:
                self._recent_held -= len(recent.messages) - _RECENT
                recent.first = recent.end - _RECENT
                del recent.messages[:-_RECENT]
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
                    later = recent.messages[after + 1 - recent.first : upto + 1 - recent.first]
                    rows = [
                        (seq, counts[term], length)
                        for seq, (counts, length) in enumerate(later, start=after + 1)
                        if term in counts
                    ]
                    found[term] = np.array(rows, np.int64).reshape(-1, 3)
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
    """Terms by how far they were read, so that few reads bring what is new and little that is known.

    Terms that were read about as far are read together, from where the least read of them
    ends: what comes twice is not much. Rare terms are all read together.
    """
    newest = max((read_to for read_to, _ in held.values()), default=0)
    groups: dict[int, list[str]] = {}
    for term, (read_to, postings) in held.items():
        rare = len(postings.seqs) < _RARE
        groups.setdefault(-1 if rare else ((newest - read_to) // _NEAR).bit_length(), []).append(term)
    reads: dict[int, list[str]] = {}
    for terms in groups.values():
        reads.setdefault(min(held[term][0] for term in terms), []).extend(terms)
    return reads


def _size(postings: Postings) -> int:
    return _ENTRY_BYTES + postings.seqs.nbytes + postings.counts.nbytes + postings.lengths.nbytes
