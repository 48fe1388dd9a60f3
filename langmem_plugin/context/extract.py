"""A summary without a model: the sentences that carry facts, word for word."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from langmem_plugin.context.cutting import cut_end, sentences
from langmem_plugin.context.rendering import speaker
from langmem_plugin.messages import Message, Role

_FACT = re.compile(
    r"\d|\b(?:not|never|no|don't|won't|must|always|only|decided|agreed|will|prefer|need)\b|(?<=[a-z,] )[A-Z][a-z]+",
    re.UNICODE,
)


def extract(messages: Sequence[Message], *, count: Callable[[str], int], max_tokens: int, previous: str = "") -> str:
    """The sentences with names, numbers, dates and negations, newest kept first, in their order.

    Args:
        messages: What the extract stands for, oldest first.
        count: Tokens of a text.
        max_tokens: The extract has at most this many.
        previous: An earlier extract, kept while it fits.
    """
    lines: list[tuple[int, int, str]] = []
    for position, message in enumerate(messages):
        if message.role not in (Role.USER, Role.ASSISTANT):
            continue
        for part in sentences(message.text[:4_000]):
            line = part.strip()
            if line:
                lines.append((len(_FACT.findall(line)), position, f"{speaker(message)}: {line}"))
    kept: list[tuple[int, str]] = []
    used = 0
    for facts, position, line in sorted(lines, key=lambda item: (-min(item[0], 3), -item[1])):
        cost = count(line) + 1
        if facts and used + cost <= max_tokens:
            kept.append((position, line))
            used += cost
    body = "\n".join(line for _, line in sorted(kept, key=lambda item: item[0]))
    text = f"{previous}\n{body}" if previous and body else previous or body
    return cut_end(text, max_tokens=max_tokens, count=count)
