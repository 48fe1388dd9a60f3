"""Which rules may fit: those whose cues stand in the text. Most messages and sentences have none."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache

from langmem_plugin.projections.constraints.vocabulary import Language, Rule, languages

_MARKS = ".,;:!?¿¡()[]{}*_`~\"'“”„«»-–"
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_JOINING = "/|<>=+&"
_JOINING_BEYOND_ASCII = "—…，、。"
"""Marks that part words wherever they stand."""
_STRAIGHT = (("’", "'"), ("‘", "'"), ("ʼ", "'"), ("\u00a0", " "), ("\u202f", " "))


def lower(text: str) -> str:
    """Small letters and straight apostrophes, character for character."""
    if text.isascii():
        return text.lower()
    # Not str.translate: outside ASCII it costs ten times as much.
    for mark, plain in _STRAIGHT:
        if mark in text:
            text = text.replace(mark, plain)
    low = text.lower()
    if len(low) != len(text):
        low = "".join(small if len(small := char.lower()) == 1 else char for char in text)
    return low


@dataclass(frozen=True, slots=True)
class Telling:
    """The words of a text on which it depends whether a rule may fit or something may be ended."""

    words: set[str]
    """Without the marks around them, and what follows an apostrophe in them ("l'alcool")."""
    meant: Mapping[str, Sequence[str]]
    """By word as written with marks, which of these it is."""
    written: set[str]
    """All that stands between spaces, telling or not."""


def telling_words(low: str) -> Telling:
    """The telling words of a text in small letters, in any language that has spaces between words."""
    written = set(_parted(low).split())
    known = _index().known
    meant = _bare(written, known)
    words = written & known
    words.difference_update(meant)
    words.update(*meant.values())
    return Telling(words, meant, written)


def _parted(low: str) -> str:
    """The text with a space for each mark that parts words wherever it stands."""
    for mark in _JOINING if low.isascii() else _JOINING + _JOINING_BEYOND_ASCII:
        if mark in low:
            low = low.replace(mark, " ")
    return low


def _bare(words: Iterable[str], known: AbstractSet[str]) -> dict[str, tuple[str, ...]]:
    """By word that is more than letters: without the marks around it, and what follows an apostrophe, if known."""
    meant: dict[str, tuple[str, ...]] = {}
    for word in words:
        if not word.isalpha():
            bare = word.strip(_MARKS)
            if "'" in bare:
                parts = (bare, bare.rpartition("'")[2])
                if not known.isdisjoint(parts):
                    meant[word] = tuple(part for part in parts if part in known)
            elif bare in known:
                meant[word] = (bare,)
    return meant


def _is_unspaced(text: str) -> bool:
    """Whether any character is Chinese or Japanese."""
    return not text.isascii() and _UNSPACED.search(text) is not None


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a text in small letters, and which of them hold a word."""

    low: str
    starts: list[int]
    ends: list[int]

    def holding(self, text: str) -> Iterator[int]:
        """The indices of the sentences in which a text stands, each once, in order."""
        low, starts, ends = self.low, self.starts, self.ends
        at = low.find(text)
        while at >= 0:
            after = at + len(text)
            index = bisect_right(starts, at) - 1
            if index >= 0 and after <= ends[index]:
                yield index
                after = ends[index]
            at = low.find(text, after)

    def with_words(self, telling: Telling, *, whole: bool) -> dict[int, set[str]]:
        """The indices of the sentences in which any telling word stands, in order, each with those words.

        Args:
            telling: Those of the message, of which this is what the user speaks.
            whole: Whether that is all of it.
        """
        found: dict[int, set[str]] = {}
        if not telling.words:
            return found
        parted = _parted(self.low).replace(_END, "\1")  # in no word that tells anything
        pieces = [parted[start:end] for start, end in zip(self.starts, self.ends, strict=True)]
        words = _BETWEEN.join(pieces).split()
        meant = telling.meant
        if not (whole and parted.isascii()):  # a mask, or the end of a sentence, may have cut a word
            meant = {**meant, **_bare(set(words).difference(telling.written), telling.words)}
        sought = {*telling.words, *meant, _END}
        index = 0
        for word in [word for word in words if word in sought]:
            if word == _END:
                index += 1
            elif index in found:
                found[index].update(meant.get(word) or (word,))
            else:
                found[index] = {*(meant.get(word) or (word,))}
        return found


_END = "\0"
_BETWEEN = f" {_END} "


@dataclass(frozen=True, slots=True)
class Possible:
    """What a message may be: the languages it may be in, and the rules whose cues stand in it."""

    languages: Sequence[Language]
    """In the order of `languages()`: those with a cue in it, or with a word that takes something back."""
    stating: Sequence[Language]
    """Those with a cue in it."""
    words: set[str]
    """The telling ones."""
    unspaced: Mapping[int, Sequence[str]]
    """The languages without spaces, by their place, with their cues in it."""
    states: bool
    """Whether any rule may fit."""
    ends: bool
    """Whether anything may be taken back or amended, whatever is in force."""

    def rules_in(self, parts: Sentences, held: Mapping[int, set[str]]) -> dict[tuple[int, int], dict[int, Rule]]:
        """By sentence and place in `languages()`, the rules that may fit, by their place in the file.

        Args:
            parts: The sentences; most have none.
            held: By index, which telling words stand in them.
        """
        found: dict[tuple[int, int], dict[int, Rule]] = {}
        by_cue = _index().by_cue
        for index, words in held.items():
            for word in words & by_cue.keys():
                for fitting in by_cue[word]:
                    if fitting.stands_beside(words):
                        key = (index, fitting.place)
                        if key in found:
                            found[key].update(fitting.rules)
                        else:
                            found[key] = {**fitting.rules}
        for place, cues in self.unspaced.items():
            for cue in cues:
                for index in parts.holding(cue):
                    for rule in languages()[place].rules[cue]:
                        found.setdefault((index, place), {})[rule.order_index] = rule
        return found


def possible_in(telling: Telling, text: str, *, ending: bool) -> Possible:
    """The languages that a message may be in, and the rules that may fit it.

    Args:
        telling: Its telling words.
        text: The message.
        ending: Whether words that take something back count.
    """
    index = _index()
    words = telling.words
    cues = words & index.by_cue.keys()
    places = set[int]().union(*[index.places[cue] for cue in cues])
    stating = set(places)
    ends = False
    if ending:
        taking = words & index.ends.keys()
        ends = bool(taking)
        places.update(*[index.ends[word] for word in taking])
    unspaced: dict[int, Sequence[str]] = {}
    if _is_unspaced(text):
        for place, language in enumerate(languages()):
            if not language.spaced:
                held = [cue for cue in language.cues if cue in text]
                if held:
                    stating.add(place)
                if held or ending:
                    unspaced[place] = held
                    places.add(place)
    spoken_in = [languages()[place] for place in sorted(places)]
    return Possible(
        languages=spoken_in,
        stating=[languages()[place] for place in sorted(stating)],
        words=words,
        unspaced=unspaced,
        states=any(unspaced.values())
        or any(fitting.stands_beside(words) for cue in cues for fitting in index.by_cue[cue]),
        ends=ending and (ends or any(not one.amending or not one.amending.isdisjoint(words) for one in spoken_in)),
    )


@dataclass(frozen=True, slots=True)
class _Fitting:
    """The rules of one language that have a cue in common and ask for the same words beside it."""

    place: int
    """Of the language."""
    also: tuple[frozenset[str], ...]
    rules: Mapping[int, Rule]
    """By their place in the file."""

    def stands_beside(self, words: set[str]) -> bool:
        """Whether the words hold one of each set that the rules ask for beside the cue."""
        for near in self.also:  # noqa: SIM110 - a generator costs more than the question
            if near.isdisjoint(words):
                return False
        return True


@dataclass(frozen=True, slots=True)
class _Index:
    """By word, over all languages with spaces between words."""

    by_cue: Mapping[str, Sequence[_Fitting]]
    places: Mapping[str, AbstractSet[int]]
    """The languages that have it as a cue."""
    ends: Mapping[str, Sequence[int]]
    """The languages that take back by it."""
    known: AbstractSet[str]
    """All words that any rule or form of taking back depends on."""


@cache
def _index() -> _Index:
    by_cue: dict[str, list[_Fitting]] = {}
    ends: dict[str, list[int]] = {}
    known: set[str] = set()
    for place, language in enumerate(languages()):
        if language.spaced:
            for cue, rules in language.rules.items():
                for also in dict.fromkeys(rule.also for rule in rules):
                    alike = {rule.order_index: rule for rule in rules if rule.also == also}
                    by_cue.setdefault(cue, []).append(_Fitting(place, also, alike))
                    known.update(*also)
            for word in language.endings:
                ends.setdefault(word, []).append(place)
            known |= language.amending
    return _Index(
        by_cue=by_cue,
        places={cue: frozenset(item.place for item in items) for cue, items in by_cue.items()},
        ends=ends,
        known=frozenset(known | by_cue.keys() | ends.keys()),
    )


def taking_back(possible: Possible) -> dict[Language, tuple[str, ...]]:
    """The languages in which a message may take something back, with the words that say so.

    A language whose words do not stand between spaces has none listed, and may always.
    """
    found: dict[Language, tuple[str, ...]] = {}
    for language in possible.languages:
        listed = tuple(language.endings & possible.words)
        if listed or not language.spaced:
            found[language] = listed
    return found


def amended_in(language: Language, parts: Sentences, held: Mapping[int, set[str]]) -> list[int]:
    """The indices of the sentences in which a bare new value may stand; `held` says which words they hold."""
    low = parts.low
    if not language.amending:
        return list(range(len(parts.starts))) if language.amend.search(low) else []
    return [
        index
        for index, words in held.items()
        if not language.amending.isdisjoint(words)
        and language.amend.search(low[parts.starts[index] : parts.ends[index]])
    ]
