"""How a later statement ends an earlier constraint: revoked, or superseded by what replaces it.

By the same attribute with another value ("I live in Lyon" after "I live in Paris"), by words
of taking back and an overlap of topic, or by the same topic with the opposite polarity. In
doubt nothing ends: a rule too many can be revoked, a rule lost in silence cannot.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, NamedTuple

import snowballstemmer

from langmem_plugin.projections.constraints.vocabulary import Language, Rule, languages
from langmem_plugin.records import Constraint

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LETTERS = re.compile(r"[^\W_]+")
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


_CONTRACTED = (("can't", "cannot"), ("can not", "cannot"), ("won't", "will not"), ("n't", " not"), ("'m", " am"))


@lru_cache(maxsize=4096)
def without_manners(text: str) -> str:
    """The statement without politeness, emphasis and contractions: equal for two that say the same."""
    plain = normalised(text)
    for short, long in _CONTRACTED:
        plain = plain.replace(short, long)
    for language in languages():
        bare = language.manners.sub(" ", plain) if language.spaced or not plain.isascii() else plain
        plain = bare if bare.strip() else plain
    return " ".join(plain.split())


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
    return frozenset(_stem(word.removesuffix("'s"), language.stemmer) for word in words)


@lru_cache(maxsize=8192)
def _stem(word: str, stemmer: str) -> str:
    return str(_stemmer(stemmer).stemWord(word)) if stemmer else word


@lru_cache(maxsize=2048)
def attributes(text: str, code: str) -> Mapping[str, frozenset[str]]:
    """What a statement sets, and of which thing: {"budget": {"trip"}}; values that stand alone come first."""
    language = next(item for item in languages() if item.code == code)
    low = text.lower().replace("’", "'")
    names: dict[str, frozenset[str]] = {}
    for rule in _setting(language, low):
        found = rule.pattern.search(text if rule.cased else low)
        if not found:
            continue
        name = ((found.group(1) if rule.attribute == "=1" else rule.attribute) or "").strip()
        name = language.same.get(name, name)
        if name not in names:
            names[name] = _subject(low, found.start(), found.end(), name, language)
    single = {name: subject for name, subject in names.items() if name in language.single}
    return MappingProxyType(single or names)


def _setting(language: Language, low: str) -> Sequence[Rule]:
    """The rules that say what a statement sets, if any of their cues stands in it, in the order of the file."""
    by_cue = _setting_by_cue(language)
    if not language.spaced:
        return by_cue[""]
    words = {*_WORD.findall(low), *_LETTERS.findall(low)}  # of "my employer's name" the employer too
    found = {rule.order_index: rule for word in words & by_cue.keys() for rule in by_cue[word]}
    return [found[at] for at in sorted(found)]


@lru_cache(maxsize=32)
def _setting_by_cue(language: Language) -> Mapping[str, Sequence[Rule]]:
    """By each word of their cues, and all under no word, the rules that say what a statement sets."""
    rules = [rule for rule in language.all_rules if rule.attribute]
    found: dict[str, list[Rule]] = {"": rules}
    for rule in rules:
        for word in {part for cue, _ in rule.cues for part in (cue, *_LETTERS.findall(cue))}:
            found.setdefault(word, []).append(rule)
    return found


def _subject(low: str, start: int, end: int, name: str, language: Language) -> frozenset[str]:
    """What the value belongs to: {"trip"} of "our trip budget is 500 euros", {} of "our budget is 500 euros"."""
    while end < len(low) and low[end].isalnum():  # the pattern may end within the value
        end += 1
    words = low[start:end]
    after = low[end:].lstrip("0123456789.,:/- ")
    for pattern in language.value.values():
        words = pattern.sub(" ", words)
        after = pattern.sub(" ", after)
    scope = language.scoped.match(after.lstrip())
    words = language.idle.sub(" ", language.changed.sub(" ", f"{words} {scope.group() if scope else ''}"))
    own = content_words(name, language.code)
    return frozenset(
        word for word in content_words(words, language.code) - own if len(word) > 1 and not any(map(str.isdigit, word))
    )


def language_of(constraint: Constraint, spoken_in: Sequence[Language]) -> Language:
    """The language to read an earlier constraint in: one with a cue in it, those of `spoken_in` first."""
    return _language_of(constraint.text, tuple(spoken_in))


@lru_cache(maxsize=2048)
def _language_of(text: str, spoken_in: tuple[Language, ...]) -> Language:
    low = text.lower()
    words = set(_WORD.findall(low.replace("’", "'")))
    for language in (*spoken_in, *languages()):
        if not language.cues.isdisjoint(words) if language.spaced else any(cue in low for cue in language.cues):
            return language
    return spoken_in[0]


def endings(
    low: str,
    start: int,
    end: int,
    active: Callable[[], Sequence[Constraint]],
    spoken_in: tuple[Language, ...],
    found: Sequence[tuple[int, int]],
    taking_back: Sequence[Language],
    amending: Sequence[Language],
) -> Iterator[Ending]:
    """What one sentence ends.

    Args:
        low: The user's own speech in small letters.
        start: Where the sentence begins in it.
        end: Where it ends.
        active: Gives the constraints in force; called only for a sentence that may end one.
        spoken_in: The languages of the message.
        found: Spans of the statements in this sentence.
        taking_back: The languages in which the sentence may take something back.
        amending: The languages in which the message may hold a bare new value.

    Yields:
        At most one ending for each constraint.
    """
    sentence = low[start:end]
    if len(sentence) > _LONGEST:
        return
    for language in taking_back:
        taken_back = list(_taken_back(sentence, language, active))
        if taken_back:
            yield from taken_back
            return
    for index, (left, right) in enumerate(found):
        yield from _replaced(low[left:right], index, active(), spoken_in)
    if not found:
        for language in amending:
            amended = _amended(sentence, language, active)
            if amended is not None:
                yield amended
                return


def _taken_back(sentence: str, language: Language, active: Callable[[], Sequence[Constraint]]) -> Iterator[Ending]:
    if sentence.rstrip().endswith(("?", "？")):
        return
    for forms, how in ((language.revoke, "revoked"), (language.replace, "superseded")):
        for form in forms:
            if form.words and not any(map(sentence.__contains__, form.words)):
                continue
            for found in form.pattern.finditer(sentence):
                target = _about(found.group("topic"), language, active)
                if target is None:
                    continue
                if how == "revoked":
                    yield Ending(constraint_id=target.id, how="revoked")
                else:
                    yield Ending(constraint_id=target.id, how="superseded")
                return


def _about(topic: str, language: Language, active: Callable[[], Sequence[Constraint]]) -> Constraint | None:
    """The one earlier constraint that a topic names; None if none or several fit as well."""
    wanted = content_words(topic, language.code)
    if not wanted:
        return None
    scores: list[tuple[float, Constraint]] = []
    for constraint in active():
        held = content_words(constraint.text, language.code)
        share = len(wanted & held) / len(wanted)
        if share >= _TOPIC_SHARE:
            scores.append((share, constraint))
    if not scores:
        return None
    best = max(score for score, _ in scores)
    targets = [constraint for score, constraint in scores if score == best]
    return targets[0] if len(targets) == 1 else None


class _Earlier(NamedTuple):
    """What is to be known of an earlier constraint."""

    said: str
    language: Language
    sets: Mapping[str, frozenset[str]]
    words: frozenset[str]
    denies: bool


@lru_cache(maxsize=2048)
def _earlier(text: str, spoken_in: tuple[Language, ...]) -> _Earlier:
    language = _language_of(text, spoken_in)
    return _Earlier(
        said=normalised(text),
        language=language,
        sets=attributes(text, language.code),
        words=content_words(text, language.code),
        denies=language.negative.search(text.lower().replace("’", "'")) is not None,
    )


def _replaced(
    statement: str, index: int, active: Sequence[Constraint], spoken_in: tuple[Language, ...]
) -> Iterator[Ending]:
    """Earlier constraints of the same attribute, or of the same topic with the opposite polarity."""
    language = spoken_in[0]
    new = attributes(statement, language.code)
    changed = language.changed.search(statement) is not None
    nearest: dict[str, int] = {}
    same: dict[str, list[tuple[int, str]]] = {}
    said = normalised(statement)
    for constraint in active:
        old = _earlier(constraint.text, spoken_in)
        if old.said == said:
            continue
        if new and old.sets and (shared := new.keys() & old.sets.keys()):
            single = language.single | old.language.single
            for name in shared & single if shared <= single else ():
                near = _nearness(name, new[name], old.sets[name], changed=changed)
                if near:
                    same.setdefault(name, []).append((near, constraint.id))
                    nearest[name] = max(near, nearest.get(name, 0))
            continue
        if language is old.language and _is_opposite(statement, old):
            yield Ending(constraint_id=constraint.id, how="superseded", by=index)
    for name, candidates in same.items():
        ended = [constraint_id for near, constraint_id in candidates if near == nearest[name]]
        # "Our budget is 500 now" after two budgets, each of something: which one is not for us to say.
        if nearest[name] == _SAME or len(ended) == 1:
            for constraint_id in ended:
                yield Ending(constraint_id=constraint_id, how="superseded", by=index)


_SAME = 2
PERSONAL = frozenset({"name", "home", "language", "units", "age", "job"})
"""A person has one, whatever else the statement says."""


def _nearness(name: str, new: frozenset[str], old: frozenset[str], *, changed: bool) -> int:
    """Whether two values are of one thing: `_SAME`, 1 if one of them does not say of what, 0 if not."""
    if name in PERSONAL or new == old:
        return _SAME
    if name == "diet":
        return 0
    # A statement about a part ends the whole only if it says that something changed.
    return int(new < old or (old < new and changed))


def _is_opposite(statement: str, old: _Earlier) -> bool:
    """Whether two statements are about one thing and one of them denies it."""
    words = content_words(statement, old.language.code)
    if words.isdisjoint(old.words):
        return False
    alike = len(words & old.words) / len(words | old.words)
    return alike >= _SAME_SHARE and bool(old.language.negative.search(statement)) != old.denies


def _amended(sentence: str, language: Language, active: Callable[[], Sequence[Constraint]]) -> Ending | None:
    """A bare new value for the one earlier constraint that holds a value of that sort."""
    found = language.amend.search(sentence)
    if found is None or sentence.rstrip().endswith(("?", "？")):
        return None
    given = found.group("value")
    for attribute, pattern in language.value.items():
        if not pattern.search(given):
            continue
        targets = [item for item in active() if attribute in attributes(item.text, language.code)]
        if len(targets) == 1:
            return Ending(constraint_id=targets[0].id, how="superseded", amends=True)
    return None
