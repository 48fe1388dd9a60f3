"""What recall reads from: the keyword index and the log in the store, and the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from langmem_plugin.records import Entry, SessionKey
from langmem_plugin.store.protocol import KeywordStats, Postings

__all__ = ["KeywordStats", "Postings", "RecallStore", "VectorSearch"]


class RecallStore(Protocol):
    """The part of a store that recall reads; committed entries only."""

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        """The session's figures; zeros for a session nobody wrote to."""
        ...

    def postings(self, key: SessionKey, terms: Sequence[str]) -> Mapping[str, Postings]:
        """The postings of each term; a term that stands nowhere is left out."""
        ...

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        """The entries with these numbers, ascending; numbers without an entry are left out."""
        ...


class VectorSearch(Protocol):
    """Nearest messages of one session by meaning."""

    def search(
        self, key: SessionKey, vector: npt.NDArray[np.float32], *, k: int, before: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Numbers and cosine similarities of at most `k` messages, best first.

        Args:
            key: The session; nothing of another one is ever returned (G7).
            vector: The query, of unit length.
            k: At most so many.
            before: Only entries with a smaller number.
        """
        ...

    def rows(self, key: SessionKey, seqs: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The vectors of these messages, ascending; numbers without one are left out.

        Args:
            key: The session.
            seqs: Ascending numbers.
        """
        ...
