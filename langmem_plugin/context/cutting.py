"""Texts made shorter, with the cut marked."""

from __future__ import annotations

import re
from collections.abc import Callable

from langmem_plugin.context.rendering import CUT

_SENTENCE = re.compile(r"[^.!?。！？\n]*(?:[.!?。！？]+[\"')\]]*(?=\s|$)|[。！？]+|\n+|$)|[^\n]+")  # noqa: RUF001
_WORD = re.compile(r"\w+")


def cut_middle(text: str, *, max_tokens: int, count: Callable[[str], int]) -> str:
    """The beginning and the end of a text, at most `max_tokens`; "" if not even the mark fits."""
    return _cut(text, max_tokens, count, tail=0.5)


def cut_end(text: str, *, max_tokens: int, count: Callable[[str], int]) -> str:
    """The beginning of a text, at most `max_tokens`; "" if not even the mark fits."""
    return _cut(text, max_tokens, count, tail=0.0)


def _cut(text: str, max_tokens: int, count: Callable[[str], int], *, tail: float) -> str:
    # No tokenizer's common tokens average more than 12 characters: a longer text is not counted whole.
    if len(text) <= max_tokens * 12 and count(text) <= max_tokens:
        return text
    if max_tokens <= 0:
        return ""
    chars = min(len(text) - 1, max_tokens * 6)
    while chars > 0:
        back = int(chars * tail)
        short = text[: chars - back].rstrip() + CUT + (text[len(text) - back :].lstrip() if back else "")
        short = short.rstrip() if not back else short
        if (tokens := count(short)) <= max_tokens:
            return short
        chars = min(chars - 1, int(chars * max_tokens / tokens * 0.95))
    mark = CUT.strip()
    return mark if count(mark) <= max_tokens else ""


def words(text: str) -> frozenset[str]:
    """The words of a text for comparing, case folded."""
    return frozenset(_WORD.findall(text.casefold()))


def _parts(text: str) -> list[str]:
    """The sentences of a text; joined they give the text."""
    return [match for match in _SENTENCE.findall(text) if match]


def keep_relevant(text: str, *, query: frozenset[str], max_tokens: int, count: Callable[[str], int]) -> str:
    """The sentences that share the most words with the query, in order, gaps marked."""
    parts = _parts(text)
    if len(parts) < 2:
        return cut_middle(text, max_tokens=max_tokens, count=count)
    overlap = [len(words(part) & query) for part in parts]
    order = sorted(range(len(parts)), key=lambda i: (-overlap[i], i))
    kept: set[int] = set()
    used = 0
    for i in order:
        cost = count(parts[i]) + 2
        if used + cost <= max_tokens:
            kept.add(i)
            used += cost
    if not kept:
        return cut_middle(parts[order[0]], max_tokens=max_tokens, count=count)
    out: list[str] = []
    last = -1
    for i in sorted(kept):
        if i != last + 1:
            out.append(CUT.strip() + " ")
        out.append(parts[i])
        last = i
    if last != len(parts) - 1:
        out.append(CUT.rstrip())
    return cut_end("".join(out).strip(), max_tokens=max_tokens, count=count)
