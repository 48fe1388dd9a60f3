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
    seen: dict[str, list[tuple[frozenset[str], frozenset[str]]]] = {}
    for place, text in enumerate(texts):
        words = frozenset(text[:_MAX_CHARS].lower().split())
        numbers = frozenset(_NUMBER.findall(text[:_MAX_CHARS]))
        keys = sorted(sorted(words), key=len)[-2:] or [""]
        if any(_same(words, numbers, other) for key in keys for other in seen.get(key, ())):
            continue
        kept.append(place)
        for key in keys:
            seen.setdefault(key, []).append((words, numbers))
    return kept


def _same(words: frozenset[str], numbers: frozenset[str], other: tuple[frozenset[str], frozenset[str]]) -> bool:
    if numbers != other[1]:
        return False
    if not words:
        return not other[0]
    return len(words & other[0]) >= SAME * len(words | other[0])
