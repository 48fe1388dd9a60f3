"""The query's vector in time: cache, deadline, circuit breaker.

What arrives late is cached for the next time.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.embedders import embed_query
from langmem_plugin.in_time import InTime
from langmem_plugin.models import Embedder

Vector = npt.NDArray[np.float32]

MAX_CHARS: Final = 2_000
"""Of a longer query the beginning and the end are embedded."""
CACHE_SIZE: Final = 1_024


def shorten(text: str, limit: int = MAX_CHARS) -> str:
    """The beginning and the end of a long text: a question stands in one of the two."""
    return text if len(text) <= limit else text[: limit // 2] + "\n" + text[-(limit // 2) :]


class QueryVectors:
    """Embeds queries under a deadline; thread-safe."""

    def __init__(self, embedder: Embedder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._embedder = embedder
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._in_time: InTime[Vector] = InTime(
            "the embedder",
            doing="the embedding",
            otherwise="recall is by keyword",
            thread="langmem-plugin-query-embedding",
            clock=clock,
        )

    def embed(self, text: str, *, deadline_s: float) -> tuple[Vector | None, str]:
        """The query's vector, or None and why there is none. Never raises.

        Args:
            text: The query.
            deadline_s: Seconds to wait at most.
        """
        text = shorten(text)
        try:
            key = (self._embedder.name, text)
        except Exception as error:  # noqa: BLE001 - another's code; a failing leg never fails a turn (G8)
            return None, self._in_time.failure(error)
        with self._lock:
            if (known := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return known, ""
        return self._in_time.call(lambda _late: self._embed(key), deadline_s=deadline_s)

    def forget(self) -> None:
        """Let go of every query: it may be what a user said (G11)."""
        with self._lock:
            self._cache.clear()

    def _embed(self, key: tuple[str, str]) -> Vector:
        vector = embed_query(self._embedder, key[1])
        with self._lock:
            self._cache[key] = vector
            while len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return vector
