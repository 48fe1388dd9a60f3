"""A message cut into statements: sentences, and within a sentence what is said and what is asked."""

from __future__ import annotations

import re

LONGEST = 1_200
"""Characters of one sentence that are read as a whole; a longer one is cut at a space, so work stays linear."""

_END = re.compile(
    # One set first: the engine then skips to the next mark.
    r"[.!?…。！？；｡\n](?:(?<=[.!?…])(?<![.!?…]{2})[.!?…]*+[\"”'’)\]]{0,4}(?=\s|$)\n*+"
    r"|(?<=[。！？；｡])[。！？；｡]*+[」』”]?|(?<=\n)\n*+)"
)
_END_ASCII = re.compile(r"[.!?\n](?:(?<=[.!?])(?<![.!?]{2})[.!?]*+[\"')\]]{0,4}(?=\s|$)\n*+|(?<=\n)\n*+)")
"""The same for text that holds nothing beyond ASCII, in less time."""
_SHORTENED = (
    r"e\.g|i\.e|etc|vs|dr|mr|mrs|ms|prof|st|no|approx|inc|ltd|jr|sr|fig|al|z\.b|bzw|ca|usw|nr|p\.ex|sra|art|ej|bv"
)
_ABBREVIATION = re.compile(rf"(?:\b(?:{_SHORTENED}|[A-Za-z])|\d)\.$", re.IGNORECASE)
_LAST_TWO = frozenset(word[-2:] for word in _SHORTENED.split("|"))
_BULLET = re.compile(r"\s*(?:[-*•·–—+]\s+|\(?\d{1,2}[.)]\s+|[a-z]\)\s+|#{1,6}\s+)?")


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences, in order, without leading bullets and surrounding space.

    A newline always ends a sentence, as does an ideographic full stop; a full stop does
    when space follows and it neither ends an abbreviation nor precedes a small letter.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    length = len(text)
    for found in (_END_ASCII if text.isascii() else _END).finditer(text):
        mark, end = found.span()
        if end - mark == 1 and end < length and text[mark] == ".":
            before = text[mark - 2 : mark]
            # Most words end in other letters than those shortened, and a single letter follows no letter.
            if (
                not (before.isalpha() and before.isascii() and before.lower() not in _LAST_TWO)
                and _ABBREVIATION.search(text, max(start, end - 8), end) is not None
            ):
                after = text[end : end + 3].strip()
                if not after[:1].isupper() or not text[mark - 1 : mark].isdigit():
                    continue
            elif text[end + 1 : end + 2].islower():
                continue
        if end - start > LONGEST:
            start = _add_pieces(spans, text, start, end)
        first = start + 1 if text[start] == " " else start
        last = end
        while text[last - 1] == "\n" and last > first:
            last -= 1
        if text[first].isalpha() and last - first > 2 and text[first + 1] != ")" and not text[last - 1].isspace():
            spans.append((first, last))  # as most are
        else:
            _add(spans, text, start, end)
        start = end
    start = _add_pieces(spans, text, start, length)
    _add(spans, text, start, length)
    return spans


def _add_pieces(spans: list[tuple[int, int]], text: str, start: int, end: int) -> int:
    """Add parts of at most `LONGEST` characters; returns where the last part begins, which is not added."""
    while end - start > LONGEST:
        cut = text.rfind(" ", start + LONGEST // 2, start + LONGEST)
        cut = cut if cut > 0 else start + LONGEST
        _add(spans, text, start, cut)
        start = cut
    return start


def _add(spans: list[tuple[int, int]], text: str, start: int, end: int) -> None:
    """Add the span without its bullet and surrounding space; nothing if less than three characters remain."""
    start = end - len(text[start:end].lstrip())
    if (start < end and not text[start].isalpha()) or text[start + 1 : start + 2] == ")":
        bullet = _BULLET.match(text, start, end)
        start = bullet.end() if bullet else start
    end = start + len(text[start:end].rstrip())
    if end - start >= 3:
        spans.append((start, end))
