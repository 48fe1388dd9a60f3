"""A session held in lists and arrays: what recall reads from when only recall is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.recall.sources import KeywordStats, Postings
from langmem_plugin.records import Entry, SessionKey


class ListIndex:
    """Keyword index, log and exact vector search of any number of sessions, in memory."""

    def __init__(self, *, language: str = "auto") -> None:
        self._language = language
        self._entries: dict[SessionKey, dict[int, Entry]] = {}
        self._postings: dict[SessionKey, dict[str, list[tuple[int, int, int]]]] = {}
        self._length: dict[SessionKey, int] = {}
        self._vectors: dict[SessionKey, tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = {}

    def add(self, key: SessionKey, entries: Sequence[Entry]) -> None:
        """Put entries into a session; their seqs must ascend beyond what it holds."""
        log = self._entries.setdefault(key, {})
        index = self._postings.setdefault(key, {})
        for entry in entries:
            log[entry.seq] = entry
            counts = message_terms(entry.message, language=self._language)
            length = sum(counts.values())
            self._length[key] = self._length.get(key, 0) + length
            for term, count in counts.items():
                index.setdefault(term, []).append((entry.seq, count, length))

    def set_vectors(self, key: SessionKey, seqs: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]) -> None:
        """The vectors of a session's messages, one row a seq, of unit length."""
        self._vectors[key] = (seqs, vectors)

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        """The session's figures for BM25."""
        return KeywordStats(documents=len(self._entries.get(key, ())), length=self._length.get(key, 0))

    def postings(self, key: SessionKey, terms: Sequence[str]) -> Mapping[str, Postings]:
        """The postings of the terms that stand somewhere."""
        index = self._postings.get(key, {})
        found: dict[str, Postings] = {}
        for term in dict.fromkeys(terms):
            if rows := index.get(term):
                seqs, counts, lengths = zip(*rows, strict=True)
                found[term] = Postings(
                    np.array(seqs, dtype=np.int64), np.array(counts, dtype=np.int32), np.array(lengths, dtype=np.int32)
                )
        return found

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        """The entries with these numbers, ascending."""
        log = self._entries.get(key, {})
        return [log[seq] for seq in sorted(set(seqs)) if seq in log]

    def search(
        self, key: SessionKey, vector: npt.NDArray[np.float32], *, k: int, before: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The nearest messages by exact cosine, best first."""
        seqs, vectors = self._vectors.get(key, (np.zeros(0, np.int64), np.zeros((0, len(vector)), np.float32)))
        if before is not None:
            seqs, vectors = seqs[seqs < before], vectors[seqs < before]
        cosines = vectors @ vector
        order = np.argsort(-cosines, kind="stable")[:k]
        return seqs[order], cosines[order].astype(np.float32)

    def rows(self, key: SessionKey, seqs: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The vectors of these messages, ascending."""
        known, vectors = self._vectors.get(key, (np.zeros(0, np.int64), np.zeros((0, 0), np.float32)))
        here = np.isin(known, np.asarray(seqs, dtype=np.int64))
        return known[here], vectors[here]
