"""What the constraint rules cost: processor time for a message of 1,000 characters, and how it grows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from langmem_plugin.projections.constraints import find_constraints
from langmem_plugin.records import Constraint
from langmem_plugin.testing.checks import in_force

_CHARS = 1_000
_ROUNDS = 9
"""The best of so many counts: what else the machine does is no cost of the rules."""
_LONG = 1_000_000
_PARTS = (4, 2, 1)
"""Into how many messages the longest text is cut, to see how the cost of all of it grows with their length."""
_LONG_ROUNDS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCost:
    """Milliseconds for one message of 1,000 characters, and the growth up to a megabyte."""

    messages: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    long_ms: tuple[tuple[int, float], ...]
    """(characters, milliseconds)."""
    growth: float
    """The worse of time(2n)/time(n) among the long messages, which hold the same words; 2 is linear."""


def measure(texts: Sequence[str]) -> RuleCost:
    """The cost on real text, cut into messages of 1,000 characters, beside 20 constraints in force.

    Args:
        texts: What users wrote; joined and cut, so that each message is dense with speech.
    """
    joined = "\n".join(texts)
    messages = [joined[start : start + _CHARS] for start in range(0, len(joined) - _CHARS + 1, _CHARS)]
    held = _held()
    for message in messages[:20]:
        find_constraints(message, active=held)
    times = sorted(_best(message, held) for message in messages) or [0.0]
    long = (joined * (_LONG // len(joined) + 1))[:_LONG] if joined else ""
    rounds = [[_cut(long, parts, held) for parts in _PARTS] for _ in range(_LONG_ROUNDS)]
    return RuleCost(
        messages=len(messages),
        p50_ms=times[len(times) // 2],
        p95_ms=times[int(len(times) * 0.95)],
        max_ms=times[-1],
        long_ms=tuple(
            (_LONG // parts, min(times)) for parts, times in zip(_PARTS, zip(*rounds, strict=True), strict=True)
        ),
        growth=max(_growth(rounds, place) for place in range(1, len(_PARTS))),
    )


def to_markdown(cost: RuleCost) -> str:
    """The cost as a table."""
    long = ", ".join(f"{size:,}: {ms:,.0f} ms" for size, ms in cost.long_ms)
    return (
        "| messages of 1,000 characters | p50 | p95 | longest | by characters | worst time(2n)/time(n) |\n"
        "|---:|---:|---:|---:|---|---:|\n"
        f"| {cost.messages} | {cost.p50_ms:.3f} ms | {cost.p95_ms:.3f} ms | {cost.max_ms:.3f} ms | {long} "
        f"| {cost.growth:.2f} |\n"
    )


def _growth(rounds: Sequence[Sequence[float]], place: int) -> float:
    """By what a length takes longer than the one before: the median of the rounds."""
    return statistics.median(times[place] / max(times[place - 1], 1e-9) for times in rounds)


def _cut(text: str, parts: int, held: Sequence[Constraint]) -> float:
    """The mean milliseconds for the text's parts, each a message."""
    size = len(text) // parts
    pieces = [text[part * size : (part + 1) * size] for part in range(parts)]
    start = time.thread_time()
    for piece in pieces:
        find_constraints(piece, active=held)
    return (time.thread_time() - start) / parts * 1_000


def _best(message: str, held: Sequence[Constraint]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.thread_time()
        find_constraints(message, active=held)
        best = min(best, time.thread_time() - start)
    return best * 1_000


def _held() -> tuple[Constraint, ...]:
    texts = [f"Never suggest place number {number}." for number in range(18)]
    return in_force(*texts, "I live in Paris.", "My budget is 500 euros.")
