"""What of each message matters to every query: read once, then kept as a few numbers.

A message never changes, so who speaks, when, and whether it asks or tells a date need
not be read from its text for every query. Some twenty bytes a message are kept for the
sessions lately asked about.
"""

from __future__ import annotations

import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.messages import Message, Role
from langmem_plugin.records import Entry, SessionKey

Ints = npt.NDArray[np.int64]

READ_CHARS: Final = 2_000
"""Of a long message so much is read."""
ASKS, ENDS_ASKING, TELLS_TIME, OWN = 1, 2, 4, 8
"""Bits of `flags`: asks a question, asks one at its end, names a time, speaks of itself."""

_KNOWN: Final = 128
_ROLES: Final = tuple(Role)
_MAX_NAMES: Final = 30_000
_SUBSTANCE_CHARS: Final = 60
"""Texts much shorter than this seldom hold a fact; beyond twice of it length says nothing more."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = np.dtype([
    ("flags", np.uint8), ("role", np.int8), ("speaker", np.int16), ("specific", np.float32), ("substance", np.float32),
    ("written", np.int64),
])  # fmt: skip
_WORD: Final = re.compile(r"\w+")
_SELF: Final = frozenset({"I", "my", "My", "me", "we", "We", "our", "Our"})
_TIME: Final = frozenset({
    "yesterday", "last", "next", "ago", "week", "weeks", "month", "months", "tomorrow", "today", "tonight", "year",
    "years", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "weekend", "since",
    "recently", "just",
})  # fmt: skip
_LABEL: Final = re.compile(r"\s*([^\W\d_][\w.'\u2019 -]{0,30}):\s")
_QUESTION: Final = re.compile("[?\uff1f\u061f\u037e]")


@dataclass(frozen=True, slots=True)
class Traits:
    """Of some messages, one row each."""

    rows: npt.NDArray[np.void]
    """Columns: flags (0 where there is no such message), role, speaker, specific, substance, written."""
    names: Sequence[str]
    """Speakers by number; 0 is nobody in particular."""

    def has(self, flag: int) -> npt.NDArray[np.float64]:
        """1 where the flag is set, else 0."""
        return np.asarray((self.rows["flags"] & flag) != 0, dtype=np.float64)

    @property
    def exist(self) -> npt.NDArray[np.bool_]:
        """Where there is such a message."""
        return np.asarray((self.rows["flags"] & _KNOWN) != 0, dtype=np.bool_)

    def speakers(self) -> set[str]:
        """The names of those who speak here."""
        return {self.names[number] for number in np.unique(self.rows["speaker"]).tolist() if number}

    def is_role(self, role: Role) -> npt.NDArray[np.bool_]:
        """Where a message of that role stands."""
        return np.asarray(self.rows["role"] == _ROLES.index(role), dtype=np.bool_) & self.exist


class _Session:
    """One session's rows by seq, and the names of its speakers."""

    __slots__ = ("generation", "names", "numbers", "rows")

    def __init__(self, generation: tuple[int, ...]) -> None:
        self.generation = generation
        self.rows = np.zeros(64, _COLUMNS)
        self.names = [""]
        self.numbers = {"": 0}

    def put(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.seq >= len(self.rows):
                grown = np.zeros(max(entry.seq + 1, 2 * len(self.rows)), _COLUMNS)
                grown[: len(self.rows)] = self.rows
                self.rows = grown
            name = speaker(entry.message)
            number = self.numbers.get(name, 0)
            if not number and name and len(self.names) < _MAX_NAMES:
                number = self.numbers[name] = len(self.names)
                self.names.append(name)
            self.rows[entry.seq] = _row(entry, number)


class TraitCache:
    """Traits by session, read from the log where they are missing; thread-safe, the least recently used leave."""

    def __init__(self, *, max_messages: int = 1_000_000) -> None:
        self._max = max_messages
        self._lock = threading.Lock()
        self._held: OrderedDict[SessionKey, _Session] = OrderedDict()
        self._total = 0
        """Rows of all sessions that are held."""

    def of(
        self, key: SessionKey, generation: tuple[int, ...], seqs: Ints, read: Callable[[Sequence[int]], Iterable[Entry]]
    ) -> Traits:
        """The traits of these messages, in this order.

        Args:
            key: The session.
            generation: Changes when the session, or a message of it, was forgotten.
            seqs: Any numbers; those without a message get a row of zeros.
            read: Reads entries of the session by their numbers.
        """
        rows, names = self._rows(key, generation, seqs)
        wanted = seqs[(rows["flags"] == 0) & (seqs > 0)]
        if len(wanted):
            entries = list(read(np.unique(wanted).tolist()))
            with self._lock:
                held = self._session(key, generation)
                self._put(held, entries)
            if entries:
                rows, names = self._rows(key, generation, seqs, held)
        return Traits(rows, names)

    def add(self, key: SessionKey, entries: Sequence[Entry]) -> None:
        """Take in entries that were read anyway, if the session is one of those lately asked about."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                self._put(held, entries)

    def forget(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._held.clear()
            self._total = 0

    def _rows(
        self, key: SessionKey, generation: tuple[int, ...], seqs: Ints, held: _Session | None = None
    ) -> tuple[npt.NDArray[np.void], Sequence[str]]:
        with self._lock:
            held = held or self._session(key, generation)
            rows = held.rows[np.where((seqs > 0) & (seqs < len(held.rows)), seqs, 0)]
            return rows, tuple(held.names)

    def _session(self, key: SessionKey, generation: tuple[int, ...]) -> _Session:
        held = self._held.get(key)
        if held is None or held.generation != generation:
            self._total -= 0 if held is None else len(held.rows)
            held = self._held[key] = _Session(generation)
            self._total += len(held.rows)
        self._held.move_to_end(key)
        return held

    def _put(self, held: _Session, entries: Sequence[Entry]) -> None:
        before = len(held.rows)
        held.put(entries)
        self._total += len(held.rows) - before
        while self._total > self._max and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._total -= len(oldest.rows)


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


def micros(moment: datetime) -> int:
    """Microseconds since 1970, as `written` holds them."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _row(entry: Entry, number: int) -> tuple[int, int, int, float, float, int]:
    whole = entry.message.text
    text = whole[:READ_CHARS]
    words = _WORD.findall(text)
    flags = _KNOWN
    flags |= ASKS if asks(text) else 0
    flags |= ENDS_ASKING if asks(whole[-READ_CHARS:]) else 0
    flags |= 0 if _TIME.isdisjoint(map(str.lower, words)) else TELLS_TIME
    flags |= 0 if _SELF.isdisjoint(words) else OWN
    substance = 1.0 - math.exp(-len(text) / _SUBSTANCE_CHARS)
    return (
        flags,
        _ROLES.index(entry.message.role),
        number,
        min(4, _specific(text)) / 4,
        substance,
        micros(entry.created_at),
    )


def _specific(text: str) -> int:
    """Names and numbers in a text: capitals within a sentence, and words with a digit first."""
    return sum(
        1
        for before, word in pairwise(text.split())
        if (word[0].isupper() and len(word) > 1 and before[-1] not in ".!?:" and word[1] != "'") or word[0].isdigit()
    )
