"""Which rules may fit: those whose cues stand in the text. Most messages and sentences have none."""

from __future__ import annotations

import re
from dataclasses import dataclass

from langmem_plugin.projections.constraints.vocabulary import Language, Rule

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
    if not low.isascii() or _JOINED.search(low):
        for mark in _SPACED:
            if mark in low:
                low = low.replace(mark, " ")
    words = {word.strip(_MARKS) for word in low.split()}
    if "'" in low:
        words |= {word.rpartition("'")[2] for word in words if "'" in word}
    return words


def _is_unspaced(text: str) -> bool:
    """Whether any character is Chinese or Japanese."""
    return not text.isascii() and _UNSPACED.search(text) is not None


def any_cue(language: Language, words: set[str], text: str) -> bool:
    """Whether any rule of the language may fit."""
    if language.spaced:
        return not language.cues.isdisjoint(words)
    return _is_unspaced(text) and any(cue in text for cue in language.cues)


def may_end(language: Language, words: set[str], text: str) -> bool:
    """Whether a word stands in the text without which nothing is taken back."""
    if language.spaced:
        return not language.endings.isdisjoint(words)
    return _is_unspaced(text)


def candidates(language: Language, words: set[str], text: str) -> dict[str, tuple[Rule, ...]]:
    """By cue that stands in the text, the rules that may fit somewhere in it."""
    if not language.spaced:
        return {cue: language.rules[cue] for cue in language.cues if cue in text}
    possible: dict[str, tuple[Rule, ...]] = {}
    for cue in language.cues & words:
        rules = tuple(rule for rule in language.rules[cue] if not rule.also or not rule.also.isdisjoint(words))
        if rules:
            possible[cue] = rules
    return possible


@dataclass(frozen=True, slots=True)
class Possible:
    """A language that the message may be in, with the rules whose cues stand in it."""

    language: Language
    rules: dict[str, tuple[Rule, ...]]

    def within(self, sentence: str) -> list[Rule]:
        """The rules that may fit a sentence, in the order of the file."""
        cues = [cue for cue in self.rules if cue in sentence]
        if not cues:
            return []
        if not self.language.spaced:
            rules = {rule.order_index: rule for cue in cues for rule in self.rules[cue]}
            return [rules[index] for index in sorted(rules)]
        words = words_of(sentence)
        rules = {
            rule.order_index: rule
            for cue in cues
            if cue in words
            for rule in self.rules[cue]
            if not rule.also or not rule.also.isdisjoint(words)
        }
        return [rules[index] for index in sorted(rules)]
