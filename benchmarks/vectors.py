"""Exact search and Chroma beside each other: time by size of session, and how much Chroma misses.

Prints Markdown tables. `python benchmarks/vectors.py [--vectors 20000] [--dimensions 384]`
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from langmem_plugin.messages import user
from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.exact_index import ExactIndex
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.vector_table import MemoryVectorTable

MODEL = "benchmark"


class SqliteVectors(MemoryVectorTable):
    """The stored vectors in a SQLite file, as blobs, so that reading them costs what it costs."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._db = sqlite3.connect(file, check_same_thread=False)
        self._db.execute("CREATE TABLE v (s TEXT, seq INTEGER, row BLOB, PRIMARY KEY (s, seq)) WITHOUT ROWID")

    def fill(self, key: SessionKey, rows: Vectors) -> None:
        """Store the rows as entries 1, 2, ..."""
        with self._lock, self._db:
            self._db.executemany(
                "INSERT INTO v VALUES (?, ?, ?)", ((key.session, i + 1, row.tobytes()) for i, row in enumerate(rows))
            )

    def vectors(self, key: SessionKey, model: str, *, after: int = 0) -> tuple[Seqs, Vectors]:
        """Every stored vector past `after`, ascending."""
        return self._read("seq > ?", key, [after])

    def vectors_of(self, key: SessionKey, model: str, seqs: object) -> tuple[Seqs, Vectors]:
        """The stored vectors of these entries, ascending."""
        wanted = [int(seq) for seq in seqs]  # type: ignore[attr-defined]
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


def median_ms(run: Callable[[], object], times: int) -> float:
    """The median of some runs, in milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1e3


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--sessions", default="200,1000,5000,20000")
    parser.add_argument("--dimensions", type=int, default=384)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, options.dimensions)).astype(np.float32)

    def draw(count: int) -> Vectors:
        rows = centres[rng.integers(0, 200, count)] + 1.2 * rng.normal(size=(count, options.dimensions))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    with tempfile.TemporaryDirectory() as folder:
        table = SqliteVectors(Path(folder) / "log.db")
        sizes = [int(size) for size in options.sessions.split(",")]
        keys = [SessionKey("o", f"of {size}") for size in sizes]
        for key, size in zip(keys, sizes, strict=True):
            table.fill(key, draw(size))
            table.commit(key, user("x"))
        for rest in range(max(0, options.vectors - sum(sizes)) // 1_000):
            table.fill(SessionKey("o", f"rest {rest}"), draw(1_000))
        total = table.count_vectors(MODEL)
        index = VectorIndex(table, MODEL, Path(folder) / "vectors", exact_max=0)
        start = time.perf_counter()
        index.wait()
        print(f"{total} vectors of {options.dimensions}; Chroma built in {time.perf_counter() - start:.1f} s\n")
        chroma = index._chroma  # noqa: SLF001 - measured by itself
        assert isinstance(chroma, ChromaIndex)  # noqa: S101
        print(
            "| session | exact, cold ms | exact, warm ms | Chroma alone ms | VectorIndex by Chroma ms | by exact ms "
            "| Chroma recall@20 | re-ranked recall@20 |\n|---|---|---|---|---|---|---|---|"
        )
        small = VectorIndex(table, MODEL, exact_max=10**9)
        for key, size in zip(keys, sizes, strict=True):
            exact = ExactIndex(table, MODEL, max_bytes=1 << 30)
            queries = draw(50)
            each = iter(np.tile(queries, (40, 1)))

            def cold(key: SessionKey = key, exact: ExactIndex = exact, queries: Vectors = queries) -> None:
                exact.clear()
                exact.search(key, queries[0], k=20)

            figures = [
                median_ms(cold, 5),
                median_ms(lambda: exact.search(key, next(each), k=20), 50),  # noqa: B023
                median_ms(lambda: chroma.search(key, next(each), k=20), 50),  # noqa: B023
                median_ms(lambda: index.search(key, next(each), k=20), 50),  # noqa: B023
                median_ms(lambda: small.search(key, next(each), k=20), 50),  # noqa: B023
            ]
            alone, ranked = [], []
            for query in queries:
                right = set(exact.search(key, query, k=20)[0].tolist())
                alone.append(len(right & set(chroma.search(key, query, k=20).tolist())) / 20)
                ranked.append(len(right & set(index.search(key, query, k=20)[0].tolist())) / 20)
            cells = [f"{figure:.2f}" for figure in figures] + [f"{np.mean(alone):.4f}", f"{np.mean(ranked):.4f}"]
            print(f"| {size} | " + " | ".join(cells) + " |", flush=True)
        start = time.perf_counter()
        index.close()
        print(f"\nclosed, files made durable and noted, in {time.perf_counter() - start:.2f} s")
        for name, unclean in (("clean close", False), ("crash", True)):
            if unclean:
                (Path(folder) / "vectors" / "clean.json").unlink()
            start = time.perf_counter()
            index = VectorIndex(table, MODEL, Path(folder) / "vectors", exact_max=0)
            claimed = time.perf_counter() - start
            index.wait()
            took = time.perf_counter() - start
            print(f"after a {name}: open {claimed * 1e3:.1f} ms, Chroma ready behind in {took:.2f} s")
            index.close()


if __name__ == "__main__":
    main()
