"""Bringing up an embedded index: the generation that is there if it is sound, else a new one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.projections.vector_repair import pour
from langmem_plugin.projections.vector_table import Vectors, VectorTable

_WALK = 20_000
"""At most so many vectors are compared and walked over."""
_PROBES = 200
_BATCH = 1_000
_ITSELF = 1e-3
"""The cosine distance within which a vector finds itself."""


class Interrupted(Exception):
    """What is being brought up is not wanted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An index that is up."""

    chroma: ChromaIndex
    generation: int
    rebuilt: bool


def open_index(
    folder: VectorFolder,
    table: VectorTable,
    model: str,
    *,
    stop: Callable[[], bool],
    progress: Callable[[int, int], object] = lambda _done, _total: None,
) -> Opened:
    """Open the folder's generation, or build one from the stored vectors if it is damaged or there is none.

    Args:
        folder: Whose claim is ours.
        table: The stored vectors.
        model: Which of them.
        stop: Asked now and then; True ends it. The index asks it, too, as long as it lives.
        progress: Called while one is built, with how many vectors are in, and of how many.

    Raises:
        Interrupted: `stop` said so.
        VectorsLocked: The claim is another process's.
        StoreUnavailable: Chroma cannot be started.
    """
    generation = folder.generation()
    if generation is not None:
        chroma = _sound(folder, generation, table, model, stop)
        if chroma is not None:
            return Opened(chroma=chroma, generation=generation, rebuilt=False)
    return _built(folder, table, model, stop, progress)


def _sound(
    folder: VectorFolder, generation: int, table: VectorTable, model: str, stop: Callable[[], bool]
) -> ChromaIndex | None:
    """The generation, open, if its files are those of the last clean close, or answer as the stored vectors say."""
    clean = folder.is_clean(generation)
    if clean is False:
        return None
    touched = False

    def loaded() -> None:
        nonlocal touched
        touched = True
        folder.clear_manifest()

    chroma = None
    try:
        chroma = ChromaIndex.in_folder(folder.folder(generation), model, claim=folder.claim, loaded=loaded, stop=stop)
        if clean or is_sound(chroma, table, model, stop):
            return chroma
    except Exception:  # any class; a damaged file may raise, hang, or end the child
        if stop():
            _give_up(chroma)
            raise Interrupted from None
        if not touched:
            raise
    _give_up(chroma)
    return None


def _built(
    folder: VectorFolder,
    table: VectorTable,
    model: str,
    stop: Callable[[], bool],
    progress: Callable[[int, int], object],
) -> Opened:
    generation = folder.fresh()
    chroma = None
    try:
        chroma = ChromaIndex.in_folder(folder.folder(generation), model, claim=folder.claim, stop=stop)
        for done, total in pour(chroma, table, model):
            _go_on(stop)
            progress(done, total)
        folder.switch(generation)
    except BaseException as error:
        _give_up(chroma)
        folder.discard(generation)
        if stop():
            raise Interrupted from error
        raise
    return Opened(chroma=chroma, generation=generation, rebuilt=True)


def _give_up(chroma: ChromaIndex | None) -> None:
    if chroma is not None:
        with contextlib.suppress(Exception):
            chroma.close()


def is_sound(chroma: ChromaIndex, table: VectorTable, model: str, stop: Callable[[], bool] = lambda: False) -> bool:
    """Whether the index answers, and answers as the stored vectors say.

    A damaged HNSW file does not always raise: it can find one vector of a thousand
    without an error, or end the process with a segmentation fault (chroma#7238).
    Vectors that the index lacks are no damage: they may have been stored just before a
    crash.

    Raises:
        Interrupted: `stop` said so.
    """
    count, total = chroma.count(), table.count_vectors(model)
    if not count or not total:
        return not total
    step = max(1, -(-total // _WALK))
    every = max(1, total // step // _PROBES)
    compared = 0
    probes: list[Vectors] = []
    for stored, held in _compared(chroma, table, model, step):
        _go_on(stop)
        if held.shape != stored.shape or not np.allclose(held, stored, atol=1e-4):
            return False
        probes += list(stored[-compared % every :: every])
        compared += len(stored)
    if not compared:
        return False
    wanted = min(count, _WALK)
    if chroma.probe(probes[0], k=wanted)[0] < 0.99 * wanted:  # HNSW itself may not reach one in some thousand
        return False
    for vector in probes:
        _go_on(stop)
        if chroma.probe(vector, k=1)[1] > _ITSELF:
            return False
    return True


def _compared(chroma: ChromaIndex, table: VectorTable, model: str, step: int) -> Iterator[tuple[Vectors, Vectors]]:
    """Every so many stored vectors that the index has too, and what it has."""
    for key in table.vector_keys(model):
        seqs, vectors = table.vectors(key, model)
        seqs, vectors = seqs[::step], vectors[::step]
        for start in range(0, len(seqs), _BATCH):
            part = slice(start, start + _BATCH)
            held, rows = chroma.vectors_of(key, seqs[part])
            if len(held):
                yield vectors[part][np.isin(seqs[part], held)], rows


def _go_on(stop: Callable[[], bool]) -> None:
    if stop():
        raise Interrupted
