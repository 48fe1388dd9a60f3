"""Exact search: the product of the query with every stored vector of one session."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from langmem_plugin.errors import ModelFailed
from langmem_plugin.projections.vector_table import Seqs, Vectors, VectorTable
from langmem_plugin.records import SessionKey


@dataclass(slots=True)
class _Held:
    """One session's vectors, in arrays with room to grow."""

    seqs: Seqs
    vectors: Vectors
    count: int = 0

    @property
    def bytes(self) -> int:
        return self.seqs.nbytes + self.vectors.nbytes

    @property
    def last(self) -> int:
        return int(self.seqs[self.count - 1]) if self.count else 0

    def extend(self, seqs: Seqs, vectors: Vectors) -> _Held:
        """The same with rows added at the end; never changes rows that a reader may hold."""
        count = self.count + len(seqs)
        held = self
        if count > len(self.seqs) or self.vectors.shape[1] != vectors.shape[1]:
            room = max(count, 2 * self.count)
            held = _Held(np.zeros(room, np.int64), np.zeros((room, vectors.shape[1]), np.float32))
            if self.count:
                held.seqs[: self.count] = self.seqs[: self.count]
                held.vectors[: self.count] = self.vectors[: self.count]
        held.seqs[self.count : count] = seqs
        held.vectors[self.count : count] = vectors
        held.count = count
        return held


class ExactIndex:
    """Answers from the stored vectors themselves; always right, no files, no server.

    Sessions lately asked about are kept in memory, up to `max_bytes`; each answer
    reads what was stored since.
    """

    def __init__(self, table: VectorTable, model: str, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._table = table
        self._model = model
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[SessionKey, _Held] = OrderedDict()
        self._epoch = 0

    def count(self, key: SessionKey) -> int:
        """How many vectors of the session are in memory now."""
        with self._lock:
            held = self._held.get(key)
            return held.count if held else 0

    def search(self, key: SessionKey, vector: Vectors, *, k: int, before: int | None = None) -> tuple[Seqs, Vectors]:
        """The `k` nearest entries of the session, best first, ties by newest.

        Args:
            key: Whose entries.
            vector: The query, of unit length.
            k: At most so many.
            before: Only entries with a smaller `seq`.

        Returns:
            The entries' `seq` and cosine, -1..1.

        Raises:
            ModelFailed: The query has another length than the stored vectors.
        """
        seqs, vectors = self._current(key)
        if before is not None:
            end = int(np.searchsorted(seqs, before))
            seqs, vectors = seqs[:end], vectors[:end]
        return nearest(seqs, vectors, vector, k)

    def rows(self, key: SessionKey, seqs: Sequence[int]) -> tuple[Seqs, Vectors] | None:
        """The held vectors of these entries, `seqs` ascending; None if the session is not held."""
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            known, vectors = held.seqs[: held.count], held.vectors[: held.count]
        wanted = np.asarray(seqs, dtype=np.int64)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        places = places[known[places] == wanted]
        return known[places], vectors[places]

    def forget(self, key: SessionKey) -> None:
        """Drop what is held of a session."""
        with self._lock:
            self._epoch += 1
            self._held.pop(key, None)

    def clear(self) -> None:
        """Drop all that is held."""
        with self._lock:
            self._epoch += 1
            self._held.clear()

    @property
    def bytes(self) -> int:
        """How much memory the held vectors take."""
        with self._lock:
            return sum(held.bytes for held in self._held.values())

    def _current(self, key: SessionKey) -> tuple[Seqs, Vectors]:
        while True:
            with self._lock:
                epoch = self._epoch
                held = self._held.get(key) or _Held(np.zeros(0, np.int64), np.zeros((0, 0), np.float32))
                count, last = held.count, held.last
            seqs, vectors = self._table.vectors(key, self._model, after=last)
            with self._lock:
                if epoch != self._epoch or held.count != count or self._held.get(key, held) is not held:
                    continue  # another reader added the same rows, or they were dropped meanwhile
                if count and len(seqs) and vectors.shape[1] != held.vectors.shape[1]:
                    raise ModelFailed("embedder", "vectors of two lengths are stored under one name")
                if len(seqs):
                    held = held.extend(seqs, vectors)
                if held.count and held.bytes <= self._max_bytes:
                    self._held[key] = held
                    self._held.move_to_end(key)
                    self._make_room()
                else:
                    self._held.pop(key, None)
                return held.seqs[: held.count], held.vectors[: held.count]

    def _make_room(self) -> None:
        total = sum(held.bytes for held in self._held.values())
        while total > self._max_bytes:
            _, oldest = self._held.popitem(last=False)
            total -= oldest.bytes


def nearest(seqs: Seqs, vectors: Vectors, query: Vectors, k: int) -> tuple[Seqs, Vectors]:
    """The `k` rows with the highest cosine to the query, best first, ties by newest.

    Raises:
        ModelFailed: The query has another length than the rows.
    """
    if not len(seqs) or k <= 0:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if vectors.shape[1] != query.shape[-1]:
        raise ModelFailed(
            "embedder", f"it answered {query.shape[-1]} numbers, the stored vectors have {vectors.shape[1]}"
        )
    # Rounded: the same vector must tie with itself, whatever order the products were summed in.
    cosines = np.clip(np.round(vectors @ query.reshape(-1).astype(np.float32), 6), -1.0, 1.0)
    if k < len(seqs):
        edge = np.partition(cosines, len(cosines) - k)[len(cosines) - k]
        chosen = np.flatnonzero(cosines >= edge)  # all ties at the edge, so that the newest of them win
    else:
        chosen = np.arange(len(seqs))
    order = chosen[np.lexsort((-seqs[chosen], -cosines[chosen]))][:k]
    return seqs[order], cosines[order]
