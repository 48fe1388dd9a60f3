"""What the memory is compared with: sending everything, and a plain sliding window of the same budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langmem_plugin.messages import Message, Role
from langmem_plugin.tokens import TokenCounter


def everything(system: Message, history: Sequence[Message], new: Message) -> tuple[Message, ...]:
    """The request that forgets nothing."""
    return (system, *history, new)


def sliding_window(
    system: Message,
    history: Sequence[Message],
    new: Message,
    *,
    counter: TokenCounter,
    budget: int,
    tools: Sequence[Mapping[str, Any]] = (),
) -> tuple[Message, ...]:
    """The newest whole exchanges that fit `budget` tokens beside system prompt, tools and the new message."""
    room = budget - counter.count_request((system, new), tools)
    kept: list[Message] = []
    exchange: list[Message] = []
    for message in reversed(history):
        exchange.insert(0, message)
        if message.role is not Role.USER:
            continue
        room -= sum(counter.count_message(one) for one in exchange)
        if room < 0:
            break
        kept = exchange + kept
        exchange = []
    return (system, *kept, new)
