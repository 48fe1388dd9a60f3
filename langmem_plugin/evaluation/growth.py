"""What grows with long histories and many sessions: time, resident memory, waiting."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.evaluation import overhead
from langmem_plugin.evaluation.resident import resident_kib
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant

_FILL = 50
"""Exchanges written at once while the long history is made; each timed turn is a transaction of its own."""
_BUDGET = 4_000
"""Tokens of a request."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Figures of one run; times in milliseconds, memory in kibibytes."""

    short: int
    long: int
    """Messages of history at which a turn was timed."""
    short_ms: float
    long_ms: float
    """Median of adding a turn and building the next request."""
    sessions: int
    """Sessions opened in one process."""
    kept: int
    """Of them, how many stay in memory; the others come back on demand."""
    kib_per_session: float
    """Growth of resident memory, for each session that stays."""
    reopen_ms: float
    """Median for a request of a session that had left memory."""
    concurrent: int
    """Sessions that take a turn at the same time in one event loop."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    """Of a turn (request, answer, commit) among them, the work behind running."""

    @property
    def ratio(self) -> float:
        """How many times as long a turn takes with the long history."""
        return self.long_ms / self.short_ms


def measure(
    *,
    short: int = 100,
    long: int = 100_000,
    sessions: int = 10_000,
    kept: int = 10_000,
    concurrent: int = 500,
    rounds: int = 50,
    progress: Progress | None = None,
) -> Growth:
    """Measure on SQLite files, with keyword recall, constraints, window and extracts.

    Args:
        short: Messages of the short history.
        long: Messages of the long one.
        sessions: Sessions opened one after another, each with one turn and one request.
        kept: `MemoryConfig.open_sessions`.
        concurrent: Sessions that talk at the same time.
        rounds: Turns timed at each length, and turns of each concurrent session over 10.
        progress: Called with a line now and then.
    """
    tell = progress or (lambda _line: None)
    tell(f"{sessions} sessions")
    kib, reopen = _sessions(sessions, kept)  # first: later, memory that a long session gave back would be used anew
    short_ms, long_ms = _turns(short, long, rounds=rounds, progress=progress)
    tell(f"{concurrent} concurrent sessions")
    waited = sorted(asyncio.run(_concurrent(concurrent, max(1, rounds // 10))))

    def share(part: float) -> float:
        return waited[min(len(waited) - 1, int(len(waited) * part))]

    return Growth(
        short=short,
        long=long,
        short_ms=short_ms,
        long_ms=long_ms,
        sessions=sessions,
        kept=min(kept, sessions),
        kib_per_session=kib,
        reopen_ms=reopen,
        concurrent=concurrent,
        p50_ms=share(0.50),
        p95_ms=share(0.95),
        p99_ms=share(0.99),
    )


def to_markdown(found: Growth) -> str:
    """The figures as a table."""
    return "\n".join(
        [
            "| what | figure |",
            "|---|---:|",
            f"| a turn (add and request) at {found.short:,} messages, ms | {found.short_ms:.1f} |",
            f"| the same at {found.long:,} messages, ms | {found.long_ms:.1f} |",
            f"| ratio | {found.ratio:.2f} |",
            f"| resident memory for each of {found.kept:,} open sessions, KiB | {found.kib_per_session:.1f} |",
            f"| a request of a session that had left memory, ms | {found.reopen_ms:.1f} |",
            f"| a turn among {found.concurrent} concurrent sessions, ms: p50 | {found.p50_ms:.0f} |",
            f"| p95 | {found.p95_ms:.0f} |",
            f"| p99 | {found.p99_ms:.0f} |",
        ]
    )


def _turns(*lengths: int, rounds: int, progress: Progress | None) -> list[float]:
    """Medians of a turn at these lengths, one of each in turn, so that what else the machine does delays all alike."""
    config = MemoryConfig(budget=Budget(max_tokens=_BUDGET, completion=0))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sessions, chances = [], []
        for length in lengths:
            memory = stack.enter_context(Memory.open(f"sqlite:///{folder / f'{length}.db'}", config=config))
            sessions.append(memory.session("bench", owner="bench"))
            chances.append(random.Random(7))  # noqa: S311 - the same conversation each time
            overhead.filled(sessions[-1], length, chance=chances[-1], fill=_FILL, progress=progress)
            memory.wait()
        times = [
            [
                sum(overhead.turn(session, chance=chance, budget=_BUDGET))
                for session, chance in zip(sessions, chances, strict=True)
            ]
            for _ in range(overhead.UNTIMED + rounds)
        ]
    return [statistics.median(column) for column in zip(*times[overhead.UNTIMED :], strict=True)]


def _sessions(count: int, kept: int) -> tuple[float, float]:
    config = MemoryConfig(budget=Budget(max_tokens=2_000, completion=0), open_sessions=kept)
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(f"sqlite:///{Path(folder) / 'm.db'}", config=config) as memory,
    ):
        warm = min(count, 200)
        for number in range(warm):
            _talk(memory, number)
        gc.collect()
        before = resident_kib()
        for number in range(warm, count):
            _talk(memory, number)
        gc.collect()
        grown = max(1, min(kept, count) - warm)
        per_session = max(0.0, resident_kib() - before) / grown
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'm.db'}"
        few = config.model_copy(update={"open_sessions": 10})
        with Memory.open(url, config=few) as memory:
            for number in range(60):
                _talk(memory, number)
            times = []
            for number in range(40):  # the first have left memory
                started = time.perf_counter()
                memory.session(f"s{number}", owner="growth").context("And now?")
                times.append((time.perf_counter() - started) * 1_000)
    return per_session, sorted(times)[len(times) // 2]


def _talk(memory: Memory, number: int) -> None:
    session = memory.session(f"s{number}", owner="growth")
    session.add(f"I paid {number} euros in Lyon for the room by the river.", assistant("A fair price for May."))
    session.context("What did I pay?")


async def _concurrent(count: int, turns: int) -> list[float]:
    waited: list[float] = []
    config = MemoryConfig(budget=Budget(max_tokens=800, completion=0), open_sessions=max(count, 1))

    def turn(memory: Memory, number: int, place: int) -> None:
        session = memory.session(f"s{number}", owner="growth")
        with session.begin(f"Question {place} of {number}: what did I pay in Lyon?") as begun:
            begun.context(system="You help.")
            begun.append("A fair price for May, with breakfast and a view of the river.")

    async def talk(memory: Memory, number: int) -> None:
        for place in range(turns):
            started = time.perf_counter()
            await asyncio.to_thread(turn, memory, number, place)
            waited.append((time.perf_counter() - started) * 1_000)

    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(f"sqlite:///{Path(folder) / 'm.db'}", config=config) as memory,
    ):
        await asyncio.gather(*(talk(memory, number) for number in range(count)))
        await asyncio.to_thread(memory.wait)
    return waited
