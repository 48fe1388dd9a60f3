"""How many turns a second are made durable, by one process and by several, on SQLite and on PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from langmem_plugin.testing.servers import postgres_server
from langmem_plugin.testing.soak import writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What so many processes, each with one thread and a session of its own, wrote together."""

    database: str
    processes: int
    turns_per_second: float
    p50_ms: float
    p99_ms: float


def measure(
    *,
    processes: Sequence[int] = (1, 4),
    turns: int = 500,
    postgres: bool = False,
    url: str | None = None,
    progress: Callable[[str], object] = lambda _line: None,
) -> list[Rate]:
    """Write turns of two messages as fast as each returns, durably.

    Args:
        processes: How many at once, one after the other.
        turns: Of each process, timed; 20 before them are not.
        postgres: Also on a PostgreSQL server of its own.
        url: On this database instead; it should be empty.
        progress: Called with a line now and then.
    """
    found = []

    def rate(database: str, at: str, count: int) -> None:
        progress(f"{count} processes, {database}")
        times, taken = writing(at, processes=count, turns=turns)
        found.append(
            Rate(
                database=database,
                processes=count,
                turns_per_second=len(times) / taken,
                p50_ms=times[len(times) // 2],
                p99_ms=times[int(len(times) * 0.99)],
            )
        )

    with tempfile.TemporaryDirectory() as folder:
        for count in processes:
            rate("yours" if url else "SQLite", url or f"sqlite:///{Path(folder) / f'{count}.db'}", count)
        if postgres:
            with postgres_server(Path(folder) / "pg") as server:
                for count in processes:
                    rate("PostgreSQL", server.get_uri(), count)
    return found


def to_markdown(found: Sequence[Rate]) -> str:
    """A row a trial."""
    lines = ["| database | processes | turns a second | median ms | 99th percentile ms |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {one.database} | {one.processes} | {one.turns_per_second:,.0f} | {one.p50_ms:.1f} | {one.p99_ms:.1f} |"
        for one in found
    ]
    return "\n".join(lines)
