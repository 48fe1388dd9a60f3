"""The summary of a very long session by period: old periods keep their words, and the older ones are merged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

_HEADING = re.compile(r"^\[messages (\d+)-(\d+), (\d{4}-\d\d-\d\d) to (\d{4}-\d\d-\d\d)\]$", re.MULTILINE)
HEADING_TOKENS = 32
"""What a heading takes beside the notes under it, at most."""
PERIODS = 4
"""Periods of full length that a summary holds; each has a like part of its room."""
_ALIKE = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Notes on a run of messages."""

    first: int
    last: int
    since: str
    until: str
    """Days, as 2026-01-31."""
    text: str

    @property
    def messages(self) -> int:
        """How many it stands for."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"[messages {self.first}-{self.last}, {self.since} to {self.until}]\n{self.text}"

    def joined(self, later: Period, text: str) -> Period:
        """This period and the one after it as one, with new notes."""
        return Period(first=self.first, last=later.last, since=self.since, until=later.until, text=text)


def day(moment: datetime) -> str:
    """The day as headings give it."""
    return f"{moment:%Y-%m-%d}"


def periods_of(summary: str) -> list[Period]:
    """The periods of a summary, oldest first; [] for one that is not by period."""
    found = list(_HEADING.finditer(summary))
    if not found or found[0].start() != 0:
        return []
    ends = [*(heading.start() for heading in found[1:]), len(summary)]
    return [
        Period(
            first=int(heading[1]),
            last=int(heading[2]),
            since=heading[3],
            until=heading[4],
            text=summary[heading.end() : end].strip(),
        )
        for heading, end in zip(found, ends, strict=True)
    ]


def written(periods: Sequence[Period]) -> str:
    """The summary that consists of these periods."""
    return "\n\n".join(map(str, periods))


def without_headings(notes: str) -> str:
    """What a model wrote, so that no line of it can be taken for a heading."""
    return _HEADING.sub(lambda heading: heading[0][1:-1], notes)


def next_merge(periods: Sequence[Period]) -> int:
    """Which period to merge with the one after it; there are at least two.

    The oldest whose follower is about as long or longer, so that the lengths fall from the
    oldest on and each message's notes are rewritten as often as a length doubles.
    """
    for place in range(len(periods) - 1):
        if periods[place].messages <= _ALIKE * periods[place + 1].messages:
            return place
    return len(periods) - 2
