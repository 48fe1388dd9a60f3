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

from langmem_plugin.recall.bm25 import Keywords
from langmem_plugin.recall.traits import Ints

LONG: Final = 32_768
"""Messages up to which all are looked at."""
_BESIDE: Final = 2
"""So far from what was found a message may still be chosen."""
_MARGIN: Final = 10
"""So far around it messages are on the axis: `_BESIDE`, and as far as a feature of the first step looks."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Messages by place, ascending; place 0 is number 0, which no message has."""

    seqs: Ints
    """The number of the message at each place."""
    open: npt.NDArray[np.bool_] | None
    """Which may be chosen; None for all. What is beside the others is not on the axis."""
    _places: npt.NDArray[np.int32] | None
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
        best = np.flatnonzero(keywords.scores[:before])
        if len(best) > count:
            scores = keywords.scores[best]
            best = best[scores >= np.partition(scores, -count)[-count]]
        centre = np.concatenate([best, found[found < before]])
        on, may = np.zeros(size, bool), np.zeros(size, bool)
        for step in range(-_MARGIN, _MARGIN + 1):
            near = np.minimum(np.maximum(centre + step, 0), size - 1)
            on[near] = True
            if abs(step) <= _BESIDE:
                may[near] = True
        on[[0, int(np.argmax(keywords.scores))]] = True  # the best one of all, which scores are measured by
        may[0] = False
        seqs = np.flatnonzero(on)
        places = np.zeros(size, np.int32)
        places[seqs] = np.arange(len(seqs))
        return cls(seqs, may[seqs], places)

    def places(self, seqs: Ints) -> Ints:
        """Where messages that are on the axis stand."""
        return seqs if self._places is None else self._places[seqs].astype(np.int64)

    def first_from(self, seq: int) -> int:
        """The place of the first message with that number or a higher one."""
        return seq if self._places is None else int(np.searchsorted(self.seqs, seq))

    def keywords(self, found: Keywords) -> Keywords:
        """What the keyword leg found, by place."""
        if self._places is None:
            return found
        rows = {}
        for term, (seqs, weight) in found.rows.items():
            places = self._places[seqs]
            rows[term] = (places[places > 0].astype(np.int64), weight)
        return replace(found, scores=found.scores[self.seqs], rows=rows)
