"""Which rules may fit: those whose cues stand in the text. Most messages and sentences have none."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import MappingProxyType

from langmem_plugin.projections.constraints.vocabulary import Cue, Language, Rule, languages

_MARKS = '.,;:!?¿¡()[]{}*_`~"“”„«»–/|<>=+&—…，、。'
"""Marks that part words; an apostrophe or a hyphen is part of one, unless it begins or ends it."""
_EDGED = re.compile(r"-(?:(?!\S)|(?<=\s-)|(?<=^-))")
"""A hyphen that begins or ends a word."""
_ASCII_PARTED = str.maketrans({mark: " " for mark in _MARKS if mark.isascii()})
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
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


_Fitting = tuple[int, int, Mapping[int, Rule], bool]
"""What of one language a word may give away: what must stand beside it, the place of the language, the rules, amends.

What must stand beside it are words of certain sets, as bits. The rules are those that may fit, by their place in the
file; a word without any takes something back, or amends it.
"""


@dataclass(frozen=True, slots=True)
class _Index:
    """By word, over all languages with spaces between words."""

    known: frozenset[str]
    """All words that any rule or form of taking back depends on."""
    bits: Mapping[str, int]
    """The languages that have a word as a cue, and the sets asked for beside cues that it is in."""
    telling: frozenset[str]
    """Those that give something away."""
    fitting: Mapping[str, Sequence[_Fitting]]
    ends: Mapping[str, int]
    """The languages that take back by it, as bits."""


@cache
def _index() -> _Index:
    masks: dict[frozenset[str], int] = {}
    bits: dict[str, int] = {}
    ends: dict[str, int] = {}
    fitting: dict[str, list[_Fitting]] = {}
    for place, language in enumerate(languages()):
        for (written, beside), rules, amends in _cues_of(language):
            word, *rest = written.translate(_ASCII_PARTED).split()  # "node.js" is two words
            need = 0
            for words in (*beside, *(frozenset([one]) for one in rest)):
                if words not in masks:
                    masks[words] = 1 << (len(languages()) + len(masks))
                    for one in words:
                        bits[one] = bits.get(one, 0) | masks[words]
                need |= masks[words]
            bits[word] = bits.get(word, 0) | bool(rules and not rest) << place
            if not rules and not amends:
                ends[word] = ends.get(word, 0) | 1 << place
            fitting.setdefault(word, []).append((need, place, rules, amends))
    return _Index(known=frozenset(bits), bits=bits, telling=frozenset(fitting), fitting=fitting, ends=ends)


def _cues_of(language: Language) -> Iterator[tuple[Cue, Mapping[int, Rule], bool]]:
    """Each cue of a language with spaces between words, with the rules that have it; whether it amends."""
    if not language.spaced:
        return
    alike: dict[Cue, dict[int, Rule]] = {}
    for rule in language.all_rules:
        for cue in rule.cues:
            alike.setdefault(cue, {})[rule.order_index] = rule
    for cue, rules in alike.items():
        yield cue, rules, False
    for cue in language.endings:
        yield cue, {}, False
    for cue in language.amending:
        yield cue, {}, True


@dataclass(frozen=True, slots=True)
class Telling:
    """The words of a text on which it depends whether a rule may fit or something may be ended."""

    parted: str
    """The text with a space for each mark that parts words."""
    words: set[str]
    """The words without marks around them, and what follows an apostrophe in them ("l'alcool")."""
    meant: Mapping[str, Sequence[str]]
    """By word with an apostrophe or a hyphen that is not one of them, which of them it is."""
    mask: int
    """The bits of all words."""


def telling_words(low: str) -> Telling:
    """The telling words of a text in small letters, in any language that has spaces between words."""
    parted = low.translate(_ASCII_PARTED) if low.isascii() else _parted(low)
    index = _index()
    written = parted.split()
    words = set(index.known.intersection(written))
    meant: dict[str, Sequence[str]] = {}
    for mark in "'-":
        if mark in parted and (mark == "'" or _EDGED.search(parted)):
            for word in [word for word in written if mark in word]:
                known = _meant(word)
                if known:
                    meant[word] = known
                    words.update(known)
    mask = 0
    for word in words:
        mask |= index.bits[word]
    return Telling(parted, words, meant, mask)


@lru_cache(maxsize=4096)
def _meant(word: str) -> tuple[str, ...]:
    """The known words that a word with apostrophes or hyphens is, if it is another than itself alone."""
    bare = word.strip("'-")
    known = _index().known
    found = tuple([part for part in dict.fromkeys((bare, bare.rpartition("'")[2])) if part in known])
    return () if found == (word,) else found


def _parted(low: str) -> str:
    for mark in _MARKS:  # not str.translate: outside ASCII it costs ten times as much
        if mark in low:
            low = low.replace(mark, " ")
    return low


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences of a text in small letters, and which of them hold a word."""

    low: str
    spans: Sequence[tuple[int, int]]

    def holding(self, text: str) -> Iterator[int]:
        """The indices of the sentences in which a text stands, each once, in order."""
        low, spans = self.low, self.spans
        at = low.find(text)
        while at >= 0:
            after = at + len(text)
            index = self.at(at)
            if index >= 0 and after <= spans[index][1]:
                yield index
                after = spans[index][1]
            at = low.find(text, after)

    def at(self, place: int) -> int:
        """The index of the last sentence that begins at a place or before; -1 if none does."""
        return bisect_right(self.spans, (place, len(self.low) + 1)) - 1


@dataclass(frozen=True, slots=True)
class Heard:
    """What the words of each sentence give away, by the index of the sentence; most have nothing."""

    rules: dict[int, dict[int, list[Mapping[int, Rule]]]] = field(default_factory=dict)
    """By place in `languages()`, the rules that may fit, by their place in the file, for each cue."""
    takes: dict[int, set[int]] = field(default_factory=dict)
    """The places of the languages in which it may take something back."""
    amends: dict[int, set[int]] = field(default_factory=dict)
    """The places of the languages in which it may hold a bare new value."""


@dataclass(frozen=True, slots=True)
class Possible:
    """What a message may be: the languages it may be in, and whether anything in it may fit."""

    places: int
    """The languages with a cue in it or with a word that takes something back, as bits."""
    stating: int
    """Those with a cue in it, as bits."""
    unspaced: Mapping[int, Sequence[str]]
    """The languages without spaces, by their place, with their cues in it."""
    tells: bool
    """Whether any rule may fit, or anything may be taken back or amended, whatever is in force."""

    def languages(self, *, ending: bool = True) -> Mapping[int, Language]:
        """The languages it may be in by their place in `languages()`, in order; those that only take back if asked."""
        return _languages_at(self.places if ending else self.stating)

    def heard(self, parts: Sentences, telling: Telling) -> Heard:
        """What may fit each of its sentences.

        Args:
            parts: Of what the user speaks in the message.
            telling: The telling words of that.
        """
        heard = Heard()
        if telling.words:
            _hear(heard, parts, telling)
        for place, cues in self.unspaced.items():
            for cue in cues:
                rules = {rule.order_index: rule for rule in languages()[place].rules[cue]}
                for index in parts.holding(cue):
                    heard.rules.setdefault(index, {}).setdefault(place, []).append(rules)
        return heard


@lru_cache(maxsize=512)
def _languages_at(places: int) -> Mapping[int, Language]:
    return MappingProxyType({place: language for place, language in enumerate(languages()) if places >> place & 1})


def _hear(heard: Heard, parts: Sentences, telling: Telling) -> None:
    index = _index()
    fitting, bits = index.fitting, index.bits
    parted, meant = telling.parted, telling.meant
    wanted = telling.words & index.telling
    told = telling.words.union(meant)
    seen = wanted.union([word for word, known in meant.items() if not wanted.isdisjoint(known)])
    for place, (start, end) in enumerate(parts.spans):
        words = parted[start:end].split()
        cues = seen.intersection(words)
        if not cues:
            continue
        held = told.intersection(words)
        if meant and not held.isdisjoint(meant):
            held.update(*[meant[word] for word in held & meant.keys()])
            held &= telling.words
            cues = held & wanted
        mask = 0
        for word in held:
            mask |= bits[word]
        for word in cues:
            for need, language, rules, amends in fitting[word]:
                if mask & need != need:
                    continue
                if rules:
                    heard.rules.setdefault(place, {}).setdefault(language, []).append(rules)
                else:
                    (heard.amends if amends else heard.takes).setdefault(place, set()).add(language)


def possible_in(telling: Telling, text: str, *, ending: bool) -> Possible:
    """The languages that a message may be in, and whether any rule may fit it.

    Args:
        telling: Its telling words.
        text: The message.
        ending: Whether words that take something back count.
    """
    index = _index()
    mask = telling.mask
    stating = places = mask & ((1 << len(languages())) - 1)
    if ending:
        for word in telling.words & index.ends.keys():
            places |= index.ends[word]
    unspaced = _unspaced_cues(text)
    for place, held in unspaced.items():
        stating |= bool(held) << place
        places |= (ending or bool(held)) << place
    tells = any(unspaced.values()) or (ending and bool(unspaced))
    for word in telling.words & index.telling:
        if tells:
            break
        for need, place, rules, _ in index.fitting[word]:
            if mask & need == need and (rules or (ending and places >> place & 1)):
                tells = True
    return Possible(places=places, stating=stating, unspaced=unspaced, tells=tells)


def _unspaced_cues(text: str) -> dict[int, Sequence[str]]:
    """The languages without spaces that a message may be in, by their place, with their cues in it."""
    if text.isascii() or not _UNSPACED.search(text):
        return {}
    return {
        place: [cue for cue in language.cues if cue in text]
        for place, language in enumerate(languages())
        if not language.spaced
    }


def amended_in(spoken_in: Mapping[int, Language], parts: Sentences, heard: Heard) -> dict[Language, list[int]]:
    """By language in which a bare new value may stand, the indices of its sentences."""
    low = parts.low
    found: dict[Language, list[int]] = {}
    for place, language in spoken_in.items():
        if not language.amending:
            if language.amend.search(low):
                found[language] = list(range(len(parts.spans)))
            continue
        for index, places in heard.amends.items():
            start, end = parts.spans[index]
            if place in places and language.amend.search(low[start:end]):
                found.setdefault(language, []).append(index)
    return found
