"""BM25+ over postings (Lv & Zhai, 2011), equal to `rank_bm25.BM25Plus`.

The plus variant, because its idf needs nothing but a term's own document frequency:
Okapi's floor for frequent terms needs the mean idf of the whole vocabulary, which
would have to be recomputed with every message. The lower bound `delta` that the
formula adds for each query term is the same for all documents, so it never changes
an order; `Keywords.floor` holds it, and `scores` leaves it out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.recall.sources import KeywordStats, Postings

Floats = npt.NDArray[np.float64]

K1: Final = 1.2
B: Final = 0.5
DELTA: Final = 1.0


@dataclass(frozen=True, slots=True)
class Keywords:
    """What the keyword leg found for one query."""

    scores: Floats
    """By seq (index 0 is unused), without `floor`; 0 where no term matches."""
    floor: float
    """What BM25+ gives every document for these terms; `scores + floor` is its exact score."""
    best: float
    """The score a message would reach that held every term of the query endlessly often."""
    rows: Mapping[str, tuple[npt.NDArray[np.int64], float]]
    """Term -> the numbers of the messages that hold it, and its idf."""
    absent: int
    """Terms that no message holds."""
    absent_idf: float
    """What such a term counts as: the idf of one that a single message holds."""


def idf(documents: int, frequency: int) -> float:
    """Rarity of a term that stands in `frequency` of `documents` messages; above 0."""
    return math.log((documents + 1) / frequency)


def bm25_plus(
    terms: Sequence[str],
    stats: KeywordStats,
    postings: Mapping[str, Postings],
    *,
    size: int,
    k1: float = K1,
    b: float = B,
    delta: float = DELTA,
) -> Keywords:
    """Score every message of a session for a query.

    Args:
        terms: The query's terms; a repeated one counts each time, as in rank_bm25.
        stats: The session's figures.
        postings: Of the terms that stand somewhere.
        size: Length of the score array, more than the highest seq.
        k1: How slowly repetition saturates.
        b: How much long messages are marked down, 0..1.
        delta: The lower bound that a matching term is worth.
    """
    scores: Floats = np.zeros(size)
    floor = best = 0.0
    missing = 0
    rows: dict[str, tuple[npt.NDArray[np.int64], float]] = {}
    mean_length = stats.length / stats.documents if stats.documents and stats.length else 1.0
    alone = idf(stats.documents, 1) if stats.documents else 0.0
    for term in terms:
        found = postings.get(term)
        if found is None or not len(found.seqs):
            best += alone * (k1 + 1)
            missing += 1
            continue
        weight = idf(stats.documents, len(found.seqs))
        rows[term] = (found.seqs, weight)
        floor += weight * delta
        best += weight * (k1 + 1)
        worth = found.counts.astype(np.float64)
        norm = found.lengths * (k1 * b / mean_length)  # in place from here on: a frequent term has many postings
        norm += k1 * (1 - b)
        norm += worth
        worth *= weight * (k1 + 1)
        worth /= norm
        np.add.at(scores, found.seqs, worth)
    return Keywords(scores=scores, floor=floor, best=best, rows=rows, absent=missing, absent_idf=alone)
