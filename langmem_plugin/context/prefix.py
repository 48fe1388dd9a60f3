"""How much of a request repeats the beginning of the one before it (guarantee G13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from langmem_plugin.context.counting import Counter
from langmem_plugin.messages import Message


def prefix_tokens(previous: Sequence[Message] | None, current: Sequence[Message], counter: Counter) -> int:
    """Tokens at the beginning of `current` that `previous` began with.

    Whole messages that are equal, and of the first that differs the text that both
    begin with. Ids and usage are not sent, so they do not count.
    """
    if not previous:
        return 0
    tokens = 0
    for before, now in zip(previous, current, strict=False):
        if before is now or _sent(before) == _sent(now):
            tokens += counter.count_message(now)
            continue
        if before.role is now.role and before.name == now.name:
            tokens += counter.count(_common(before.text, now.text))
        break
    return tokens


def _sent(message: Message) -> Message:
    return replace(message, id=None, usage=None, metadata={}, payload=None)


def _common(a: str, b: str) -> str:
    """The text that both begin with; halves the range, so that long texts are compared by blocks."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return a[:low]
