"""What is known of each message about one query, as numbers of a common scale.

Two steps, because a session may be long: `dense` looks at every message at once with
numpy and needs only scores; `near` looks at the few best ones and reads their text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.messages import Role
from langmem_plugin.recall.bm25 import Floats, Keywords
from langmem_plugin.recall.traits import ASKS, ENDS_ASKING, OWN, TELLS_TIME, Ints, Traits

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
    "sitting",
    "keyword_meaning",
    "speaker_meaning",
    "window",
    "place",
)
"""Features that the second step adds."""

_LEG: Final = ("", "_square", "_prev", "_next", "_prev2", "_next2", "_around")
_AROUND: Final = 8
_OFFSETS: Final = np.arange(-_AROUND, _AROUND + 1)
_KERNEL: Final = np.where(_OFFSETS == 0, 0.0, np.exp(-((_OFFSETS / 4) ** 2) / 2))
_NORMAL: Final = NormalDist()
_SITTING_MICROS: Final = 3 * 3600 * 10**6
_ROWS: Final = 1_024
"""So many messages are compared with all others at a time."""
_TERMS: Final = 16
"""So many terms are counted at a time."""


@dataclass(frozen=True, slots=True)
class Dense:
    """What the two legs say of every message, by seq (index 0 is unused); all of one length."""

    words: Floats
    """The keyword score, 0..1 of the best one."""
    covered: Floats
    """Share of the query's rarity that stands in the message."""
    covered_2: Floats
    """The same within two messages around it."""
    near: Floats
    """Standardised cosine; zeros without the vector leg."""
    when: Floats | None
    """0..1, how well the message's time fits a date in the query; None without one."""
    meaning: bool
    """Whether the vector leg answered."""

    def rough(self, weights: Mapping[str, float]) -> Floats:
        """A linear score of every message, by weights of `DENSE`; only the order matters."""
        out = _spread(self.words, _kernel(weights, "keyword"))
        out += weights.get("keyword_square", 0.0) * self.words * self.words
        out += weights.get("coverage", 0.0) * self.covered + weights.get("coverage_2", 0.0) * self.covered_2
        if self.meaning:
            out += _spread(self.near, _kernel(weights, "meaning"))
            out += weights.get("meaning_square", 0.0) * self.near * np.abs(self.near)
        if self.when is not None:
            out += weights.get("when", 0.0) * self.when
        return out

    def rows(self, seqs: Ints) -> Floats:
        """The features of some messages: one row each, columns `DENSE`."""
        out = np.zeros((len(seqs), len(DENSE)))
        beside = seqs[:, None] + _OFFSETS[None, :]
        for first, values in ((0, self.words), (len(_LEG) + 2, self.near)):
            around = np.where((beside >= 0) & (beside < len(values)), values[np.clip(beside, 0, len(values) - 1)], 0.0)
            here = around[:, _AROUND]
            out[:, first] = here
            out[:, first + 1] = here * np.abs(here)
            for place, step in enumerate((-1, 1, -2, 2), start=first + 2):
                out[:, place] = around[:, _AROUND + step]
            out[:, first + 6] = around @ _KERNEL
        out[:, len(_LEG)] = self.covered[seqs]
        out[:, len(_LEG) + 1] = self.covered_2[seqs]
        if self.when is not None:
            out[:, -1] = self.when[seqs]
        return out


def dense(keywords: Keywords, nearness: Floats | None, when: Floats | None = None) -> Dense:
    """What the legs say of every message.

    Args:
        keywords: What the keyword leg found; its length is that of all others.
        nearness: Standardised cosine by seq; None if the vector leg did not answer.
        when: 0..1 by seq, how well the message's time fits a date in the query; None without one.
    """
    size = len(keywords.scores)
    top = keywords.scores.max(initial=0.0)
    words = keywords.scores / top if top > 0 else keywords.scores
    covered, covered_2 = _coverage(keywords, size)
    near = nearness if nearness is not None else np.zeros(size)
    return Dense(words, covered, covered_2, near, when, nearness is not None)


def near(
    first: Dense,
    places: Ints,
    here: Traits,
    before: Traits,
    query: str,
    *,
    lengths: Floats | None = None,
    end: int,
    age: Floats,
) -> Floats:
    """Features of some messages: one row a message, columns `DENSE` + `NEAR`.

    Args:
        first: What the legs say.
        places: The messages to look at, by their places in it.
        here: Their traits.
        before: The traits of the message before each.
        query: The user's words.
        lengths: Of the sum of the vectors of each message and its two neighbours; None without the vector leg.
        end: One more than the place of the newest message that may be found.
        age: Where in the session each stands, from 0 to 1 for the newest.
    """
    wanted = _wanted(query, here.speakers() | before.speakers())
    answers = before.has(ENDS_ASKING)
    told = here.has(TELLS_TIME)
    words, meaning, fits = first.words[places], first.near[places], wanted.fits(here)
    rough = 0.5 * words + 0.5 * first.covered_2[places] + 0.15 * meaning
    extra = np.stack([
        fits, answers, answers * first.words[places - 1], answers * first.near[places - 1],
        here.has(ASKS), here.rows["substance"], here.rows["specific"], told,
        told * float(_WHEN.search(query) is not None), here.has(OWN),
        _best_beside(rough, here.rows["written"]), words * np.maximum(meaning, 0.0), fits * meaning,
        np.zeros(len(places)) if lengths is None else _together(first.near, places, end) / np.maximum(lengths, 0.5),
        age,
    ], axis=1)  # fmt: skip
    extra[~here.exist] = 0.0
    return np.concatenate([first.rows(places), extra], axis=1)


def _together(near: Floats, seqs: Ints, end: int) -> Floats:
    """The nearness of each message and its two neighbours, added up.

    By the length of the sum of their vectors that is how near the query is to what the
    three say together, on the scale of the single ones.
    """
    padded = np.concatenate([near[:end], [0.0, 0.0]])
    padded[0] = 0.0
    total: Floats = padded[seqs - 1] + padded[seqs] + padded[seqs + 1]
    return total


def _best_beside(rough: Floats, written: npt.NDArray[np.int64]) -> Floats:
    """For each message the best rough score of the others said within some hours of it; 0 if there are none."""
    best: Floats = np.zeros(len(rough))
    for start in range(0, len(rough), _ROWS):
        rows = slice(start, start + _ROWS)
        together = np.abs(written[rows, None] - written[None, :]) <= _SITTING_MICROS
        together[np.arange(len(together)), np.arange(start, start + len(together))] = False
        others = np.where(together, rough[None, :], -np.inf).max(axis=1, initial=-np.inf)
        best[rows] = np.where(np.isfinite(others), others, 0.0)
    return best


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


_WHEN: Final = re.compile(
    r"\b(?:when|how long|what (?:date|day|month|year|time)|which (?:date|day|month|year))\b", re.IGNORECASE
)
_FIRST_PERSON: Final = re.compile(r"\b(?:i|me|my|mine|myself)\b", re.IGNORECASE)
_SECOND_PERSON: Final = re.compile(
    r"\b(?:did|have|had) you\b|\byou(?:'ve)? (?:said|told|suggest|recommend|gave|mention|explain|wrote|advise|promise)"
    r"|\byour (?:answer|advice|suggestion|recommendation|reply|idea|last|previous|first)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Whose words the query is after."""

    names: frozenset[str]
    role: Role | None

    def fits(self, said: Traits) -> Floats:
        """1 for a speaker that the query names, -1 for another one, 0 if it names none; half for a role."""
        if self.names:
            numbers = [number for number, name in enumerate(said.names) if name in self.names]
            return np.where(np.isin(said.rows["speaker"], numbers), 1.0, -1.0)
        if self.role is None:
            return np.zeros(len(said.rows))
        user, assistant = said.is_role(Role.USER), said.is_role(Role.ASSISTANT)
        sign = 0.5 if self.role is Role.USER else -0.5
        return sign * (user.astype(np.float64) - assistant.astype(np.float64))


def named_in(query: str, names: set[str]) -> set[str]:
    """Those of the names that stand in the query, whole or by their first word."""
    folded = query.casefold()
    return {name for name in names if _names(folded, name.casefold())}


def _wanted(query: str, names: set[str]) -> _Wanted:
    """The one speaker a query names; where it names several, all of them count the same."""
    named = named_in(query, names)
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
    found = list(keywords.rows.values())
    for some in (found[start : start + _TERMS] for start in range(0, len(found), _TERMS)):
        weights = np.array([weight for _, weight in some])
        hits = np.zeros((len(some), size + 4), np.uint8)
        for row, (seqs, _) in zip(hits, some, strict=True):
            row[seqs + 2] = 1
        beside = hits[:, :-4] | hits[:, 4:]
        for step in (1, 2, 3):
            beside |= hits[:, step : size + step]
        here += weights @ hits[:, 2:-2]
        around += weights @ beside
        total += float(weights.sum())
    total += keywords.absent_idf * keywords.absent
    return (here / total, around / total) if total > 0 else (here, around)


def _spread(values: Floats, kernel: Floats) -> Floats:
    """What all values add to each place: the kernel laid over each of them."""
    out: Floats = np.convolve(values, kernel, mode="full")[_AROUND : _AROUND + len(values)]
    return out


def _kernel(weights: Mapping[str, float], leg: str) -> Floats:
    """What a score adds to the messages around it: the linear features of a leg as one convolution."""
    out: Floats = weights.get(f"{leg}_around", 0.0) * _KERNEL
    # np.convolve turns its kernel around: a value adds to the message after it by the weight of "prev".
    for name, step in (("", 0), ("_prev", 1), ("_next", -1), ("_prev2", 2), ("_next2", -2)):
        out[_AROUND + step] += weights.get(leg + name, 0.0)
    return out
