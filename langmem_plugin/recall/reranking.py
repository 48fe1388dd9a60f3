"""The best candidates judged again by a cross-encoder, in time, and put on the learned scale."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from langmem_plugin.in_time import InTime, Late
from langmem_plugin.models import Reranker
from langmem_plugin.recall.bm25 import Floats
from langmem_plugin.recall.meaning import shorten
from langmem_plugin.rerankers import checked

BATCH: Final = 16
"""Texts that are judged before it looks whether anybody still waits."""
CACHE_SIZE: Final = 16_384
"""Judgements that are kept, each some hundred bytes."""


class Reranking:
    """Judges texts under a deadline; thread-safe. What was judged before is not judged again."""

    def __init__(self, reranker: Reranker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._reranker = reranker
        self._lock = threading.Lock()
        self._cache: OrderedDict[bytes, float] = OrderedDict()
        self._in_time: InTime[Floats] = InTime(
            "the cross-encoder",
            doing="the cross-encoder",
            otherwise="the learned order stands",
            thread="langmem-plugin-reranking",
            clock=clock,
        )

    def judge(self, query: str, texts: Sequence[str], *, deadline_s: float) -> tuple[Floats | None, str]:
        """One figure a text, or None and why there is none. Never raises.

        Past the deadline the batch at work is finished and kept, and the rest is left alone.

        Args:
            query: The question.
            texts: Of a long one the beginning and the end are read.
            deadline_s: Seconds to wait at most.
        """
        query, texts = shorten(query), [shorten(text) for text in texts]
        try:
            keys = _keys(self._reranker.name, query, texts)
        except Exception as error:  # noqa: BLE001 - another's code; a failing leg never fails a turn (G8)
            return None, self._in_time.failure(error)
        known = self._known(keys)
        if not np.isnan(known).any():
            return known, ""
        if deadline_s <= 0:
            return None, "no time was left for the cross-encoder; the learned order stands"
        return self._in_time.call(lambda late: self._judge(query, texts, keys, known, late), deadline_s=deadline_s)

    def forget(self) -> None:
        """Let go of every judgement (G11); no text is in any."""
        with self._lock:
            self._cache.clear()

    def _known(self, keys: Sequence[bytes]) -> Floats:
        """What is kept of these, NaN for the others."""
        with self._lock:
            for key in keys:
                if key in self._cache:
                    self._cache.move_to_end(key)
            return np.array([self._cache.get(key, np.nan) for key in keys])

    def _judge(
        self, query: str, texts: Sequence[str], keys: Sequence[bytes], known: Floats, late: Late
    ) -> Floats | None:
        missing = np.flatnonzero(np.isnan(known)).tolist()
        for start in range(0, len(missing), BATCH):
            if start and late():
                return None
            places = missing[start : start + BATCH]
            found = checked(self._reranker.scores(query, [texts[place] for place in places]), len(places))
            known[places] = found
            with self._lock:
                self._cache.update((keys[place], float(one)) for place, one in zip(places, found, strict=True))
                while len(self._cache) > CACHE_SIZE:
                    self._cache.popitem(last=False)
        return known


def deal(learned: Floats, judged: Floats, *, share: float) -> tuple[list[int], Floats]:
    """The new order of candidates, and the score of each place in it.

    Both opinions are standardised over the candidates, the learned ones as log-odds, and
    added by their shares; equal sums keep the learned order. The learned scores are then
    dealt out anew, the highest to the first: what a cross-encoder answers is of no known
    scale, while these are how likely a candidate at that place is right.

    Args:
        learned: Scores 0..1, best first.
        judged: What the cross-encoder says of the same candidates, on any scale.
        share: Of the cross-encoder's opinion, 0..1.
    """
    odds = np.clip(learned, 1e-9, 1 - 1e-9)
    together = (1 - share) * _standardised(np.log(odds / (1 - odds))) + share * _standardised(judged)
    order: list[int] = np.argsort(-together, kind="stable").tolist()
    return order, np.sort(learned)[::-1]


def _standardised(values: Floats) -> Floats:
    if not len(values):
        return values
    largest = float(np.abs(values).max())
    scaled: Floats = values / largest if largest > 0 else values  # the squares of huge ones stay finite
    spread = float(scaled.std())
    return (scaled - scaled.mean()) / spread if spread > 1e-12 else np.zeros(len(values))


def _keys(name: str, query: str, texts: Sequence[str]) -> list[bytes]:
    """128 bits of model, question and text."""
    asked = hashlib.sha256()
    for part in (name, query):
        raw = part.encode("utf-8", "surrogatepass")
        asked.update(b"%d:%s" % (len(raw), raw))
    keys = []
    for text in texts:
        one = asked.copy()
        one.update(text.encode("utf-8", "surrogatepass"))
        keys.append(one.digest()[:16])
    return keys
