"""Exact search and Chroma beside each other: time by size of session, and how much Chroma misses."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from langmem_plugin.messages import user
from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.exact_index import ExactIndex
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vector_repair import pour
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.vector_table import MemoryVectorTable

MODEL: Final = "measured"
K: Final = 20
QUERIES: Final = 50
_POURED: Final = 500
_COLUMNS: Final = (
    "vectors of the session", "exact, cold, ms", "exact, ms", "Chroma alone, ms", "Chroma, read again, ms",
    "Chroma recall@20", "read again recall@20",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """One session size: medians in milliseconds, and shares of the true nearest twenty."""

    vectors: int
    exact_cold_ms: float
    """Exact search that has to read the vectors from the database first."""
    exact_ms: float
    chroma_ms: float
    """Chroma's filtered query alone."""
    index_ms: float
    """The same with its hits read again from the stored vectors, as recall asks."""
    chroma_recall: float
    index_recall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All figures of one run."""

    total: int
    dimensions: int
    build_s: float
    """Chroma built from the stored vectors."""
    sizes: tuple[Searched, ...]


class SqliteVectors(MemoryVectorTable):
    """The stored vectors in a SQLite file, as blobs, so that reading them costs what it costs."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._db = sqlite3.connect(file, check_same_thread=False)
        self._db.execute("CREATE TABLE v (s TEXT, seq INTEGER, row BLOB, PRIMARY KEY (s, seq)) WITHOUT ROWID")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def fill(self, key: SessionKey, rows: Vectors) -> None:
        """Store the rows as entries 1, 2, ..."""
        with self._lock, self._db:
            self._db.executemany(
                "INSERT INTO v VALUES (?, ?, ?)", ((key.session, i + 1, row.tobytes()) for i, row in enumerate(rows))
            )

    def vectors(self, key: SessionKey, model: str, *, after: int = 0) -> tuple[Seqs, Vectors]:
        """Every stored vector past `after`, ascending."""
        return self._read("seq > ?", key, [after])

    def vectors_of(self, key: SessionKey, model: str, seqs: Sequence[int]) -> tuple[Seqs, Vectors]:
        """The stored vectors of these entries, ascending."""
        wanted = [int(seq) for seq in seqs]
        return self._read(f"seq IN ({','.join('?' * len(wanted))})", key, wanted)

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """How many vectors are stored."""
        with self._lock:
            where, values = ("WHERE s = ?", [key.session]) if key else ("", [])
            return int(self._db.execute(f"SELECT count(*) FROM v {where}", values).fetchone()[0])  # noqa: S608

    def vector_keys(self, model: str) -> list[SessionKey]:
        """The sessions."""
        with self._lock:
            return [SessionKey("o", row[0]) for row in self._db.execute("SELECT DISTINCT s FROM v")]

    def _read(self, where: str, key: SessionKey, values: list[int]) -> tuple[Seqs, Vectors]:
        with self._lock:
            found = self._db.execute(
                f"SELECT seq, row FROM v WHERE s = ? AND {where} ORDER BY seq",  # noqa: S608
                [key.session, *values],
            ).fetchall()
        if not found:
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        rows = np.frombuffer(b"".join(row for _, row in found), np.float32).reshape(len(found), -1)
        return np.asarray([seq for seq, _ in found], np.int64), rows


def measure(
    sizes: Sequence[int] = (200, 1_000, 5_000, 20_000),
    *,
    total: int = 20_000,
    dimensions: int = 384,
    progress: Callable[[str], None] | None = None,
) -> Measured:
    """Time both searches over sessions of these sizes within one collection.

    Vectors are drawn around 200 centres, always the same ones.

    Args:
        sizes: Vectors of each session that is asked.
        total: Vectors of the whole collection, at least; other sessions fill it up.
        dimensions: Numbers of a vector.
        progress: Called with a line now and then.
    """
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(200, dimensions)).astype(np.float32)

    def draw(count: int) -> Vectors:
        rows = centres[chance.integers(0, 200, count)] + 1.2 * chance.normal(size=(count, dimensions))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    with tempfile.TemporaryDirectory() as folder:
        table = SqliteVectors(Path(folder) / "log.db")
        keys = [SessionKey("o", f"of {size}") for size in sizes]
        for key, size in zip(keys, sizes, strict=True):
            table.fill(key, draw(size))
            table.commit(key, user("x"))
        for rest in range(max(0, total - sum(sizes)) // 1_000):
            table.fill(SessionKey("o", f"rest {rest}"), draw(1_000))
        stored = table.count_vectors(MODEL)
        chroma = ChromaIndex.in_folder(Path(folder) / "alone", MODEL)
        started = time.perf_counter()
        for done, _ in pour(chroma, table, MODEL):
            if progress and done % 5_000 < _POURED:
                progress(f"{done} of {stored} vectors in Chroma")
        build_s = time.perf_counter() - started
        index = VectorIndex(table, MODEL, Path(folder) / "vectors", exact_max=0, deadline_s=60.0)
        index.wait()
        try:
            found = []
            for key, size in zip(keys, sizes, strict=True):
                found.append(_searched(table, index, chroma, key, size, draw(QUERIES)))
                if progress:
                    progress(f"session of {size} vectors")
        finally:
            chroma.close()
            index.close()
            table.close()
    return Measured(total=stored, dimensions=dimensions, build_s=build_s, sizes=tuple(found))


def to_markdown(measured: Measured) -> str:
    """The figures as a table."""
    lines = [
        f"{measured.total:,} vectors of {measured.dimensions}; Chroma built in {measured.build_s:.1f} s",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one.vectors:,} | {one.exact_cold_ms:.2f} | {one.exact_ms:.2f} | {one.chroma_ms:.2f} | {one.index_ms:.2f} "
        f"| {one.chroma_recall:.4f} | {one.index_recall:.4f} |"
        for one in measured.sizes
    ]
    return "\n".join(lines)


def _searched(
    table: SqliteVectors, index: VectorIndex, chroma: ChromaIndex, key: SessionKey, size: int, queries: Vectors
) -> Searched:
    exact = ExactIndex(table, MODEL, max_bytes=1 << 30)

    def cold(query: Vectors) -> None:
        exact.clear()
        exact.search(key, query, k=K)

    near = [set(exact.search(key, query, k=K)[0].tolist()) for query in queries]
    return Searched(
        vectors=size,
        exact_cold_ms=_median_ms(cold, queries[:5]),
        exact_ms=_median_ms(lambda query: exact.search(key, query, k=K), queries),
        chroma_ms=_median_ms(lambda query: chroma.search(key, query, k=K), queries),
        index_ms=_median_ms(lambda query: index.search(key, query, k=K), queries),
        chroma_recall=_share(near, [chroma.search(key, query, k=K).tolist() for query in queries]),
        index_recall=_share(near, [index.search(key, query, k=K)[0].tolist() for query in queries]),
    )


def _share(right: Sequence[set[int]], found: Sequence[list[int]]) -> float:
    return float(np.mean([len(one & set(got)) / max(1, len(one)) for one, got in zip(right, found, strict=True)]))


def _median_ms(run: Callable[[Vectors], object], queries: Vectors) -> float:
    taken = []
    for query in queries:
        started = time.perf_counter()
        run(query)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken)) * 1e3
