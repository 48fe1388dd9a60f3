"""The checkable facts of a text: names, numbers, dates, decisions, negations; no model.

A rough reading, by rules, that serves two ends: choosing what an extract keeps, and
measuring what a summary lost. It knows English best and the cues of some other
languages; in scripts without capitals it finds numbers, dates, quotations and cues.
"""

# ruff: noqa: RUF001 - typographic apostrophes are meant
from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from langmem_plugin.context import cues


class FactKind(StrEnum):
    """What sort of thing a fact is."""

    NAME = "name"
    NUMBER = "number"
    DATE = "date"
    DECISION = "decision"
    NEGATION = "negation"


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact by its terms: words in small letters, numbers and months in one spelling."""

    kind: FactKind
    terms: frozenset[str]


_TOKEN = re.compile(r"[^\W_]+(?:[.,:'’/@_+-][^\W_]+)*")
_ISO = re.compile(r"(\d{4})-(\d{1,2})(?:-(\d{1,2}))?(?:t.*)?$")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)$")
_CASELESS = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_KATAKANA = re.compile("[\u30a0-\u30ff]{3,}")
_QUOTED = re.compile("[\u300c\u300e\u300a\u201c\u00ab]([^\n\u300d\u300f\u300b\u201d\u00bb]{2,60})")


class Words:
    """The words of texts that are read together: what is known of one that comes again is not found out again."""

    def __init__(self) -> None:
        self._known: dict[str, _Word] = {}

    def of(self, text: str) -> list[_Word]:
        """The words and numbers of a text, in order."""
        known = self._known
        return [known.get(token) or known.setdefault(token, _word(token)) for token in _TOKEN.findall(text)]


class _Word(NamedTuple):
    """One word or number."""

    low: str
    """In small letters, without a genitive's ending."""
    upper: bool
    """Begins with a capital."""
    capital: bool
    """Does, and is no common word."""
    month: str | None
    number: bool
    negates: bool
    decides: bool
    weighty: bool
    """Says what is denied or decided."""
    digits: bool
    """A number of at most four characters, as in dates."""
    date: bool
    """A weekday or a whole date."""
    spelled: tuple[str, ...]
    """Its terms."""


def terms(text: str, *, words: Words | None = None) -> list[str]:
    """The words and numbers of a text in one spelling each."""
    return [term for word in (words or Words()).of(text) for term in word.spelled]


def facts_of(sentences: Sequence[str], *, words: Words | None = None) -> list[list[Fact]]:
    """The facts of each of the sentences, read together: what is a name inside one is one at the start of another."""
    words = words or Words()
    names = _names_within(sentences, words)
    return [facts(sentence, names=names, words=words) for sentence in sentences]


def _names_within(sentences: Iterable[str], words: Words) -> frozenset[str]:
    """Words capitalised inside a sentence somewhere."""
    found: set[str] = set()
    for sentence in sentences:
        said = words.of(sentence)
        if not _shouts(said):
            found.update(word.low for word in said[1:] if word.capital)
    return frozenset(found)


def facts(sentence: str, *, names: frozenset[str] = frozenset(), words: Words | None = None) -> list[Fact]:
    """The facts of one sentence, repeats left out, in order.

    Args:
        sentence: One sentence, on one line.
        names: Words that are names at the start of a sentence too.
        words: Of the texts that are read together with it.
    """
    said = (words or Words()).of(sentence)
    found: dict[Fact, None] = {}
    shouts = _shouts(said)
    run: list[str] = []
    for place, word in enumerate(said):
        capital = word.capital and not shouts
        if capital and not place and word.low not in names and not (len(said) > 1 and said[1].capital):
            capital = False
        if capital and word.month is None and word.low not in cues.DAYS:
            run.extend(word.spelled)
            continue
        _end_name(run, found)
        if (date := _date(said, place)) is not None:
            found[Fact(FactKind.DATE, date)] = None
        elif word.number:
            if not _near_month(said, place):
                found[Fact(FactKind.NUMBER, frozenset(word.spelled))] = None
        elif word.negates:
            _cue(FactKind.NEGATION, said[place + 1 : place + 9], found)
        if word.decides:
            _cue(FactKind.DECISION, said[place + 1 : place + 9], found)
    _end_name(run, found)
    _facts_without_case(sentence, found)
    return list(found)


class Holdings:
    """What a text holds, to ask it for facts."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._terms: set[str] = set()
        self._cued: set[tuple[FactKind, str]] = set()
        words = Words()
        for sentence in sentences:
            self._terms.update(terms(sentence, words=words))
            for fact in facts(sentence, words=words):
                if fact.kind in {FactKind.NEGATION, FactKind.DECISION}:
                    self._cued.update((fact.kind, term) for term in fact.terms)
        self._stems = {term[:5] for term in self._terms}

    def hold(self, fact: Fact) -> bool:
        """True if the text holds the fact; a negation counts only where it is still one."""
        match fact.kind:
            case FactKind.NEGATION:
                return any((fact.kind, term) in self._cued for term in fact.terms)
            case FactKind.DECISION:
                return any((fact.kind, term) in self._cued for term in fact.terms) or fact.terms <= self._stems
            case FactKind.NAME | FactKind.NUMBER | FactKind.DATE:
                return fact.terms <= self._terms


def _word(token: str) -> _Word:
    low = _base(token)
    common = low in cues.COMMON
    return _Word(
        low=low,
        upper=token[0].isupper(),
        capital=token[0].isupper() and not common,
        month=_month(token),
        number=any(character.isdigit() for character in token) or low in cues.NUMBER_OF,
        negates=low in cues.NEGATIONS or low.endswith(("n't", "n’t")),
        decides=low in cues.DECISIONS or low.endswith(("'ll", "’ll")),
        weighty=len(token) > 2 and not common,
        digits=token[0].isdigit() and len(token) <= 4,
        date=low in cues.DAYS or _ISO.match(low) is not None,
        spelled=_spell(token),
    )


def _base(token: str) -> str:
    low = token.casefold().replace("’", "'")
    return low[:-2] if low.endswith("'s") and low != "let's" else low


def _spell(token: str) -> tuple[str, ...]:
    low = _base(token)
    if (month := _month(token)) is not None:
        return (month,)
    if low in cues.NUMBER_OF:
        return (cues.NUMBER_OF[low],)
    if low[0].isdigit():
        if iso := _ISO.match(low):
            day = (str(int(iso[3])),) if iso[3] else ()
            return (iso[1], f"m{int(iso[2]):02}", *day)
        if ordinal := _ORDINAL.match(low):
            return (ordinal[1],)
        return (re.sub(r"(?<=\d),(?=\d{3})", "", low),)
    if _CASELESS.search(low):
        return tuple(low[at : at + 2] for at in range(max(1, len(low) - 1)))
    return (low,)


def _month(token: str) -> str | None:
    low = token.casefold()
    month = cues.MONTH_OF.get(low)
    return None if month is not None and low in cues.ALSO_WORDS and not token[0].isupper() else month


def _shouts(said: Sequence[_Word]) -> bool:
    return len(said) > 4 and sum(word.upper for word in said) > 0.6 * len(said)


def _near_month(said: Sequence[_Word], place: int) -> bool:
    return any(word.month is not None for word in said[max(0, place - 2) : place + 3])


def _date(said: Sequence[_Word], place: int) -> frozenset[str] | None:
    word = said[place]
    if word.month is not None:
        numbers = [near for near in said[max(0, place - 2) : place + 3] if near.digits]
        return frozenset(term for part in (word, *numbers) for term in part.spelled)
    if word.date:
        return frozenset(word.spelled)
    low = word.low
    if low in cues.NEAR and place + 1 < len(said) and said[place + 1].low in cues.SPANS:
        return frozenset({low, said[place + 1].low})
    if len(low) == 4 and low.isdigit() and low[:2] in {"19", "20"} and not _near_month(said, place):
        return frozenset({low})
    return None


def _end_name(run: list[str], found: dict[Fact, None]) -> None:
    if run:
        found[Fact(FactKind.NAME, frozenset(run))] = None
        run.clear()


def _cue(kind: FactKind, following: Sequence[_Word], found: dict[Fact, None]) -> None:
    content = [word.low[:5] for word in following if word.weighty]
    if content:
        found[Fact(kind, frozenset(content[:3]))] = None


def _facts_without_case(sentence: str, found: dict[Fact, None]) -> None:
    for quoted in _QUOTED.findall(sentence):
        if of_it := terms(quoted):
            found[Fact(FactKind.NAME, frozenset(of_it))] = None
    if not _CASELESS.search(sentence):
        return
    for word in _KATAKANA.findall(sentence):
        found[Fact(FactKind.NAME, frozenset(_spell(word)))] = None
    for kind, pattern in ((FactKind.NEGATION, cues.CASELESS_NEGATIONS), (FactKind.DECISION, cues.CASELESS_DECISIONS)):
        for cue in pattern.finditer(sentence):
            following = terms(sentence[cue.end() : cue.end() + 6])[:3]
            if following:
                found[Fact(kind, frozenset(following))] = None
    for number in re.findall(r"\d+(?:[.,:]\d+)*", sentence):
        found[Fact(FactKind.NUMBER, frozenset(_spell(number)))] = None
