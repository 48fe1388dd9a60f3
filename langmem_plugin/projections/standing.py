"""How much of each session no summary covers: a session that still fits its window is not read again for each turn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langmem_plugin.records import Entry, Head, SessionKey

_MAX_SESSIONS = 10_000


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found when nothing was due."""

    upto: int
    """The last entry that was seen."""
    tokens: int
    """Of the entries that no summary covered then, up to it."""
    erased: int
    """The head's; what was forgotten since makes the tokens fewer."""


class Standing:
    """Remembers what each session weighed when nothing had to leave its window; thread-safe."""

    def __init__(self, high: Callable[[Head], int]) -> None:
        """Nothing is known yet.

        Args:
            high: Tokens up to which nothing leaves the session of this head.
        """
        self._high = high
        self._looked: OrderedDict[SessionKey, _Looked] = OrderedDict()
        self._lock = threading.Lock()

    def fits(self, key: SessionKey, head: Head, newer: Callable[[int], Sequence[Entry]]) -> bool:
        """True if what is known, and the entries that `newer` gives after a number, surely stay in the window."""
        with self._lock:
            known = self._looked.get(key)
        if known is None or known.erased != head.erased or known.upto > head.last_seq:
            return False
        if head.last_seq > known.upto:
            entries = newer(known.upto)
            if not entries:
                return False
            known = _Looked(entries[-1].seq, known.tokens + sum(entry.tokens for entry in entries), known.erased)
        if known.tokens > self._high(head):
            return False
        self._remember(key, known)
        return True

    def saw(self, key: SessionKey, head: Head, uncovered: Sequence[Entry]) -> None:
        """Nothing had to leave: these are all the entries that no summary covers."""
        if uncovered:
            self._remember(key, _Looked(uncovered[-1].seq, sum(entry.tokens for entry in uncovered), head.erased))

    def forget(self, key: SessionKey) -> None:
        """Know nothing of a session."""
        with self._lock:
            self._looked.pop(key, None)

    def _remember(self, key: SessionKey, looked: _Looked) -> None:
        with self._lock:
            self._looked[key] = looked
            self._looked.move_to_end(key)
            while len(self._looked) > _MAX_SESSIONS:
                self._looked.popitem(last=False)
