"""A long conversation cut into texts that a model reads in one call."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from langmem_plugin.context.sentences import printable, speaker, spoken
from langmem_plugin.projections.periods import day
from langmem_plugin.records import Entry, SessionKey

_TAG = re.compile(r"</?\s*(?:conversation|notes)\s*>", re.IGNORECASE)
"""The conversation is data between these tags: it may not close them."""


class Log(Protocol):
    """What is read."""

    def entries(
        self, key: SessionKey, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Committed entries with `after < seq <= upto`, ascending, the first `limit` of them."""
        ...


@dataclass(frozen=True, slots=True)
class Chunk:
    """A text, and how far the log is read after it."""

    text: str
    upto: int
    offset: int
    since: str
    until: str
    """The days of its first and its last message."""
    messages: tuple[str, ...] = ()
    """What it consists of; of a message that is longer than a chunk, the part."""


class Chunks:
    """Cuts whole messages where it can."""

    def __init__(self, store: Log, count: Callable[[str], int], limit: int) -> None:
        """Nothing is read yet.

        Args:
            store: The log.
            count: Tokens of a text.
            limit: Tokens of a chunk.
        """
        self._store = store
        self._count = count
        self._limit = limit

    def next(self, key: SessionKey, upto: int, offset: int, target: int) -> Chunk:
        """The next text to read: whole messages, or a part of one that is longer than a chunk.

        Args:
            key: Whose log.
            upto: The last entry that was read whole.
            offset: Characters already read of the entry after it.
            target: The last entry to read.
        """
        limit = self._limit
        lines: list[str] = []
        tokens = 0
        days: list[str] = []
        after = upto
        while entries := self._store.entries(key, after=after, upto=target, limit=200):
            for entry in entries:
                line = self._line(entry)
                days.append(day(entry.created_at))
                rest = f"({speaker(entry.message)}, continued) {line[offset:]}" if offset else line
                cost = self._count(rest) + 1
                if tokens + cost > limit:
                    if lines:
                        return Chunk("\n".join(lines), upto, 0, days[0], days[-2], tuple(lines))
                    part = self._beginning(rest, limit)
                    taken = len(part) - (len(rest) - len(line[offset:]))
                    return Chunk(part, upto, offset + max(1, taken), days[0], days[0], (part,))
                lines.append(rest)
                tokens += cost
                upto, offset = entry.seq, 0
            after = upto
        since, until = (days[0], days[-1]) if days else ("", "")
        return Chunk("\n".join(lines), max(upto, target), 0, since, until, tuple(lines))

    def _line(self, entry: Entry) -> str:
        at = entry.created_at
        text = printable(spoken(entry.message)).strip() or "(nothing)"
        return f"{speaker(entry.message)}, {at:%Y-%m-%d %H:%M}: {_TAG.sub('[tag]', text)}"

    def _beginning(self, text: str, limit: int) -> str:
        """The beginning of a text that has at most `limit` tokens, to a word's end where there is one."""
        # A first guess by length keeps each count small next to a text of a megabyte.
        end = min(len(text), limit * 4)
        while end > 1 and (counted := self._count(text[:end])) > limit:
            end = max(1, min(end - 1, math.floor(end * limit / counted)))
        word = text.rfind(" ", end // 2, end)
        return text[: word + 1] if word > 0 and end < len(text) else text[:end]
