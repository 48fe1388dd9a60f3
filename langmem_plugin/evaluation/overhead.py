"""What the memory costs beside the model: milliseconds to add a turn and to build a request."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, product
from pathlib import Path
from typing import Any

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.keyring import FolderKeyRing
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.session import Session

_SYLLABLES = ("ba", "del", "ki", "mor", "nu", "pas", "ri", "sol", "ta", "ven", "wi", "zer", "lo", "gra", "fe")


_FUNCTION_WORDS = ("the", "to", "i", "and", "a", "you", "it", "that", "of", "is")


def _vocabulary(size: int = 8_000) -> list[str]:
    """Function words, which no index holds, then made-up words of two to four syllables, each once.

    With ten of them a term is in 20 % of the messages at most, the tenth in 10 %, the fortieth in 5 %,
    as in LoCoMo's conversations.
    """
    words = list(_FUNCTION_WORDS)
    for length in (2, 3, 4):
        words += ["".join(parts) for parts in product(_SYLLABLES, repeat=length)][: size - len(words)]
    return words


_WORDS = _vocabulary()
_WEIGHTS = list(accumulate(1 / rank for rank in range(1, len(_WORDS) + 1)))
"""Cumulative, by Zipf's law: as in real text, few words are frequent and most are rare."""
UNTIMED = 20
"""Turns before those that are timed: a session that is filled many turns at a time is seldom asked meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """Figures at one length of history; milliseconds, medians and 95th percentiles."""

    messages: int
    add_ms: float
    add_p95_ms: float
    context_ms: float
    context_p95_ms: float
    both_ms: float
    """Median of adding a turn and building the next request together."""
    first_ms: float
    """The first request of a process that has just opened the database, nothing read before."""


def measure(
    lengths: Sequence[int] = (100, 1_000, 10_000),
    *,
    budget: int = 4_000,
    rounds: int = 50,
    fill: int = 1,
    encrypted: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[Overhead]:
    """Fill a session on a SQLite file, then time turns of two messages and the requests between them.

    No embedder and no summariser, so that only the memory's own work is timed; keyword
    recall, constraints, window and extract are on. While the session is filled, a request
    is built every twentieth message, as of a session in use.

    Args:
        lengths: Messages of history at which to measure, ascending.
        budget: Tokens of a request.
        rounds: Turns that are timed at each length, after twenty that are not.
        fill: Exchanges that one transaction writes while the session is filled; requests are built as seldom.
        encrypted: Seal what is said, with a key ring in a folder beside the database.
        progress: Called with a line now and then.
    """
    chance = random.Random(7)  # noqa: S311 - the same conversation each time
    config = MemoryConfig(budget=Budget(max_tokens=budget, completion=0))
    results = []
    with tempfile.TemporaryDirectory() as folder, Memory.open(**_settings(folder, config, encrypted)) as memory:
        session = memory.session("bench", owner="bench")
        written = 0
        for length in lengths:
            filled(session, length - written, chance=chance, fill=fill, progress=progress)
            memory.wait()
            turns = [turn(session, chance=chance, budget=budget) for _ in range(UNTIMED + rounds)]
            written = max(written, length) + 2 * len(turns)
            contexts, adds = zip(*turns[UNTIMED:], strict=True)
            with Memory.open(**_settings(folder, config, encrypted)) as opened:
                started = time.perf_counter()
                opened.session("bench", owner="bench").context(said(chance) + "?")
                first = (time.perf_counter() - started) * 1_000
            results.append(
                Overhead(
                    messages=length,
                    add_ms=statistics.median(adds),
                    add_p95_ms=_p95(adds),
                    context_ms=statistics.median(contexts),
                    context_p95_ms=_p95(contexts),
                    both_ms=statistics.median(a + c for a, c in zip(adds, contexts, strict=True)),
                    first_ms=first,
                )
            )
    return results


def filled(
    session: Session, messages: int, *, chance: random.Random, fill: int, progress: Callable[[str], None] | None = None
) -> None:
    """Add so many messages, `fill` exchanges at a time, and ask now and then."""
    written = 0
    while written < messages:
        some = min(fill, (messages - written + 1) // 2)
        session.add(*(part for _ in range(some) for part in (said(chance), assistant(said(chance)))))
        written += 2 * some
        if fill > 1 or written % 20 == 0:
            session.context(said(chance) + "?")
        if progress and written % 2_000 == 0:
            progress(f"{written} messages")


def turn(session: Session, *, chance: random.Random, budget: int) -> tuple[float, float]:
    """Milliseconds to build a request, and to add the turn that follows.

    Raises:
        AssertionError: The request is longer than the budget.
    """
    started = time.perf_counter()
    context = session.context(said(chance) + "?", system="You are a helpful assistant.")
    between = time.perf_counter()
    session.add(said(chance), assistant(said(chance)))
    ended = time.perf_counter()
    if context.report.tokens_used > budget:
        raise AssertionError(f"{context.report.tokens_used} tokens, the budget is {budget}")
    return (between - started) * 1_000, (ended - between) * 1_000


def to_markdown(results: Sequence[Overhead]) -> str:
    """The figures as a table."""
    lines = [
        "| messages of history | add a turn, ms (p95) | build a request, ms (p95) | both, ms | just opened, ms |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r.messages:,} | {r.add_ms:.1f} ({r.add_p95_ms:.1f}) | {r.context_ms:.1f} ({r.context_p95_ms:.1f}) "
        f"| {r.both_ms:.1f} | {r.first_ms:.1f} |"
        for r in results
    ]
    return "\n".join(lines)


def _settings(folder: str, config: MemoryConfig, encrypted: bool) -> dict[str, Any]:
    ring = FolderKeyRing(Path(folder) / "keys") if encrypted else None
    return {"url": f"sqlite:///{Path(folder) / 'm.db'}", "config": config, "encryption": ring}


def said(chance: random.Random) -> str:
    """Eight to forty made-up words."""
    return " ".join(chance.choices(_WORDS, cum_weights=_WEIGHTS, k=chance.randint(8, 40)))


def _p95(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]
