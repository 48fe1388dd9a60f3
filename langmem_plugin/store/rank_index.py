"""The keyword index of a store without tables: kept in memory, counted by `rank_bm25`, rebuilt from the log."""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rank_bm25 import BM25Plus

from langmem_plugin.store.protocol import Postings


class RankIndex:
    """What each message of a session says, by term; grows with the log.

    `rank_bm25.BM25Plus` counts the documents; its scores over them all are those that
    `recall.bm25` computes from the postings.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.upto = 0
        """The last entry that is in it."""
        self._lengths = array("q", [0])
        """Terms by seq; index 0 is unused."""
        self._seqs: dict[str, array[int]] = {}
        self._counts: dict[str, array[int]] = {}

    def extend(self, documents: Sequence[Sequence[str]]) -> None:
        """Add the messages after `upto`, each as its terms, repeated as often as it says them."""
        if not documents:
            return
        counted = BM25Plus(documents)
        for frequencies, length in zip(counted.doc_freqs, counted.doc_len, strict=True):
            self.upto += 1
            self._lengths.append(length)
            for term, count in frequencies.items():
                self._seqs.setdefault(term, array("q")).append(self.upto)
                self._counts.setdefault(term, array("q")).append(count)

    def postings(self, terms: Iterable[str]) -> dict[str, Postings]:
        """Where the terms stand; a term that stands nowhere is absent."""
        lengths = np.array(self._lengths, dtype=np.int32)
        found: dict[str, Postings] = {}
        for term in dict.fromkeys(terms):
            if term in self._seqs:
                seqs = np.array(self._seqs[term], dtype=np.int64)
                found[term] = Postings(seqs, np.array(self._counts[term], dtype=np.int32), lengths[seqs])
        return found

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return 200 * len(self._seqs) + 16 * sum(map(len, self._seqs.values())) + 8 * len(self._lengths)


class RankIndexes:
    """The indexes of the sessions that were asked last; thread-safe."""

    def __init__(self, *, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[tuple[int, int], tuple[RankIndex, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, generation: tuple[int, int]) -> RankIndex:
        """The index of a session's generation; an earlier generation's is let go of (guarantee G11)."""
        with self._lock:
            if generation not in self._held:
                for other in [other for other in self._held if other[0] == generation[0]]:
                    del self._held[other]
                self._held[generation] = (RankIndex(), 0)
            self._held.move_to_end(generation)
            return self._held[generation][0]

    def grew(self, generation: tuple[int, int]) -> None:
        """Note the index's size; those that were not asked for the longest time leave where there are too many."""
        with self._lock:
            if generation in self._held:
                index = self._held[generation][0]
                self._held[generation] = (index, index.size)
            while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._max_bytes:
                self._held.popitem(last=False)

    def forget(self, session_id: int) -> None:
        """Let go of a session's index (guarantee G11)."""
        with self._lock:
            for generation in [one for one in self._held if one[0] == session_id]:
                del self._held[generation]


def repeated(counts: Mapping[str, int] | None) -> list[str]:
    """A document of these terms, each as often as it is counted; empty for an entry without keywords."""
    return [term for term, count in (counts or {}).items() for _ in range(count)]
