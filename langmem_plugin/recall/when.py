"""Dates and relative times in a question, as a span of time to look in.

English words, ISO dates everywhere. A month or year without its year or month means
the latest one that is not in the future.
"""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = {
    name: number
    for number in range(1, 13)
    for name in (calendar.month_name[number].lower(), calendar.month_abbr[number].lower())
} | {"sept": 9}
_DAYS: Final = {name.lower(): number for number, name in enumerate(calendar.day_name)}
_NUMBERS: Final = {
    word: number
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
} | {"a": 1, "an": 1, "couple of": 2, "a couple of": 2, "few": 3, "a few": 3, "several": 4}

_MONTH: Final = "(" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_ISO: Final = re.compile(r"\b(\d{4})-(\d{1,2})(?:-(\d{1,2}))?\b")
_DAY_MONTH: Final = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH},?(?: (\d{{4}}))?")
_MONTH_DAY: Final = re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?\b(?:,? (\d{{4}}))?")
_MONTH_YEAR: Final = re.compile(rf"\b(?:in |of |during |last |since |early |late |mid-?)?{_MONTH},? (\d{{4}})")
_MONTH_ALONE: Final = re.compile(rf"\b(?:in|of|during|last|since|around|early|late|mid) {_MONTH}")
_YEAR: Final = re.compile(r"\b(?:in|during|of|since) ((?:19|20)\d{2})\b")
_AGO: Final = re.compile(
    r"\b(\d{1,3}|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:a )?(?:few|couple of)|several) "
    r"(day|week|month|year)s? ago\b"
)
_LAST: Final = re.compile(r"\b(last|this|past|previous) (week|weekend|month|year|" + "|".join(_DAYS) + r")\b")
_YESTERDAY: Final = re.compile(r"\b(yesterday|last night|today|this morning)\b")
_LENGTH: Final = {"day": 1, "week": 7, "month": 30, "year": 365}
_MAX_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of time, aware UTC."""

    start: datetime
    end: datetime


def find_span(text: str, *, now: datetime) -> Span | None:
    """The time a question speaks of; None if it names none.

    Args:
        text: The question.
        now: What relative times count from; aware.
    """
    low = text[:_MAX_CHARS].lower()
    now = now.astimezone(UTC)
    try:
        return _absolute(low, now) or _relative(low, now)
    except (ValueError, OverflowError):
        return None


def _absolute(low: str, now: datetime) -> Span | None:
    if found := _ISO.search(low):
        year, month, day = int(found[1]), int(found[2]), found[3]
        return _day(year, month, int(day)) if day else _month(year, month)
    if found := _DAY_MONTH.search(low):
        return _day(_year(found[3], _MONTHS[found[2]], now), _MONTHS[found[2]], int(found[1]))
    if found := _MONTH_YEAR.search(low):
        return _month(int(found[2]), _MONTHS[found[1]])
    if found := _MONTH_DAY.search(low):
        return _day(_year(found[3], _MONTHS[found[1]], now), _MONTHS[found[1]], int(found[2]))
    if found := _MONTH_ALONE.search(low):
        month = _MONTHS[found[1]]
        return _month(_year(None, month, now), month)
    if found := _YEAR.search(low):
        year = int(found[1])
        return Span(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))
    return None


def _relative(low: str, now: datetime) -> Span | None:
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if found := _AGO.search(low):
        word = found[1]
        number = int(word) if word.isdigit() else _NUMBERS[word]
        unit = _LENGTH[found[2]]
        centre = today - timedelta(days=number * unit)
        slack = timedelta(days=max(1, unit * (0.5 if number > 1 else 0.75)))
        return Span(centre - slack, centre + slack + timedelta(days=1))
    if found := _YESTERDAY.search(low):
        back = 0 if found[1] in ("today", "this morning") else 1
        return Span(today - timedelta(days=back), today - timedelta(days=back - 1))
    if found := _LAST.search(low):
        return _last(found[1], found[2], today)
    return None


def _last(which: str, unit: str, today: datetime) -> Span:
    monday = today - timedelta(days=today.weekday())
    back = 0 if which == "this" else 1
    if unit in _DAYS:
        days = (today.weekday() - _DAYS[unit]) % 7 or 7
        start = today - timedelta(days=days)
        return Span(start, start + timedelta(days=1))
    if unit == "weekend":
        saturday = monday + timedelta(days=5) - timedelta(days=7 * back)
        return Span(saturday, saturday + timedelta(days=2))
    if unit == "week":
        return Span(monday - timedelta(days=7 * back), monday + timedelta(days=7 - 7 * back))
    if unit == "month":
        first = today.replace(day=1)
        return _month(first.year, first.month) if not back else _month_of(first - timedelta(days=1))
    year = today.year - back
    return Span(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC))


def _year(given: str | None, month: int, now: datetime) -> int:
    if given:
        return int(given)
    return now.year if month <= now.month else now.year - 1


def _day(year: int, month: int, day: int) -> Span:
    start = datetime(year, month, day, tzinfo=UTC)
    return Span(start, start + timedelta(days=1))


def _month(year: int, month: int) -> Span:
    start = datetime(year, month, 1, tzinfo=UTC)
    return Span(start, (start + timedelta(days=32)).replace(day=1))


def _month_of(moment: datetime) -> Span:
    return _month(moment.year, moment.month)
