"""Chroma asked under a deadline: one that hangs holds up no request."""

from __future__ import annotations

from collections.abc import Callable

from langmem_plugin.in_time import InTime, Late
from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey

AT_ONCE = 32
"""Searches that may be under way; one more is not begun."""


class ChromaSearch:
    """Asks an index in a thread; after some late answers in a row it rests. Thread-safe."""

    def __init__(self, failed: Callable[[ChromaIndex, Exception], None], *, deadline_s: float) -> None:
        """Makes nothing yet.

        Args:
            failed: Told which index failed and how, also when nobody waits for it any more.
            deadline_s: Seconds to wait at most.
        """
        self._failed = failed
        self._deadline_s = deadline_s
        self.begin()

    def begin(self) -> None:
        """Let go of what was seen of an earlier index: another one is asked from now on."""
        self._in_time: InTime[Seqs] = InTime(
            "Chroma",
            doing="its search",
            otherwise="exact search answers",
            thread="langmem-plugin-chroma-search",
            at_once=AT_ONCE,
        )

    def ask(self, chroma: ChromaIndex, key: SessionKey, vector: Vectors, *, k: int, before: int | None) -> Seqs | None:
        """About the `k` nearest entries of the session, best first; None if it fails, is late or rests."""

        def search(_late: Late) -> Seqs | None:
            try:
                return chroma.search(key, vector, k=k, before=before)
            except Exception as error:  # noqa: BLE001 - Chroma raises anything; exact search answers
                self._failed(chroma, error)
                return None

        return self._in_time.call(search, deadline_s=self._deadline_s)[0]
