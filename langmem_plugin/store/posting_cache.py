"""Postings that were read before: a log only grows, so only what is new has to be read again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

import numpy as np

from langmem_plugin.store.protocol import Postings

_EMPTY = Postings(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))
_RARE = 64
"""Terms in fewer messages are read again rather than in a read of their own."""
_NEAR = 256
"""Terms read so few messages apart are read together."""
_ENTRY_BYTES = 300
"""About what an entry takes beside its columns."""


class PostingCache:
    """Terms' postings by session, with how far in the log each was read; the least recently used leave.

    Thread-safe. A session is known by its row's number, which a session that was forgotten
    and begun anew does not have again.
    """

    def __init__(self, *, max_bytes: int = 32 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[tuple[int, str], tuple[int, Postings]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, session_id: int, terms: Iterable[str]) -> dict[str, tuple[int, Postings]]:
        """What is held of these terms: how far it was read, and the postings up to there."""
        found = {}
        with self._lock:
            for term in terms:
                held = self._entries.get((session_id, term))
                if held is not None:
                    self._entries.move_to_end((session_id, term))
                    found[term] = held
        return found

    def put(self, session_id: int, upto: int, postings: Mapping[str, Postings]) -> None:
        """Hold terms' postings, complete up to the entry `upto`."""
        with self._lock:
            for term, one in postings.items():
                self._drop((session_id, term))
                self._entries[session_id, term] = (upto, one)
                self._bytes += _size(one)
            while self._bytes > self._max_bytes and self._entries:
                self._drop(next(iter(self._entries)))

    def forget(self, session_id: int) -> None:
        """Let go of a session's postings (guarantee G11)."""
        with self._lock:
            for key in [key for key in self._entries if key[0] == session_id]:
                self._drop(key)

    def _drop(self, key: tuple[int, str]) -> None:
        held = self._entries.pop(key, None)
        if held is not None:
            self._bytes -= _size(held[1])


def extended(held: Postings | None, rows: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Postings:
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
