"""What recall reads from: the keyword index and the log in the store, and the vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from langmem_plugin.records import Entry, SessionKey


@dataclass(frozen=True, slots=True)
class Postings:
    """Where one term stands in one session: three columns of equal length, `seqs` ascending."""

    seqs: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int32]
    """How often the term stands in the message."""
    lengths: npt.NDArray[np.int32]
    """Terms of the whole message, repetitions included."""


@dataclass(frozen=True, slots=True)
class KeywordStats:
    """The two figures of a session that BM25 needs besides the postings."""

    documents: int
    """Messages in the index, those without any term included."""
    length: int
    """Sum of the messages' lengths in terms."""


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
