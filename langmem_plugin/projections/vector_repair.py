"""Comparing a Chroma index with the stored vectors, and making it hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from langmem_plugin.projections.chroma_index import ChromaIndex, collection_name, session_tag
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.projections.vector_health import WALK, is_healthy
from langmem_plugin.projections.vector_table import Vectors, VectorTable
from langmem_plugin.records import SessionKey

_SAMPLE = 16
_BATCH = 1_000


def is_sound(folder: VectorFolder, generation: int, table: VectorTable, model: str, stop: Callable[[], bool]) -> bool:
    """Whether the generation's files can be opened in this process.

    By the note of the last clean close if there is one, else by a child process.
    """
    clean = folder.is_clean(generation)
    if clean is not None:
        return clean
    ids: list[str] = []
    rows: list[Vectors] = []
    step = max(1, -(-table.count_vectors(model) // WALK))
    for key in table.vector_keys(model):
        if stop():
            return False
        seqs, vectors = table.vectors(key, model)
        tag = session_tag(key)
        ids += [f"{tag}:{seq}" for seq in seqs[::step].tolist()]
        rows.append(vectors[::step])
    stacked = np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
    return is_healthy(folder.folder(generation), collection_name(model), ids, stacked, stop=stop)


def pour(chroma: ChromaIndex, table: VectorTable, model: str) -> Iterator[tuple[int, int]]:
    """Put every stored vector into the index; yields how many are in, and of how many."""
    total = table.count_vectors(model)
    done = 0
    yield done, total
    for key in table.vector_keys(model):
        seqs, vectors = table.vectors(key, model)
        for start in range(0, len(seqs), _BATCH):
            part = slice(start, start + _BATCH)
            chroma.put(key, seqs[part], vectors[part])
            done += len(seqs[part])
            yield done, total


def agrees(chroma: ChromaIndex, table: VectorTable, model: str) -> bool:
    """Whether a sample of what the index holds is what is stored: a database may be restored."""
    keys = table.vector_keys(model)
    for key in keys[:: max(1, len(keys) // _SAMPLE)]:
        held = chroma.seqs(key)
        seqs, stored = table.vectors_of(key, model, held[:: max(1, len(held) // _SAMPLE)].tolist())
        if len(seqs) and not np.allclose(chroma.vectors_of(key, seqs)[1], stored, atol=1e-4):
            return False
    return True


def complete(chroma: ChromaIndex, table: VectorTable, model: str, key: SessionKey, *, anew: bool) -> None:
    """Put in what is stored of the session and not in the index, take out what is not stored.

    Args:
        chroma: The index.
        table: The stored vectors.
        model: Which of them.
        key: Whose.
        anew: Replace also what the index holds already.
    """
    held = chroma.seqs(key)  # before the stored ones: another process stores first, then indexes
    seqs, vectors = table.vectors(key, model)
    wanted = np.ones(len(seqs), bool) if anew else ~np.isin(seqs, held)
    if wanted.any():
        chroma.put(key, seqs[wanted], vectors[wanted])
    gone = held[~np.isin(held, seqs)]
    if len(gone):
        chroma.remove(key, gone.tolist())
