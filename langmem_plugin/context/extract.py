"""What stands for earlier turns where no model has summarised them: their weightiest sentences.

Deterministic and pure. Sentences are chosen greedily by the facts they add per token
(budgeted maximum coverage; Lin and Bilmes 2011, "A Class of Submodular Functions for
Document Summarization"), then shown in the order they were said.
"""

# ruff: noqa: RUF001 - letters of many scripts
from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from langmem_plugin.context.facts import Fact, FactKind, Words, facts_of, terms
from langmem_plugin.context.sentences import printable, sentences, speaker, spoken
from langmem_plugin.messages import Message

_SEPARATOR = " · "
_UNDATED = "undated"
_LINE = re.compile(r"- ([a-z]+(?: [^:,\n]{1,40})?)(?:, (\d{1,2} [A-Z][a-z]{2} \d{4}|undated))?: (.+)$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EARLIER = "earlier"
"""The speaker of lines that are not an extract's own, such as a model's summary."""

_WEIGHT = {
    FactKind.NAME: 1.0,
    FactKind.NUMBER: 1.4,
    FactKind.DATE: 1.2,
    FactKind.DECISION: 0.8,
    FactKind.NEGATION: 0.8,
}
_REPEATED = 0.1
"""What a fact is worth that a chosen sentence holds already."""
_ROLE_WEIGHT = {"user": 1.0, _EARLIER: 0.9, "assistant": 0.7, "tool": 0.45, "system": 0.3}
_WORD = 0.15
"""What a word is worth that no chosen sentence holds."""
_WORD_CHARS = 4
"""Shorter words do not count, save in scripts without spaces, where two characters do."""
_TERSE = 6
"""Added to a sentence's tokens when its worth is divided by them; keeps "Thanks, Sam!" from winning."""
_OWN = 0.6
"""What it adds that users speak of themselves."""
_SELF = re.compile(
    r"\b(?:i|i['’]m|i['’]ve|my|me|we|our|ich|mein\w*|mir|wir|je|j['’]\w+|mon|ma|mes|yo|mi|mis|io|mio|я|мой|моя|мне)\b"
    r"|我|私|僕|俺|나는|저는",
    re.IGNORECASE,
)
_MAX_MISSES = 60
_MAX_ARGUMENT_CHARS = 160


@dataclass(frozen=True, slots=True)
class _Unit:
    """One sentence and who said it when."""

    speaker: str
    day: str
    text: str
    age: float
    """0 for the oldest .. 1 for the newest."""


def extract(
    messages: Sequence[Message],
    *,
    count: Callable[[str], int],
    max_tokens: int,
    previous: str = "",
    dates: Sequence[datetime] = (),
) -> str:
    """The weightiest sentences of earlier turns, oldest first, as lines `- user, 3 May 2023: ...`.

    Names, numbers, dates, decisions and negations weigh, most of all in what users say of
    themselves. A line without a date is of the same day as the line above it. The same
    input gives the same output; the time taken grows with the length of the input.

    Args:
        messages: What to extract from, oldest first.
        count: Tokens of a text.
        max_tokens: What the result may have by `count`.
        previous: What stood for the turns before these, usually an earlier result. Its
            sentences compete with the new ones; the older they are the less they weigh.
        dates: When each message was said; empty if unknown.

    Returns:
        "" if there is no text, or none that fits.
    """
    if max_tokens <= 0:
        return ""
    units = [*_units_of_previous(previous), *_units_of_messages(messages, dates)]
    if not units:
        return ""
    order = _choose(units, count=count, max_tokens=max_tokens)
    return _fit(units, order, count=count, max_tokens=max_tokens)


def _units_of_messages(messages: Sequence[Message], dates: Sequence[datetime]) -> list[_Unit]:
    units = []
    for place, message in enumerate(messages):
        day = f"{dates[place].day} {_MONTHS[dates[place].month - 1]} {dates[place].year}" if dates else ""
        age = 0.8 + 0.2 * (place + 1) / len(messages)
        who = speaker(message)
        units += [
            _Unit(who, day, text.replace(_SEPARATOR, " "), age)
            for text in sentences(spoken(message, argument_chars=_MAX_ARGUMENT_CHARS))
        ]
    return units


def _units_of_previous(previous: str) -> list[_Unit]:
    found: list[tuple[str, str, str]] = []
    day = ""
    for line in printable(previous).splitlines():
        if own := _LINE.match(line):
            day = "" if own[2] == _UNDATED else own[2] or day
            found += [(own[1], day, text) for text in own[3].split(_SEPARATOR) if text.strip()]
        else:
            found += [(_EARLIER, "", text) for text in sentences(line.lstrip("#-*• \t"))]
    return [_Unit(*unit, age=0.35 + 0.4 * (place + 1) / len(found)) for place, unit in enumerate(found)]


def _choose(units: Sequence[_Unit], *, count: Callable[[str], int], max_tokens: int) -> list[int]:
    """Places of units in the order of choosing; about as many as fit."""
    read = Words()
    found = facts_of([unit.text for unit in units], words=read)
    factor = [_factor(unit) for unit in units]
    size = [len(unit.text.encode()) / 4 for unit in units]
    words = [_words(unit.text, read) for unit in units]
    known: set[Fact] = set()
    said: set[str] = set()

    def density(place: int) -> float:
        worth = sum(_WEIGHT[fact.kind] * (_REPEATED if fact in known else 1.0) for fact in found[place])
        worth += _WORD * sum(word not in said for word in words[place])
        return worth * factor[place] / (size[place] + _TERSE)

    # Lazy greedy: a sentence's worth only falls as others are chosen, so what still leads after
    # being weighed again is the best.
    heap = [(-density(place), -place) for place in range(len(units))]
    heapq.heapify(heap)
    chosen: list[int] = []
    used = misses = 0
    while heap and misses < _MAX_MISSES:
        _, negative = heapq.heappop(heap)
        place = -negative
        now = -density(place)
        if heap and now > heap[0][0]:
            heapq.heappush(heap, (now, -place))
            continue
        cost = count(units[place].text) + 2
        if chosen and used + cost > max_tokens:
            misses += 1
            continue
        used += cost
        chosen.append(place)
        known.update(found[place])
        said.update(words[place])
    return chosen


def _words(text: str, read: Words) -> frozenset[str]:
    return frozenset(term for term in terms(text, words=read) if len(term) >= _WORD_CHARS or not term.isascii())


def _factor(unit: _Unit) -> float:
    role = _ROLE_WEIGHT.get(unit.speaker.split(" ", 1)[0], 0.5)
    own = 1.0 + (_OWN if role == 1.0 and _SELF.search(unit.text) else 0.0)
    asks = 0.6 if unit.text.endswith(("?", "\uff1f", "\u061f")) else 1.0
    return role * own * asks * unit.age


def _fit(units: Sequence[_Unit], order: Sequence[int], *, count: Callable[[str], int], max_tokens: int) -> str:
    """The longest beginning of `order` that fits, in the order it was said."""
    low, high = 0, len(order)
    best = ""
    while low < high:
        middle = (low + high + 1) // 2 if low else high
        text = _render([units[place] for place in sorted(order[:middle])])
        if count(text) <= max_tokens:
            low, best = middle, text
        else:
            high = middle - 1
    return best or _cut(units[order[0]], count=count, max_tokens=max_tokens)


def _render(units: Sequence[_Unit]) -> str:
    lines: list[str] = []
    last: tuple[str, str] | None = None
    day = ""
    for unit in units:
        if (unit.speaker, unit.day) == last:
            lines[-1] += _SEPARATOR + unit.text
            continue
        dated = f", {unit.day or _UNDATED}" if unit.day != day else ""
        lines.append(f"- {unit.speaker}{dated}: {unit.text}")
        last, day = (unit.speaker, unit.day), unit.day
    return "\n".join(lines)


def _cut(unit: _Unit, *, count: Callable[[str], int], max_tokens: int) -> str:
    """As much of one unit as fits; "" if not even a word does."""
    words = unit.text.split(" ")
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        text = _render([_Unit(unit.speaker, unit.day, " ".join(words[:middle]), unit.age)]) + " …"
        if count(text) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    if not low:
        return ""
    return _render([_Unit(unit.speaker, unit.day, " ".join(words[:low]), unit.age)]) + " …"
