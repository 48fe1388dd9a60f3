"""The query's vector in time: cache, deadline, circuit breaker.

The embedder runs in a daemon thread, so that one that hangs holds up neither the
request nor the end of the process. What arrives late is cached for the next time.
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
from langmem_plugin.models import Embedder

Vector = npt.NDArray[np.float32]

MAX_CHARS: Final = 2_000
"""Of a longer query the beginning and the end are embedded."""
CACHE_SIZE: Final = 1_024
FAILURES: Final = 3
"""So many failures in a row open the breaker ..."""
PAUSE_S: Final = 30.0
"""... for so long; then one query tries again."""
AT_ONCE: Final = 4
"""Embeddings that may run at one time."""


def shorten(text: str, limit: int = MAX_CHARS) -> str:
    """The beginning and the end of a long text: a question stands in one of the two."""
    return text if len(text) <= limit else text[: limit // 2] + "\n" + text[-(limit // 2) :]


class QueryVectors:
    """Embeds queries under a deadline; thread-safe."""

    def __init__(self, embedder: Embedder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._embedder = embedder
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)
        self._cache: OrderedDict[tuple[str, str], Vector] = OrderedDict()
        self._failures = 0
        self._open_until = 0.0

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
            return None, f"the embedder failed ({type(error).__name__}); recall is by keyword"
        with self._lock:
            if (known := self._cache.get(key)) is not None:
                self._cache.move_to_end(key)
                return known, ""
            if self._clock() < self._open_until:
                return None, f"the embedder failed {self._failures} times in a row and rests; recall is by keyword"
        if not self._slots.acquire(blocking=False):
            return None, "the embedder is busy; recall is by keyword"
        answer: list[Vector | str] = []
        done = threading.Event()
        threading.Thread(
            target=self._run, args=(key, answer, done), name="langmem-plugin-query-embedding", daemon=True
        ).start()
        if not done.wait(deadline_s):
            self._failed()
            return None, f"the embedding took longer than {deadline_s:g} s; recall is by keyword"
        if isinstance(answer[0], str):
            return None, f"the embedder failed ({answer[0]}); recall is by keyword"
        return answer[0], ""

    def forget(self) -> None:
        """Let go of every query: it may be what a user said (G11)."""
        with self._lock:
            self._cache.clear()

    def _run(self, key: tuple[str, str], answer: list[Vector | str], done: threading.Event) -> None:
        try:
            vector = embed_query(self._embedder, key[1])
        except Exception as error:  # noqa: BLE001 - another's code; a failing leg never fails a turn (G8)
            self._failed()
            answer.append(type(error).__name__)
        else:
            with self._lock:
                self._failures = 0
                self._open_until = 0.0
                self._cache[key] = vector
                while len(self._cache) > CACHE_SIZE:
                    self._cache.popitem(last=False)
                answer.append(self._cache[key])
        finally:
            self._slots.release()
            done.set()

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._open_until = self._clock() + PAUSE_S
