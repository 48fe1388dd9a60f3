"""Where the vectors are kept: the log's own database, one row an entry and model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from langmem_plugin.records import Entry, SessionKey

Seqs = npt.NDArray[np.int64]
"""Places in a session's log."""
Vectors = npt.NDArray[np.float32]
"""Unit rows, shape (entries, dimensions); (0, 0) if there is none."""


class VectorTable(Protocol):
    """The stored embeddings: the truth that every index over them is rebuilt from (G10).

    An entry has at most one row a model: its vector, or the mark that it was looked at
    and gets none. Within a session rows are written in ascending order of `seq`.
    """

    def unembedded(self, key: SessionKey, model: str, *, limit: int) -> list[Entry]:
        """Committed entries with no row of this model, ascending."""
        ...

    def save_vectors(self, key: SessionKey, model: str, seqs: Sequence[int], vectors: Vectors) -> None:
        """Keep one vector an entry, in one transaction.

        A row that is there already stays; an entry that is no longer in the log gets
        none, so that what was forgotten meanwhile does not come back (G11).
        """
        ...

    def skip_vectors(self, key: SessionKey, model: str, seqs: Sequence[int]) -> None:
        """Mark entries that get no vector, so that `unembedded` does not name them again."""
        ...

    def vectors(self, key: SessionKey, model: str, *, after: int = 0) -> tuple[Seqs, Vectors]:
        """Every stored vector past `after`, ascending; marks are left out."""
        ...

    def vectors_of(self, key: SessionKey, model: str, seqs: Sequence[int]) -> tuple[Seqs, Vectors]:
        """The stored vectors of these entries, ascending; those without one are left out."""
        ...

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """How many vectors are stored, of one session or of all; marks are left out."""
        ...

    def vector_keys(self, model: str) -> list[SessionKey]:
        """The sessions that have a vector of this model, in a fixed order."""
        ...
