"""Search over a session's vectors: exact or by Chroma, whichever answers better just now."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from langmem_plugin.errors import StoreClosed, StoreUnavailable
from langmem_plugin.projections.chroma_index import ChromaIndex, server_address
from langmem_plugin.projections.chroma_search import ChromaSearch
from langmem_plugin.projections.exact_index import ExactIndex, nearest
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.projections.vector_opening import Interrupted, open_index
from langmem_plugin.projections.vector_repair import agrees, complete
from langmem_plugin.projections.vector_table import Seqs, Vectors, VectorTable
from langmem_plugin.records import SessionKey

Progress: TypeAlias = Callable[[int, int], object]
"""Called with how many vectors are done, and of how many."""

State: TypeAlias = Literal["exact", "new", "starting", "ready", "down", "closed"]
"""`exact`: no Chroma wanted; `new`: not asked yet; `starting`: being checked or built;
`down`: failed, tried again later. In all but `ready` exact search answers."""

EXACT_MAX = 20_000
"""Up to so many vectors of a session exact search is faster than Chroma's filtered query."""

_SAMPLE = 16
"""Vectors that are looked at where looking at all would take too long."""
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 300.0


class VectorIndex:
    """The vectors of every session of one embedding model, searchable.

    Small sessions are searched exactly, large ones by Chroma; where Chroma is not ready,
    late, failed or found too little, exact search answers. Each hit of Chroma's is read again
    from the stored vectors: what is not stored for that session is dropped, and the
    cosines are those of the stored vectors. Exact search reads its best hits again, and
    starts afresh if another process changed them.

    Chroma is brought up by a thread of its own that starts with the first use: checked,
    completed from the stored vectors, or rebuilt into a new folder if it is damaged. The
    one in a folder runs in a child process.
    """

    def __init__(
        self,
        table: VectorTable,
        model: str,
        where: str | Path | None = None,
        *,
        namespace: str = "",
        exact_max: int = EXACT_MAX,
        deadline_s: float = 0.5,
        cache_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        """Claim the folder; Chroma itself is not touched yet.

        Args:
            table: The stored vectors.
            model: The embedder's name.
            where: Chroma's folder, or http://host:port of a Chroma server; None: exact alone.
            namespace: Tells databases apart that share a Chroma server.
            exact_max: Sessions of up to so many vectors are searched exactly.
            deadline_s: So long Chroma is waited for; then exact search answers.
            cache_bytes: Memory for the vectors of sessions lately searched.

        Raises:
            VectorsLocked: Another process writes that folder.
            StoreUnavailable: The folder cannot be made or written.
            InvalidSetting: The address is not one of a server.
        """
        self._table = table
        self._model = model
        self._namespace = namespace
        self._exact_max = exact_max
        self._by_chroma = ChromaSearch(self._fail, deadline_s=deadline_s)
        self._exact = ExactIndex(table, model, max_bytes=cache_bytes)
        self._url: str | None = None
        self._folder: VectorFolder | None = None
        if where is not None:
            if isinstance(where, str) and "://" in where:
                server_address(where)
                self._url = where
            else:
                self._folder = VectorFolder(Path(where).expanduser())
        self._state: State = "exact" if where is None else "new"
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._chroma: ChromaIndex | None = None
        self._generation: int | None = None
        self._thread: threading.Thread | None = None
        self._missed: set[SessionKey] = set()
        self._wipes = self._wiped = self._failures = self._rebuilds = 0
        self._retry_s = _FIRST_RETRY_S
        self._retry_at = 0.0
        self._error = ""
        self._answers: Counter[str] = Counter()
        self._progress: Progress | None = None

    def search(self, key: SessionKey, vector: Vectors, *, k: int, before: int | None = None) -> tuple[Seqs, Vectors]:
        """The `k` nearest entries of the session, best first, ties by newest.

        Args:
            key: Whose entries.
            vector: The query, of unit length.
            k: At most so many.
            before: Only entries with a smaller `seq`.

        Returns:
            The entries' `seq` and cosine, -1..1; empty if the session has no vectors.

        Raises:
            ModelFailed: The query has another length than the stored vectors.
            StoreClosed: The index was closed.
        """
        self._wake()
        if k > 0 and (chroma := self._chroma_for(key)) is not None:
            # Some more: with the cosines of the stored vectors the order is exact again.
            near = self._by_chroma.ask(chroma, key, vector, k=k + _SAMPLE, before=before)
            if near is not None:
                self._retry_s = _FIRST_RETRY_S
                seqs, cosines = nearest(*self._table.vectors_of(key, self._model, near.tolist()), vector, k)
                if len(seqs) == k:
                    self._answers["chroma"] += 1
                    return seqs, cosines
        self._answers["exact"] += 1
        return self._exactly(key, vector, k, before)

    def rows(self, key: SessionKey, seqs: Sequence[int]) -> tuple[Seqs, Vectors]:
        """The vectors of these entries (`seqs` ascending), ascending; those without one are left out."""
        held = self._exact.rows(key, seqs)
        return self._table.vectors_of(key, self._model, seqs) if held is None else held

    def add(self, key: SessionKey, seqs: Sequence[int]) -> None:
        """Put entries whose vectors are stored into the index; never raises for Chroma's sake."""
        self._wake()
        with self._writing:
            with self._changed:
                chroma = self._chroma if self._state == "ready" else None
                if chroma is None:
                    if self._state != "exact":
                        self._missed.add(key)
                    return
            # Read under the lock: what was erased before is not stored any more (G11).
            stored = self._table.vectors_of(key, self._model, seqs)
            try:
                chroma.put(key, *stored)
            except Exception as error:  # noqa: BLE001 - Chroma raises anything; the vectors are stored
                self._missed.add(key)
                self._fail(chroma, error)

    def remove(self, key: SessionKey) -> None:
        """Take a session whose vectors are no longer stored out of the index.

        It is not found any more; its bytes stay in Chroma's files until `erase`.
        """
        self._exact.forget(key)
        with self._writing:
            chroma = self._chroma if self._state == "ready" else None
            if chroma is not None:
                try:
                    chroma.remove(key)
                except Exception as error:  # noqa: BLE001 - as above; found again when it is brought up
                    self._fail(chroma, error)

    def erase(self, keys: Iterable[SessionKey], *, seqs: Sequence[int] | None = None, timeout_s: float = 60.0) -> None:
        """Leave no byte of the vectors of these sessions, or of these entries of theirs, in any file (G11).

        Their stored vectors must be gone already. The folder's files are removed before
        this returns, and built anew behind; meanwhile exact search answers. A server
        only takes them out of its collection: what its files keep is the server's.

        Raises:
            StoreUnavailable: It could not be done; do it again.
        """
        keys = list(keys)
        for key in keys:
            self._exact.forget(key)
        if self._folder is not None:
            self._wipe(timeout_s)
        elif self._url is not None:
            with self._writing:
                chroma = self._chroma if self._state == "ready" else None
                try:
                    target = chroma or ChromaIndex.at(self._url, self._model, namespace=self._namespace)
                    try:
                        for key in keys:
                            target.remove(key, seqs)
                    finally:
                        if chroma is None:
                            target.close()
                except Exception as error:  # any class; said as ours
                    raise StoreUnavailable(
                        self._url, f"the vectors were not removed ({type(error).__name__})", "start it and erase again"
                    ) from error

    @property
    def folder(self) -> Path | None:
        """Where its files are; None if it has none of its own."""
        return None if self._folder is None else self._folder.path

    def rebuild(self, progress: Progress | None = None, *, timeout_s: float | None = None) -> None:
        """Build Chroma's index anew from the stored vectors; returns when it is ready.

        Raises:
            StoreUnavailable: Chroma failed or took longer than `timeout_s`.
        """
        if self._state == "exact":
            return
        self._progress = progress
        try:
            self._wipe(timeout_s)
            if not self.wait(timeout_s):
                raise StoreUnavailable(self._where, "the index was not rebuilt", "see status() for the cause")
        finally:
            self._progress = None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until Chroma is ready, or has failed; whether it is ready. True if none is wanted."""
        if self._state == "exact":
            return True
        self._wake()
        with self._changed:
            self._changed.wait_for(lambda: self._state in ("ready", "down", "closed"), timeout_s)
            return self._state == "ready"

    def status(self) -> dict[str, Any]:
        """Where it stands: state, Chroma's process, who answered how often, the last failure, without any text."""
        with self._changed:
            return {
                "state": self._state,
                "model": self._model,
                "generation": self._generation,
                "pid": None if self._chroma is None else self._chroma.pid,
                "answers": dict(self._answers),
                "failures": self._failures,
                "rebuilds": self._rebuilds,
                "last_error": self._error,
                "behind": len(self._missed),
                "cache_bytes": self._exact.bytes,
                "exact_max": self._exact_max,
            }

    def close(self) -> None:
        """Stop Chroma and release the folder. Does nothing the second time."""
        with self._changed:
            if self._state == "closed":
                return
            self._state = "closed"
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        with self._writing, contextlib.suppress(Exception):  # it is recorded
            self._shut_chroma(clean=True)
        if self._folder is not None:
            self._folder.release()
        self._exact.clear()

    # Searching

    def _chroma_for(self, key: SessionKey) -> ChromaIndex | None:
        with self._changed:
            chroma = self._chroma if self._state == "ready" else None
        if chroma is None:
            return None
        count = self._exact.count(key) or self._table.count_vectors(self._model, key=key)
        return chroma if count > self._exact_max else None

    def _exactly(self, key: SessionKey, vector: Vectors, k: int, before: int | None) -> tuple[Seqs, Vectors]:
        seqs, cosines = self._exact.search(key, vector, k=k, before=before)
        best = np.sort(seqs[:_SAMPLE])
        stored, rows = self._table.vectors_of(key, self._model, best.tolist())
        if np.array_equal(stored, best) and (
            not len(best) or np.allclose(np.sort(rows @ vector.reshape(-1))[::-1], cosines[:_SAMPLE], atol=1e-4)
        ):
            return seqs, cosines
        self._exact.forget(key)  # another process changed what we held
        return self._exact.search(key, vector, k=k, before=before)

    # Bringing Chroma up; all of it in one thread

    @property
    def _where(self) -> str:
        return self._url or str(self._folder.path if self._folder else "")

    def _wake(self) -> None:
        with self._changed:
            if self._state == "closed":
                raise StoreClosed
            if self._state == "new":
                self._state = "starting"
                self._thread = threading.Thread(target=self._tend, name="langmem-vectors", daemon=True)
                self._thread.start()

    def _fail(self, chroma: ChromaIndex, error: Exception) -> None:
        with self._changed:
            # If it was closed, replaced or told to stop meanwhile it is not its fault.
            if self._chroma is chroma and self._state == "ready" and not self._is_interrupted():
                self._go_down(error)

    def _go_down(self, error: Exception) -> None:
        self._state = "down"
        self._failures += 1
        self._error = _said(error)
        self._retry_at = time.monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)
        self._changed.notify_all()

    def _tend(self) -> None:
        while True:
            with self._changed:
                while (pause := self._pause()) != 0:
                    self._changed.wait(pause)
                if self._state == "closed":
                    return
                self._state = "starting"
                wipe = self._wipes
            try:
                self._bring_up(wipe)
            except Interrupted:
                continue
            except Exception as error:  # noqa: BLE001 - recorded; tried again later
                with self._changed:
                    if self._state == "starting" and self._wipes == wipe:
                        self._go_down(error)

    def _pause(self) -> float | None:
        """How long there is nothing to do; None: until something changes."""
        if self._state in ("starting", "closed"):
            return 0.0
        if self._state == "down":
            return max(0.0, self._retry_at - time.monotonic())
        return 0.0 if self._wipes > self._wiped else None

    def _bring_up(self, wipe: int) -> None:
        self._by_chroma.begin()
        with self._writing:
            self._shut_chroma(clean=False)
        if self._url is not None:
            self._chroma = ChromaIndex.at(self._url, self._model, namespace=self._namespace)
            if wipe > self._wiped:
                self._chroma.empty()
                self._did_wipe(wipe)
        elif self._folder is not None:
            if wipe > self._wiped:
                self._folder.empty()
                self._did_wipe(wipe)
            opened = open_index(
                self._folder, self._table, self._model, stop=self._is_interrupted, progress=self._progressed
            )
            self._chroma, self._generation = opened.chroma, opened.generation
            self._rebuilds += opened.rebuilt
        self._complete()

    def _progressed(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(done, total)

    def _complete(self) -> None:
        """Put in what is stored and not yet in the index, take out what is no longer stored."""
        chroma = self._chroma
        if chroma is None:
            return
        # Chroma is counted first: another process stores a vector before it indexes it.
        same_count = chroma.count() == self._table.count_vectors(self._model)
        alike = agrees(chroma, self._table, self._model)
        keys = set() if same_count and alike else set(self._table.vector_keys(self._model))
        while True:
            for key in sorted(keys, key=lambda key: (key.owner, key.session)):
                self._check_interrupted()
                complete(chroma, self._table, self._model, key, anew=not alike)
            surplus = chroma.count() > self._table.count_vectors(self._model)
            with self._changed:
                keys, self._missed = self._missed, set()
                if keys:
                    continue
                if surplus:  # of sessions that were forgotten while the index was closed
                    self._wipes += 1
                self._check_interrupted()
                self._state = "ready"
                self._error = ""
                self._changed.notify_all()
                return

    def _wipe(self, timeout_s: float | None) -> None:
        """Have the worker remove the index, and wait until it has."""
        self._wake()
        with self._changed:
            self._wipes += 1
            self._retry_at = 0.0
            mine, failures = self._wipes, self._failures
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._wiped >= mine or self._failures > failures or self._state == "closed", timeout_s
            )
            if self._wiped < mine:
                raise StoreUnavailable(
                    self._where, f"the index was not removed ({self._error or 'too slow'})", "do it again"
                )

    def _did_wipe(self, wipe: int) -> None:
        with self._changed:
            self._wiped = wipe
            self._changed.notify_all()

    def _shut_chroma(self, *, clean: bool) -> None:
        chroma = self._chroma
        if chroma is None:
            return
        try:
            chroma.close()
        except Exception as error:  # whatever it says, it is given up
            self._error = _said(error)
            clean = False
            if chroma.pid is not None:  # it may still write: the folder is not opened beside it
                raise
        self._chroma = None
        if clean and self._folder is not None and self._generation is not None and not self._failures:
            self._folder.write_manifest(self._generation)

    def _is_interrupted(self) -> bool:
        return self._state == "closed" or self._wipes > self._wiped

    def _check_interrupted(self) -> None:
        if self._is_interrupted():
            raise Interrupted


def _said(error: Exception) -> str:
    """The error's class, and what is ours to say of it: no text of Chroma's."""
    return type(error).__name__ + (f": {error.why}" if isinstance(error, StoreUnavailable) else "")
