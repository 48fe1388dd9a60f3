"""How a later statement ends an earlier constraint: revoked, or superseded by what replaces it.

By the same attribute with another value ("I live in Lyon" after "I live in Paris"), by words
of taking back and an overlap of topic, or by the same topic with the opposite polarity. In
doubt nothing ends: a rule too many can be revoked, a rule lost in silence cannot.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import snowballstemmer

from langmem_plugin.projections.constraints.vocabulary import Language, languages
from langmem_plugin.records import Constraint

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LONGEST = 400
"""Characters of a sentence in which endings are looked for; nobody takes back in more."""
_TOPIC_SHARE = 0.6
"""Of a topic's words, how many an earlier constraint must hold to be meant."""
_SAME_SHARE = 0.6
"""Overlap of content words (Jaccard) from which two orders are about one thing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An earlier constraint that a sentence ends."""

    constraint_id: str
    how: Literal["revoked", "superseded"]
    by: int | None = None
    """Index into the statements found in the sentence; None if the sentence itself replaces it."""
    amends: bool = False
    """Only a value changes ("make that 700 euros"), so the kind stays."""
    span: tuple[int, int] | None = None
    """What stands instead, if it is less than the sentence."""


@lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """The words alone, for telling a repetition: compatibility forms, small letters, no punctuation."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).lower().replace("’", "'")))


@lru_cache(maxsize=32)
def _stemmer(name: str) -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer(name)


@lru_cache(maxsize=2048)
def content_words(text: str, code: str) -> frozenset[str]:
    """Stems of the words that carry the topic; pairs of characters where words are not spaced."""
    language = next(item for item in languages() if item.code == code)
    if not language.spaced:
        kept = [char for char in text.lower() if char.isalnum() and char not in language.stop_words]
        return frozenset(a + b for a, b in pairwise(kept)) or frozenset(kept)
    words = [word for word in normalised(text).split() if word not in language.stop_words]
    words = [word.removesuffix("'s") for word in words]
    return frozenset(_stemmer(language.stemmer).stemWords(words)) if language.stemmer else frozenset(words)


@lru_cache(maxsize=2048)
def _attributes(text: str, code: str) -> frozenset[str]:
    """What a statement sets, among the attributes that hold one value at a time."""
    language = next(item for item in languages() if item.code == code)
    low = text.lower().replace("’", "'")
    names: set[str] = set()
    for rule in language.all_rules:
        if not rule.attribute:
            continue
        found = rule.pattern.search(text if rule.cased else low)
        if found:
            name = found.group(1) if rule.attribute == "=1" else rule.attribute
            names.add((name or "").strip())
    return frozenset(names & language.single) or frozenset(names)


def _spoken_in(constraint: Constraint, spoken_in: Sequence[Language]) -> Language:
    """The language to read an earlier constraint in."""
    low = constraint.text.lower()
    words = set(_WORD.findall(low.replace("’", "'")))
    for language in (*spoken_in, *languages()):
        if not language.cues.isdisjoint(words) if language.spaced else any(cue in low for cue in language.cues):
            return language
    return spoken_in[0]


def endings(
    low: str,
    start: int,
    end: int,
    active: Sequence[Constraint],
    spoken_in: Sequence[Language],
    found: Sequence[tuple[int, int]],
) -> Iterator[Ending]:
    """What one sentence ends.

    Args:
        low: The user's own speech in small letters.
        start: Where the sentence begins in it.
        end: Where it ends.
        active: The constraints in force.
        spoken_in: The languages of the message.
        found: Spans of the statements in this sentence.

    Yields:
        At most one ending for each constraint.
    """
    sentence = low[start:end]
    if len(sentence) > _LONGEST:
        return
    for language in spoken_in:
        taken_back = list(_taken_back(sentence, language, active))
        if taken_back:
            yield from taken_back
            return
    for index, (left, right) in enumerate(found):
        yield from _replaced(low[left:right], index, active, spoken_in)
    if not found:
        for language in spoken_in:
            amended = _amended(sentence, language, active)
            if amended is not None:
                yield amended
                return


def _taken_back(sentence: str, language: Language, active: Sequence[Constraint]) -> Iterator[Ending]:
    if sentence.rstrip().endswith(("?", "？")):
        return
    for patterns, how in ((language.revoke, "revoked"), (language.replace, "superseded")):
        for pattern in patterns:
            for found in pattern.finditer(sentence):
                target = _about(found.group("topic"), language, active)
                if target is None:
                    continue
                if how == "revoked":
                    yield Ending(constraint_id=target.id, how="revoked")
                else:
                    yield Ending(constraint_id=target.id, how="superseded")
                return


def _about(topic: str, language: Language, active: Sequence[Constraint]) -> Constraint | None:
    """The one earlier constraint that a topic names; None if none or several fit as well."""
    wanted = content_words(topic, language.code)
    if not wanted:
        return None
    scores: list[tuple[float, Constraint]] = []
    for constraint in active:
        held = content_words(constraint.text, language.code)
        share = len(wanted & held) / len(wanted)
        if share >= _TOPIC_SHARE:
            scores.append((share, constraint))
    if not scores:
        return None
    best = max(score for score, _ in scores)
    targets = [constraint for score, constraint in scores if score == best]
    return targets[0] if len(targets) == 1 else None


def _replaced(
    statement: str, index: int, active: Sequence[Constraint], spoken_in: Sequence[Language]
) -> Iterator[Ending]:
    """Earlier constraints of the same attribute, or of the same topic with the opposite polarity."""
    for constraint in active:
        if normalised(constraint.text) == normalised(statement):
            continue
        old_language = _spoken_in(constraint, spoken_in)
        language = spoken_in[0]
        new = _attributes(statement, language.code)
        old = _attributes(constraint.text, old_language.code)
        shared = new & old
        if shared and shared <= language.single | old_language.single:
            if _same_subject(shared, statement, constraint.text, language):
                yield Ending(constraint_id=constraint.id, how="superseded", by=index)
            continue
        if shared or language is not old_language:
            continue
        new_words = content_words(statement, language.code)
        old_words = content_words(constraint.text, language.code)
        if not new_words or not old_words:
            continue
        alike = len(new_words & old_words) / len(new_words | old_words)
        opposite = bool(language.negative.search(statement)) != bool(
            language.negative.search(constraint.text.lower().replace("’", "'"))
        )
        if opposite and alike >= _SAME_SHARE:
            yield Ending(constraint_id=constraint.id, how="superseded", by=index)


def _same_subject(shared: frozenset[str], new: str, old: str, language: Language) -> bool:
    """Whether two statements of one attribute are about one thing: no budget ends another's."""
    if not shared & {"budget", "deadline", "diet"}:
        return True
    if "diet" in shared:
        return False
    pattern = next((language.value[name] for name in sorted(shared) if name in language.value), None)
    old = old.lower().replace("’", "'")
    if pattern is not None:
        new, old = pattern.sub(" ", new), pattern.sub(" ", old)
    new_words = {word for word in content_words(new, language.code) if not any(map(str.isdigit, word))}
    old_words = {word for word in content_words(old, language.code) if not any(map(str.isdigit, word))}
    return new_words <= old_words or old_words <= new_words


def _amended(sentence: str, language: Language, active: Sequence[Constraint]) -> Ending | None:
    """A bare new value for the one earlier constraint that holds a value of that sort."""
    found = language.amend.search(sentence)
    if found is None or sentence.rstrip().endswith(("?", "？")):
        return None
    given = found.group("value")
    for attribute, pattern in language.value.items():
        if not pattern.search(given):
            continue
        targets = [item for item in active if attribute in _attributes(item.text, language.code)]
        if len(targets) == 1:
            return Ending(constraint_id=targets[0].id, how="superseded", amends=True)
    return None
