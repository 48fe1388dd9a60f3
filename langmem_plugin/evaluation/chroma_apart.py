"""What it costs to have Chroma in a child process: the same calls to one there, and to one in the process that asks.

python -m langmem_plugin.evaluation.chroma_apart [--vectors 50000] [--dimensions 384]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from langmem_plugin.evaluation.resident import resident_kib
from langmem_plugin.projections.chroma_collection import in_folder
from langmem_plugin.projections.chroma_index import ChromaIndex, collection_name
from langmem_plugin.projections.vector_table import Vectors
from langmem_plugin.records import SessionKey

_MODEL: Final = "measured"
_KEY: Final = SessionKey("o", "s")
_K: Final = 36
"""Hits of a search: the twenty that recall asks for, and some more."""
_PARTS: Final = 10
_SEARCHES: Final = 10
_ADDED: Final = 100
_ROWS: Final = (
    ("until Chroma is open, s", "open_s", ".2f"),
    ("all vectors put in, s", "build_s", ".1f"),
    ("a search, median, ms", "search_ms", ".1f"),
    ("a search, 95 % within, ms", "search_p95_ms", ".1f"),
    ("100 vectors added, median, ms", "add_ms", ".1f"),
    ("memory of the process that asks, MB", "host_mb", ",.0f"),
    ("memory of the child, MB", "child_mb", ",.0f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Of one way to have Chroma; memory is resident, 0 where the system does not say."""

    open_s: float
    build_s: float
    search_ms: float
    search_p95_ms: float
    add_ms: float
    host_mb: float
    child_mb: float


def measure(*, vectors: int = 50_000, dimensions: int = 384, turns: int = 20) -> tuple[Figures, Figures]:
    """With a child, and without: each asked by a process of its own, by turns, so that other load meets both.

    Args:
        vectors: Of the one session, drawn around 200 centres, always the same ones.
        dimensions: Numbers of a vector.
        turns: Of ten searches and one addition each.
    """
    sizes = {"--vectors": vectors, "--dimensions": dimensions, "--turns": turns}
    command = [sys.executable, "-m", __spec__.name, *(str(part) for pair in sizes.items() for part in pair), "--one"]
    with ExitStack() as stack:
        both = [
            stack.enter_context(
                subprocess.Popen([*command, way], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
            )
            for way in ("child", "here")
        ]
        said: list[list[list[float]]] = [[], []]
        for _ in range(1 + _PARTS + turns + 1):
            for one, so_far in zip(both, said, strict=True):
                if one.stdin is None or one.stdout is None:
                    raise OSError
                one.stdin.write("go\n")
                one.stdin.flush()
                so_far.append(json.loads(one.stdout.readline()))
        with_child, without = map(_figures, said)
        return with_child, without


def _figures(said: list[list[float]]) -> Figures:
    (open_s,), *puts = said[: 1 + _PARTS]
    *turns, (host_mb, child_mb) = said[1 + _PARTS :]
    searches = [ms for turn in turns for ms in turn[:-1]]
    return Figures(
        open_s=open_s,
        build_s=sum(took for (took,) in puts),
        search_ms=float(np.median(searches)),
        search_p95_ms=float(np.percentile(searches, 95)),
        add_ms=float(np.median([turn[-1] for turn in turns])),
        host_mb=host_mb,
        child_mb=child_mb,
    )


def to_markdown(with_child: Figures, without: Figures) -> str:
    """The figures as a table."""
    lines = ["| | in a child process | in the same process |", "|---|---:|---:|"]
    for title, name, form in _ROWS:
        lines.append(f"| {title} | {getattr(with_child, name):{form}} | {getattr(without, name):{form}} |")
    return "\n".join(lines)


def _steps(*, apart: bool, vectors: int, dimensions: int, turns: int, folder: Path) -> Iterator[list[float]]:
    """What one process measures, step by step: seconds, then milliseconds, then megabytes."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(200, dimensions)).astype(np.float32)

    def draw(count: int) -> Vectors:
        rows = centres[chance.integers(0, 200, count)] + 1.2 * chance.normal(size=(count, dimensions))
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)

    started = time.perf_counter()
    if apart:
        index = ChromaIndex.in_folder(folder, _MODEL)
    else:
        name = collection_name(_MODEL)
        index = ChromaIndex(in_folder(str(folder), name), name, folder=folder)
    yield [time.perf_counter() - started]
    for part in np.array_split(np.arange(1, vectors + 1), _PARTS):
        rows = draw(len(part))
        yield [_ms(partial(index.put, _KEY, part, rows)) / 1_000]
    index.search(_KEY, draw(1)[0], k=_K)
    for turn in range(turns):
        added, rows = vectors + 1 + turn * _ADDED + np.arange(_ADDED), draw(_ADDED)
        searches = [_ms(partial(index.search, _KEY, query, k=_K)) for query in draw(_SEARCHES)]
        yield [*searches, _ms(partial(index.put, _KEY, added, rows))]
    yield [resident_kib() / 1_024, resident_kib(index.pid) / 1_024 if index.pid is not None else 0.0]
    index.close()


def _ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return 1_000 * (time.perf_counter() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure both ways and print the table."""
    parser = argparse.ArgumentParser(prog="python -m langmem_plugin.evaluation.chroma_apart", description=__doc__)
    parser.add_argument("--vectors", type=int, default=50_000, metavar="N", help="of the session (50000)")
    parser.add_argument("--dimensions", type=int, default=384, metavar="N", help="of a vector (384)")
    parser.add_argument("--turns", type=int, default=20, metavar="N", help="of ten searches and one addition (20)")
    parser.add_argument("--one", choices=("child", "here"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one is None:
        print(to_markdown(*measure(vectors=given.vectors, dimensions=given.dimensions, turns=given.turns)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        steps = _steps(
            apart=given.one == "child",
            vectors=given.vectors,
            dimensions=given.dimensions,
            turns=given.turns,
            folder=Path(folder) / "index",
        )
        while sys.stdin.readline() and (found := next(steps, None)) is not None:
            print(json.dumps(found), flush=True)
        next(steps, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
