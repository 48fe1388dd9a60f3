"""Which exchanges the request shows: a window that moves rarely (guarantee G13).

The boundary is not stored. It is derived from the log by a fold: exchanges are
added one by one, and when they weigh more than the high-water mark, the oldest
leave until the low-water mark is reached. So between two of these moments the
window only grows at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context.exchanges import group
from langmem_plugin.records import Entry

NEW_MESSAGE_SHARE = 0.10
"""The part of history's room that the window leaves for a new message."""


@dataclass(frozen=True, slots=True)
class Fold:
    """Where the fold stands after the last exchange, as positions in the list of exchanges."""

    start: int
    """The first exchange that is still shown."""
    bare: int
    """Exchanges before this one no longer repeat what recall put before their messages."""


def history_room(*, budget: Budget, system_tokens: int, constraints_tokens: int, tools_tokens: int) -> int:
    """Tokens that history may have: the prompt without what every request carries.

    The water marks are shares of it. It depends neither on the new message nor on what is
    recalled for it, so that the window does not move with them.
    """
    return max(0, budget.prompt - system_tokens - constraints_tokens - tools_tokens)


def summary_room(*, budget: Budget, config: MemoryConfig) -> int:
    """Tokens that the summary may have."""
    return min(config.summary.max_tokens, budget.tokens("summary"))


def sticky_room(*, budget: Budget, config: MemoryConfig) -> int:
    """How large a recalled block may be to be repeated with its message; 0 if none is.

    A larger one was sent by pushing the window back for one request; repeating it would
    push the window back for good.
    """
    return budget.tokens("recall") if config.recall.sticky else 0


def display_high(room: int, *, budget: Budget, config: MemoryConfig) -> int:
    """What the window may weigh before its oldest exchanges leave with no summary for them yet."""
    full = room - summary_room(budget=budget, config=config) - int(room * NEW_MESSAGE_SHARE)
    return max(full, int(room * config.window.high))


def weigh(exchange: Sequence[Entry], *, sticky: int) -> tuple[int, int]:
    """Tokens of an exchange: of its messages, and of what recall put before them."""
    own = attached = 0
    for entry in exchange:
        own += entry.tokens
        if entry.attachment is not None and 0 < entry.attachment.tokens <= sticky:
            attached += entry.attachment.tokens
    return own, attached


def fold(weights: Sequence[tuple[int, int]], *, high: int, low: int) -> Fold:
    """The state after all exchanges; the newest one always stays.

    Past the high-water mark, what recall put before old messages goes first. Exchanges
    leave only where their own words are too many.
    """
    start = bare = 0
    total = 0
    for position, (own, attached) in enumerate(weights):
        total += own + attached
        if total <= high or position == start:
            continue
        total -= sum(weight[1] for weight in weights[max(start, bare) : position + 1])
        bare = position + 1
        if total <= high:
            continue
        while total > low and start < position:
            total -= weights[start][0]
            start += 1
    return Fold(start, bare)


def plan(entries: Sequence[Entry], *, high: int, low: int) -> int:
    """The seq up to which entries should be summarised and leave; 0 for none.

    Only the conversation's own words count. What recall put before them goes without a summary.

    Args:
        entries: Every entry that no summary covers, oldest first.
        high: Tokens at which the oldest exchanges are planned out.
        low: Tokens that are then left.
    """
    exchanges = group(entries)
    start = fold([weigh(exchange, sticky=0) for exchange in exchanges], high=high, low=low).start
    return exchanges[start - 1][-1].seq if start else 0


def first_that_fits(weights: Sequence[int], room: int) -> int:
    """The oldest position from which all weights to the end fit; `len(weights)` if not even the last."""
    fitting = 0
    for total in accumulate(reversed(weights)):
        if total > room:
            break
        fitting += 1
    return len(weights) - fitting
