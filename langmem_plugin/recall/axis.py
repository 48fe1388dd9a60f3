"""Which messages the first step of ranking looks at: all of them, or around the best ones of a long session.

Some of that step is arithmetic on whole arrays, which a session of 100,000 messages makes too
long to fit a processor's caches. There it is done where keywords or vectors found something,
on an axis that leaves the rest out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.recall.bm25 import Floats, Keywords
from langmem_plugin.recall.traits import Ints

LONG: Final = 32_768
"""Messages up to which all are looked at."""
_BESIDE: Final = 2
"""So far from what was found a message may still be chosen."""
_MARGIN: Final = 10
"""So far around it messages are on the axis: `_BESIDE`, and as far as a feature of the first step looks."""
_BLOCK: Final = 32
"""Scores of a part whose maximum stands for it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Messages by place, ascending; place 0 is number 0, which no message has."""

    seqs: Ints
    """The number of the message at each place."""
    open: npt.NDArray[np.bool_] | None
    """Which may be chosen; None for all. What is beside the others is not on the axis."""
    _places: Ints | None
    """Number -> place, 0 for what is left out; None if both are the same."""

    @classmethod
    def whole(cls, size: int) -> Axis:
        """Every message, as its number says."""
        return cls(np.arange(size), None, None)

    @classmethod
    def around(cls, keywords: Keywords, found: Ints, *, before: int, count: int) -> Axis:
        """The best messages by keyword and what was `found` otherwise, with what stands around them.

        Args:
            keywords: What the keyword leg found.
            found: Numbers of messages.
            before: Only messages with a smaller number count as found.
            count: So many by keyword.
        """
        size = len(keywords.scores)
        best = _highest(keywords.scores[:before], count)
        centre = np.concatenate([best, found[found < before]])
        on, may = (_beside(centre, reach, size) for reach in (_MARGIN, _BESIDE))
        on[[0, int(np.argmax(keywords.scores))]] = True  # the best one of all, which scores are measured by
        may[0] = False
        seqs = np.flatnonzero(on)
        places = np.zeros(size, np.int64)
        places[seqs] = np.arange(len(seqs))
        return cls(seqs, may[seqs], places)

    def places(self, seqs: Ints) -> Ints:
        """Where messages that are on the axis stand."""
        return seqs if self._places is None else self._places[seqs]

    def first_from(self, seq: int) -> int:
        """The place of the first message with that number or a higher one."""
        return seq if self._places is None else int(np.searchsorted(self.seqs, seq))

    def keywords(self, found: Keywords) -> Keywords:
        """What the keyword leg found, by place."""
        if self._places is None:
            return found
        rows = {}
        for term, (seqs, weight) in found.rows.items():
            places = self._places.take(seqs)
            rows[term] = (places.compress(places > 0), weight)
        return replace(found, scores=found.scores[self.seqs], rows=rows)


def _beside(centre: Ints, reach: int, size: int) -> npt.NDArray[np.bool_]:
    """Which of so many numbers lie within `reach` of one of these."""
    out = np.zeros(size, bool)
    near = centre[:, None] + np.arange(-reach, reach + 1)
    out[np.minimum(np.maximum(near, 0), size - 1)] = True
    return out


def _highest(scores: Floats, count: int) -> Ints:
    """The places of the `count` highest scores above 0, and of those that equal the last of them, ascending.

    At least `count` scores are no lower than the lowest of the `count` highest maxima of disjoint parts.
    """
    blocks = scores[: len(scores) // _BLOCK * _BLOCK].reshape(_BLOCK, -1).max(axis=0)
    least = np.partition(blocks, -count)[-count] if len(blocks) > count else 0.0
    best = np.flatnonzero(scores >= least if least > 0 else scores)
    if len(best) > count:
        found = scores[best]
        best = best[found >= np.partition(found, -count)[-count]]
    return best
