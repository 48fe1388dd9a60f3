"""Which rules may fit: those whose cues stand in the text. Most messages and sentences have none."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from langmem_plugin.projections.constraints.vocabulary import Language, Rule, languages

_MARKS = ".,;:!?¿¡()[]{}*_`~\"'“”„«»-–"
_JOINED = re.compile(r"[/|<>=+&]")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPACED = "—…/|<>=+&，、。"
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


def words_of(low: str) -> set[str]:
    """The words of a text, and what follows an apostrophe in them ("l'alcool")."""
    return _words(_parted(low))


def _parted(low: str) -> str:
    """The text with a space for each mark that parts words wherever it stands."""
    if not low.isascii() or _JOINED.search(low):
        for mark in _SPACED:
            if mark in low:
                low = low.replace(mark, " ")
    return low


def _words(parted: str) -> set[str]:
    words = {word if word.isalpha() else word.strip(_MARKS) for word in parted.split()}
    if "'" in parted:
        words |= {word.rpartition("'")[2] for word in words if "'" in word}
    return words


def _is_unspaced(text: str) -> bool:
    """Whether any character is Chinese or Japanese."""
    return not text.isascii() and _UNSPACED.search(text) is not None


@dataclass(frozen=True, slots=True)
class Possible:
    """A language that the message may be in, with the rules whose cues stand in it."""

    language: Language
    rules: Mapping[str, Sequence[Rule]]
    words: set[str]
    """Of the whole message."""

    def wanted(self) -> set[str]:
        """The words on which it depends where a rule may fit."""
        if not self.language.spaced:
            return set()
        beside = {rule.also for rules in self.rules.values() for rule in rules}
        return self.rules.keys() | (frozenset[str]().union(*beside) & self.words)

    def by_sentence(self, parts: Sentences, places: Mapping[str, Sequence[int]]) -> dict[int, dict[int, Rule]]:
        """By index of each sentence, the rules that may fit it, by their place in the file: most have none."""
        found: dict[int, dict[int, Rule]] = {}
        beside: dict[frozenset[str], set[int]] = {}
        whole = self.language.spaced
        for cue, rules in self.rules.items():
            indices = places.get(cue, ()) if whole else list(parts.holding(cue))
            for rule in rules if indices else ():
                near: Iterable[int] = indices
                if rule.also and whole:
                    if rule.also not in beside:
                        beside[rule.also] = {at for word in rule.also & self.words for at in places.get(word, ())}
                    near = beside[rule.also].intersection(indices)
                for index in near:
                    found.setdefault(index, {})[rule.order_index] = rule
        return found


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a text in small letters, and which of them hold a word."""

    low: str
    starts: list[int]
    ends: list[int]

    def places(self, words: set[str]) -> dict[str, list[int]]:
        """For each of these words that stands in any sentence, the indices of those sentences, in order."""
        found: dict[str, list[int]] = {}
        parted = _parted(self.low)
        for index, start in enumerate(self.starts):
            for word in _words(parted[start : self.ends[index]]) & words:
                found.setdefault(word, []).append(index)
        return found

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


def possible_in(words: set[str], text: str, *, ending: bool) -> list[Possible]:
    """The languages that the message may be in: those with a cue in it, or with a word that takes something back.

    Args:
        words: Of the whole message.
        text: The message.
        ending: Whether words that take something back count.

    Returns:
        In the order of `languages()`, each with the rules whose cues stand in the message.
    """
    by_cue, ends = _index()
    rules: dict[int, dict[str, Sequence[Rule]]] = {}
    beside: dict[frozenset[str], bool] = {frozenset(): True}
    for cue in by_cue.keys() & words:
        for place, also, fitting in by_cue[cue]:
            held = rules.setdefault(place, {})
            if also not in beside:
                beside[also] = not also.isdisjoint(words)
            if beside[also]:
                held[cue] = (*held[cue], *fitting) if cue in held else fitting
    for word in ends.keys() & words if ending else ():
        for place in ends[word]:
            rules.setdefault(place, {})
    if _is_unspaced(text):
        rules |= _unspaced(text, ending=ending)
    return [Possible(languages()[place], rules[place], words) for place in sorted(rules)]


def _unspaced(text: str, *, ending: bool) -> dict[int, dict[str, Sequence[Rule]]]:
    """The languages without spaces that a text may be in; all where words that take something back count."""
    found: dict[int, dict[str, Sequence[Rule]]] = {}
    for place, language in enumerate(languages()):
        if not language.spaced:
            held: dict[str, Sequence[Rule]] = {cue: language.rules[cue] for cue in language.cues if cue in text}
            if held or ending:
                found[place] = held
    return found


@cache
def _index() -> tuple[Mapping[str, list[tuple[int, frozenset[str], tuple[Rule, ...]]]], Mapping[str, list[int]]]:
    """By word, the spaced languages that have it as a cue with the rules, and those that take back by it.

    Rules of one cue and language stand together that ask for the same word beside it.
    """
    by_cue: dict[str, list[tuple[int, frozenset[str], tuple[Rule, ...]]]] = {}
    ends: dict[str, list[int]] = {}
    for place, language in enumerate(languages()):
        if language.spaced:
            for cue, rules in language.rules.items():
                for also in dict.fromkeys(rule.also for rule in rules):
                    alike = tuple(rule for rule in rules if rule.also == also)
                    by_cue.setdefault(cue, []).append((place, also, alike))
            for word in language.endings:
                ends.setdefault(word, []).append(place)
    return by_cue, ends


def taking_back(spoken_in: Iterable[Possible], words: set[str]) -> dict[Language, tuple[str, ...]]:
    """The languages in which a message with these words may take something back, with the words that say so.

    A language whose words do not stand between spaces has none listed, and may always.
    """
    found: dict[Language, tuple[str, ...]] = {}
    for possible in spoken_in:
        listed = tuple(possible.language.endings & words)
        if listed or not possible.language.spaced:
            found[possible.language] = listed
    return found
