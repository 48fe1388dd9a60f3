"""A message cut into statements: sentences, and within a sentence what is said and what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1_200
"""Characters of one sentence that are read as a whole; a longer one is cut at a space, so work stays linear."""

_END = re.compile(
    # One set first: the engine then skips to the next mark.
    r"[.!?…。！？；｡\n](?:(?<=[.!?…])(?<![.!?…]{2})[.!?…]*+[\"”'’)\]]{0,4}(?=\s|$)"
    r"|(?<=[。！？；｡])[。！？；｡]*+[」』”]?|(?<=\n)\n*+)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|dr|mr|mrs|ms|prof|st|no|approx|inc|ltd|jr|sr|fig|al|z\.b|bzw|ca|usw|nr|p\.ex|sra?|art|ej|"
    r"bv|[A-Za-z])|\d)\.$",
    re.IGNORECASE,
)
_BULLET = re.compile(r"\s*(?:[-*•·–—+]\s+|\(?\d{1,2}[.)]\s+|[a-z]\)\s+|#{1,6}\s+)?")


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the sentences, in order, without leading bullets and surrounding space.

    A newline always ends a sentence, as does an ideographic full stop; a full stop does
    when space follows and it neither ends an abbreviation nor precedes a small letter.
    """
    start = 0
    for found in _END.finditer(text):
        mark = found.group()
        end = found.end()
        if mark == "." and end < len(text):
            if _ABBREVIATION.search(text, max(start, end - 8), end) and text[end : end + 1] != "\n":
                after = text[end : end + 3].strip()
                if not after[:1].isupper() or not text[end - 2 : end - 1].isdigit():
                    continue
            elif text[end + 1 : end + 2].islower():
                continue
        yield from _pieces(text, start, end)
        start = end
    yield from _pieces(text, start, len(text))


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The span trimmed, in parts of at most `LONGEST` characters."""
    while end - start > LONGEST:
        cut = text.rfind(" ", start + LONGEST // 2, start + LONGEST)
        cut = cut if cut > 0 else start + LONGEST
        yield from _trimmed(text, start, cut)
        start = cut
    yield from _trimmed(text, start, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end and text[start].isspace():
        start += 1
    if (start < end and not text[start].isalpha()) or text[start + 1 : start + 2] == ")":
        bullet = _BULLET.match(text, start, end)
        start = bullet.end() if bullet else start
    while end > start and text[end - 1].isspace():
        end -= 1
    if end - start >= 3:
        yield start, end
