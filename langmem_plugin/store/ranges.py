"""Sets of whole numbers as ranges: [[1, 50], [52, 60]]. A log that is worked through in order makes one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

Ranges: TypeAlias = list[list[int]]
"""First and last of each range, ascending, never adjacent."""


def ranges_of(numbers: Iterable[int]) -> Ranges:
    """The numbers as ranges."""
    out: Ranges = []
    for number in sorted(set(numbers)):
        if out and number == out[-1][1] + 1:
            out[-1][1] = number
        else:
            out.append([number, number])
    return out


def joined(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> Ranges:
    """Every number of either."""
    out: Ranges = []
    for first, last in sorted([*one, *other], key=lambda both: both[0]):
        if out and first <= out[-1][1] + 1:
            out[-1][1] = max(out[-1][1], last)
        else:
            out.append([first, last])
    return out


def without(one: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> Ranges:
    """The numbers of the first that the other has not."""
    out = [list(both) for both in one]
    for first, last in other:
        left: Ranges = []
        for a, b in out:
            if b < first or a > last:
                left.append([a, b])
                continue
            if a < first:
                left.append([a, first - 1])
            if b > last:
                left.append([last + 1, b])
        out = left
    return out


def count(ranges: Iterable[Sequence[int]]) -> int:
    """How many numbers there are."""
    return sum(last - first + 1 for first, last in ranges)


def numbers(ranges: Iterable[Sequence[int]]) -> Iterator[int]:
    """The numbers, ascending."""
    for first, last in ranges:
        yield from range(first, last + 1)
