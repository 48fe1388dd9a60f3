"""A `VectorTable` in memory: an honest one for tests, beside the databases' own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from langmem_plugin.messages import Message
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import Entry, SessionKey


class MemoryVectorTable:
    """Log entries and their vectors in dicts; thread-safe; gone with the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._log: dict[SessionKey, list[Entry]] = {}
        self._rows: dict[tuple[str, SessionKey], dict[int, Vectors | None]] = {}

    def commit(self, key: SessionKey, *messages: Message) -> None:
        """Append messages to the session's log, each as a turn of its own."""
        with self._lock:
            log = self._log.setdefault(key, [])
            for message in messages:
                seq = len(log) + 1
                log.append(Entry(seq=seq, turn=str(seq), message=message, tokens=1, created_at=datetime.now(UTC)))

    def forget(self, key: SessionKey) -> None:
        """Remove the session with its vectors."""
        with self._lock:
            self._log.pop(key, None)
            for model, of in list(self._rows):
                if of == key:
                    del self._rows[model, of]

    def unembedded(self, key: SessionKey, model: str, *, limit: int) -> list[Entry]:
        """Committed entries with no row of this model, ascending."""
        with self._lock:
            rows = self._rows.get((model, key), {})
            return [entry for entry in self._log.get(key, []) if entry.seq not in rows][:limit]

    def save_vectors(self, key: SessionKey, model: str, seqs: Sequence[int], vectors: Vectors) -> None:
        """Keep one vector an entry that is still in the log."""
        with self._lock:
            length = len(self._log.get(key, []))
            for seq, vector in zip(seqs, vectors, strict=True):
                if seq <= length:
                    self._rows.setdefault((model, key), {}).setdefault(seq, vector)

    def skip_vectors(self, key: SessionKey, model: str, seqs: Sequence[int]) -> None:
        """Mark entries that get no vector."""
        with self._lock:
            for seq in seqs:
                self._rows.setdefault((model, key), {}).setdefault(seq, None)

    def vectors(self, key: SessionKey, model: str, *, after: int = 0) -> tuple[Seqs, Vectors]:
        """Every stored vector past `after`, ascending."""
        with self._lock:
            rows = self._rows.get((model, key), {})
            return self._stacked(rows, [seq for seq in sorted(rows) if seq > after])

    def vectors_of(self, key: SessionKey, model: str, seqs: Sequence[int]) -> tuple[Seqs, Vectors]:
        """The stored vectors of these entries, ascending."""
        with self._lock:
            return self._stacked(self._rows.get((model, key), {}), sorted(set(seqs)))

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """How many vectors are stored, of one session or of all."""
        with self._lock:
            return sum(
                sum(row is not None for row in rows.values())
                for (of, session), rows in self._rows.items()
                if of == model and key in (None, session)
            )

    def vector_keys(self, model: str) -> list[SessionKey]:
        """The sessions that have a vector of this model, by owner and session."""
        with self._lock:
            keys = {
                key
                for (of, key), rows in self._rows.items()
                if of == model and any(v is not None for v in rows.values())
            }
            return sorted(keys, key=lambda key: (key.owner, key.session))

    @staticmethod
    def _stacked(rows: dict[int, Vectors | None], seqs: Sequence[int]) -> tuple[Seqs, Vectors]:
        found = [(seq, vector) for seq in seqs if (vector := rows.get(seq)) is not None]
        if not found:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        return np.asarray([seq for seq, _ in found], np.int64), np.stack([vector for _, vector in found])
