"""Comparing a Chroma index with the stored vectors, and making it hold them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.vector_table import VectorTable
from langmem_plugin.records import SessionKey

_SAMPLE = 16
_BATCH = 1_000


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
