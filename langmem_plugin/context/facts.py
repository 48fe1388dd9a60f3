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


def terms(text: str) -> list[str]:
    """The words and numbers of a text in one spelling each."""
    found: list[str] = []
    for token in _TOKEN.findall(text):
        found.extend(_spell(token))
    return found


def names_within(texts: Iterable[str]) -> frozenset[str]:
    """Words capitalised inside a sentence somewhere: names at the start of another sentence too."""
    found: set[str] = set()
    for text in texts:
        tokens = _TOKEN.findall(text)
        if _shouts(tokens):
            continue
        found.update(_base(token) for token in tokens[1:] if _is_capital(token))
    return frozenset(found)


def facts(sentence: str, *, names: frozenset[str] = frozenset()) -> list[Fact]:
    """The facts of one sentence, repeats left out, in order.

    Args:
        sentence: One sentence, on one line.
        names: Words that are names at the start of a sentence too (`names_within`).
    """
    tokens = _TOKEN.findall(sentence)
    found: dict[Fact, None] = {}
    shouts = _shouts(tokens)
    run: list[str] = []
    for place, token in enumerate(tokens):
        low = _base(token)
        capital = _is_capital(token) and not shouts
        if capital and not place and low not in names and not (len(tokens) > 1 and _is_capital(tokens[1])):
            capital = False
        if capital and _month(token) is None and low not in cues.DAYS:
            run.extend(_spell(token))
            continue
        _end_name(run, found)
        if (date := _date(tokens, place)) is not None:
            found[Fact(FactKind.DATE, date)] = None
        elif any(character.isdigit() for character in token) or low in cues.NUMBER_OF:
            if not _near_month(tokens, place):
                found[Fact(FactKind.NUMBER, frozenset(_spell(token)))] = None
        elif low in cues.NEGATIONS or low.endswith(("n't", "n’t")):
            _cue(FactKind.NEGATION, tokens[place + 1 :], found)
        if low in cues.DECISIONS or low.endswith(("'ll", "’ll")):
            _cue(FactKind.DECISION, tokens[place + 1 :], found)
    _end_name(run, found)
    _facts_without_case(sentence, found)
    return list(found)


class Holdings:
    """What a text holds, to ask it for facts."""

    def __init__(self, sentences: Sequence[str]) -> None:
        self._terms: set[str] = set()
        self._cued: set[tuple[FactKind, str]] = set()
        for sentence in sentences:
            self._terms.update(terms(sentence))
            for fact in facts(sentence):
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


def _is_capital(token: str) -> bool:
    if not token[0].isupper():
        return False
    return _base(token) not in cues.COMMON


def _shouts(tokens: Sequence[str]) -> bool:
    return len(tokens) > 4 and sum(token[0].isupper() for token in tokens) > 0.6 * len(tokens)


def _near_month(tokens: Sequence[str], place: int) -> bool:
    return any(_month(token) is not None for token in tokens[max(0, place - 2) : place + 3])


def _date(tokens: Sequence[str], place: int) -> frozenset[str] | None:
    token = tokens[place]
    low = _base(token)
    if _month(token) is not None:
        numbers = [near for near in tokens[max(0, place - 2) : place + 3] if near[0].isdigit() and len(near) <= 4]
        return frozenset(term for part in (token, *numbers) for term in _spell(part))
    if low in cues.DAYS or _ISO.match(low):
        return frozenset(_spell(token))
    if low in cues.NEAR and place + 1 < len(tokens) and _base(tokens[place + 1]) in cues.SPANS:
        return frozenset({low, _base(tokens[place + 1])})
    if len(low) == 4 and low.isdigit() and low[:2] in {"19", "20"} and not _near_month(tokens, place):
        return frozenset({low})
    return None


def _end_name(run: list[str], found: dict[Fact, None]) -> None:
    if run:
        found[Fact(FactKind.NAME, frozenset(run))] = None
        run.clear()


def _cue(kind: FactKind, following: Sequence[str], found: dict[Fact, None]) -> None:
    content = [_base(token)[:5] for token in following[:8] if len(token) > 2 and _base(token) not in cues.COMMON]
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
