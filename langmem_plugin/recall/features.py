"""What is known of each message about one query, as numbers of a common scale.

Two steps, because a session may be long: `dense` looks at every message at once with
numpy and needs only scores; `near` looks at the few best ones and reads their text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.messages import Message, Role
from langmem_plugin.recall.bm25 import Floats, Keywords
from langmem_plugin.records import Entry

Ints = npt.NDArray[np.int64]

DENSE: Final = (
    "keyword", "keyword_square", "keyword_prev", "keyword_next", "keyword_prev2", "keyword_next2",
    "keyword_around", "coverage", "coverage_2", "meaning", "meaning_square", "meaning_prev", "meaning_next",
    "meaning_prev2", "meaning_next2", "meaning_around", "when",
)  # fmt: skip
"""Features of the first step."""
NEAR: Final = (
    "speaker",
    "answers",
    "answers_keyword",
    "answers_meaning",
    "asks",
    "substance",
    "specific",
    "time",
    "time_asked",
    "self",
)
"""Features that the second step adds."""

_AROUND: Final = 8
_KERNEL: Final = np.array([0.0 if d == 0 else np.exp(-((d / 4) ** 2) / 2) for d in range(-_AROUND, _AROUND + 1)])
_NORMAL: Final = NormalDist()
_SUBSTANCE_CHARS: Final = 60
"""Texts much shorter than this seldom hold a fact; beyond twice of it length says nothing more."""


@dataclass(frozen=True, slots=True)
class Dense:
    """The first step's features: one row a feature of `DENSE`, one column a seq."""

    rows: Floats
    meaning: bool
    """Whether the vector leg answered."""


def dense(keywords: Keywords, nearness: Floats | None, when: Floats | None = None) -> Dense:
    """Features of every message.

    Args:
        keywords: What the keyword leg found; its length is the size of every row.
        nearness: Standardised cosine by seq; None if the vector leg did not answer.
        when: 0..1 by seq, how well the message's time fits a date in the query; None without one.
    """
    size = len(keywords.scores)
    top = keywords.scores.max(initial=0.0)
    words = keywords.scores / top if top > 0 else keywords.scores
    covered, covered_2 = _coverage(keywords, size)
    near = nearness if nearness is not None else np.zeros(size)
    rows = np.stack([
        words, words * words, _shift(words, 1), _shift(words, -1), _shift(words, 2), _shift(words, -2),
        _around(words), covered, covered_2, near, near * np.abs(near), _shift(near, 1), _shift(near, -1),
        _shift(near, 2), _shift(near, -2), _around(near), when if when is not None else np.zeros(size),
    ])  # fmt: skip
    return Dense(rows, nearness is not None)


def near(first: Dense, seqs: Ints, entries: Mapping[int, Entry], query: str) -> Floats:
    """Features of some messages: one row a message, columns `DENSE` + `NEAR`.

    Args:
        first: The first step's features.
        seqs: The messages to look at.
        entries: Those messages and the ones before them, as far as they exist.
        query: The user's words.
    """
    speakers = {seq: speaker(entry.message) for seq, entry in entries.items()}
    wanted = _wanted(query, {name for name in speakers.values() if name})
    words, meaning = first.rows[DENSE.index("keyword")], first.rows[DENSE.index("meaning")]
    extra = np.zeros((len(seqs), len(NEAR)))
    when_asked = float(_WHEN.search(query) is not None)
    for row, seq in enumerate(seqs.tolist()):
        entry, before = entries.get(seq), entries.get(seq - 1)
        if entry is None:
            continue
        text = entry.message.text[:_READ_CHARS]
        words_of = _WORD.findall(text)
        told = float(not _TIME.isdisjoint(map(str.lower, words_of)))
        answers = float(before is not None and asks(before.message.text[-_READ_CHARS:]))
        extra[row] = (
            wanted.fits(entry.message, speakers[seq]),
            answers,
            answers * words[seq - 1],
            answers * meaning[seq - 1],
            float(asks(text)),
            1.0 - math.exp(-len(text) / _SUBSTANCE_CHARS),
            min(4, _specific(text)) / 4,
            told,
            told * when_asked,
            float(not _SELF.isdisjoint(words_of)),
        )
    return np.concatenate([first.rows[:, seqs].T, extra], axis=1)


def standardise(seqs: Ints, cosines: npt.NDArray[np.float32], *, documents: int, size: int) -> Floats:
    """Cosines as distances from the session's mean in standard deviations, by seq.

    When only the best were returned, mean and deviation are taken from two ranks of
    them, as if cosines were normally distributed; the others get what lies beyond.
    """
    out: Floats = np.zeros(size)
    found = len(seqs)
    if not found:
        return out
    values = cosines.astype(np.float64)
    missing = max(0, documents - found)
    if missing <= documents * 0.02 or found < 16:
        spread = float(values.std())
        scaled = (values - values.mean()) / spread if spread > 1e-9 else np.zeros(found)
        rest = float(scaled.min(initial=0.0))
    else:
        middle = found // 2
        far, farther = (_NORMAL.inv_cdf(1 - rank / (documents + 1)) for rank in (middle, found))
        spread = max(1e-9, float(values[middle - 1] - values[-1]) / max(1e-9, far - farther))
        scaled = (values - values[-1]) / spread + farther
        rest = -_NORMAL.pdf(farther) / max(1e-9, _NORMAL.cdf(farther))
    out[1:] = rest
    out[seqs] = np.clip(scaled, -3.0, 6.0)
    return out


_READ_CHARS: Final = 2_000
"""Of a long message so much is read for the features of the second step."""
_WORD: Final = re.compile(r"\w+")
_SELF: Final = frozenset({"I", "my", "My", "me", "we", "We", "our", "Our"})
_TIME: Final = frozenset({
    "yesterday", "last", "next", "ago", "week", "weeks", "month", "months", "tomorrow", "today", "tonight", "year",
    "years", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "weekend", "since",
    "recently", "just",
})  # fmt: skip
_WHEN: Final = re.compile(
    r"\b(?:when|how long|what (?:date|day|month|year|time)|which (?:date|day|month|year))\b", re.IGNORECASE
)
_LABEL: Final = re.compile(r"\s*([^\W\d_][\w.'\u2019 -]{0,30}):\s")
_QUESTION: Final = re.compile("[?\uff1f\u061f\u037e]")
_FIRST_PERSON: Final = re.compile(r"\b(?:i|me|my|mine|myself)\b", re.IGNORECASE)
_SECOND_PERSON: Final = re.compile(
    r"\b(?:did|have|had) you\b|\byou(?:'ve)? (?:said|told|suggest|recommend|gave|mention|explain|wrote|advise|promise)"
    r"|\byour (?:answer|advice|suggestion|recommendation|reply|idea|last|previous|first)",
    re.IGNORECASE,
)


def speaker(message: Message) -> str:
    """Who says it: the message's name, or the name in a text of the form "Name: ..."; else ""."""
    if message.name:
        return message.name.strip()
    text = message.text[:64]
    found = _LABEL.match(text) if ":" in text else None
    return found.group(1).strip() if found else ""


def asks(text: str) -> bool:
    """True if there is a question in it."""
    return "?" in text or (not text.isascii() and _QUESTION.search(text) is not None)


def _specific(text: str) -> int:
    """Names and numbers in a text: capitals within a sentence, and words with a digit first."""
    words = text.split()
    return sum(
        1
        for before, word in pairwise(words)
        if (word[0].isupper() and len(word) > 1 and before[-1] not in ".!?:" and word[1] != "'") or word[0].isdigit()
    )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whose words the query is after."""

    names: frozenset[str]
    role: Role | None

    def fits(self, message: Message, name: str) -> float:
        """1 for a speaker that the query names, -1 for another one, 0 if it names none; half for a role."""
        if self.names:
            return 1.0 if name in self.names else -1.0
        if self.role is None or message.role not in (Role.USER, Role.ASSISTANT):
            return 0.0
        return 0.5 if message.role is self.role else -0.5


def _wanted(query: str, names: set[str]) -> _Wanted:
    """The one speaker a query names; where it names several, all of them count the same."""
    folded = query.casefold()
    named = {name for name in names if _names(folded, name.casefold())}
    if named and len(named) < len(names):
        return _Wanted(frozenset(named), None)
    if named:
        return _Wanted(frozenset(), None)
    first, second = _FIRST_PERSON.search(query), _SECOND_PERSON.search(query)
    if bool(first) == bool(second):
        return _Wanted(frozenset(), None)
    return _Wanted(frozenset(), Role.USER if first else Role.ASSISTANT)


def _names(text: str, name: str) -> bool:
    """True if the name, or its first word, stands in the text as a word."""
    for part in {name, name.split(" ", maxsplit=1)[0]}:
        at = text.find(part) if len(part) > 1 else -1
        while at >= 0:
            before, after = text[at - 1 : at], text[at + len(part) : at + len(part) + 1]
            if not before.isalnum() and not after.isalnum():
                return True
            at = text.find(part, at + 1)
    return False


def _coverage(keywords: Keywords, size: int) -> tuple[Floats, Floats]:
    """Share of the query's rarity that stands in a message, and within two messages around it."""
    here: Floats = np.zeros(size)
    around: Floats = np.zeros(size)
    total = 0.0
    for seqs, weight in keywords.rows.values():
        total += weight
        here[seqs] += weight
        hit = np.zeros(size, dtype=bool)
        for step in (-2, -1, 0, 1, 2):
            moved = seqs + step
            hit[moved[(moved > 0) & (moved < size)]] = True
        around[hit] += weight
    total += keywords.absent_idf * keywords.absent
    return (here / total, around / total) if total > 0 else (here, around)


def _shift(values: Floats, by: int) -> Floats:
    """Each message's value moved `by` messages on: 1 gives everyone the value of the one before."""
    out = np.zeros_like(values)
    if by >= len(values) or -by >= len(values):
        return out
    if by > 0:
        out[by:] = values[:-by]
    else:
        out[:by] = values[-by:]
    return out


def _around(values: Floats) -> Floats:
    """The values of the neighbours within eight messages, nearer ones counting more."""
    out: Floats = np.convolve(values, _KERNEL, mode="full")[_AROUND : _AROUND + len(values)]
    return out
