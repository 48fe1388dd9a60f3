"""Near-duplicates among what was found: the same thing said twice is sent once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

SAME: Final = 0.9
"""Share of common words from which two messages count as the same."""
_MAX_CHARS: Final = 4_000
_NUMBER: Final = re.compile(r"\d+")


def keep_distinct(texts: Sequence[str]) -> list[int]:
    """Places of the texts that say something new, in the given order.

    A text is left out when an earlier one has nearly all its words and the same
    numbers. Each is compared only with those that share one of its two longest words.
    """
    kept: list[int] = []
    seen: dict[str, list[tuple[frozenset[str], str]]] = {}
    for place, text in enumerate(texts):
        text = text[:_MAX_CHARS]  # noqa: PLW2901 - the rest is never looked at
        words = frozenset(text.lower().split())
        keys = _two_longest(words)
        if any(_same(words, text, *other) for key in keys for other in seen.get(key, ())):
            continue
        kept.append(place)
        for key in keys:
            seen.setdefault(key, []).append((words, text))
    return kept


def _two_longest(words: frozenset[str]) -> tuple[str, ...]:
    first = second = (0, "")
    for word in words:
        one = (len(word), word)
        if one > first:
            first, second = one, first
        elif one > second:
            second = one
    return (first[1], second[1])


def _same(words: frozenset[str], text: str, others: frozenset[str], other: str) -> bool:
    few, many = sorted((len(words), len(others)))
    if few < SAME * many or len(words & others) < SAME * len(words | others):
        return False
    return text == other or frozenset(_NUMBER.findall(text)) == frozenset(_NUMBER.findall(other))
