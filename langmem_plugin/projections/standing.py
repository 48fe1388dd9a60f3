"""How much of each session no summary covers: one that still fits its window is not looked at for each turn."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langmem_plugin.records import Entry, Head, SessionKey

_MAX_SESSIONS = 10_000
_ELSEWHERE_S = 0.25
"""So long a session is left to the process that was found at it."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found when nothing was due."""

    head: Head
    """Where the session stood, or somewhat earlier."""
    tokens: int
    """Of the entries that no summary covered then."""


class Standing:
    """Remembers what each session weighed when nothing had to leave its window; thread-safe."""

    def __init__(self, high: Callable[[Head], int]) -> None:
        """Nothing is known yet.

        Args:
            high: Tokens up to which nothing leaves the session of this head.
        """
        self._high = high
        self._looked: OrderedDict[SessionKey, _Looked] = OrderedDict()
        self._elsewhere: OrderedDict[SessionKey, float] = OrderedDict()
        """Until when a session is left to another process, on the monotonic clock."""
        self._lock = threading.Lock()

    def fits(self, key: SessionKey, head: Head) -> bool:
        """True if all that no summary covers surely stays in the window; from memory, without a look at the store."""
        with self._lock:
            known = self._looked.get(key)
        if known is None or known.head.erased != head.erased or known.head.last_seq > head.last_seq:
            return False
        added = head.tokens - known.head.tokens
        return added >= 0 and known.tokens + added <= self._high(head)

    def saw(self, key: SessionKey, head: Head, uncovered: Sequence[Entry]) -> None:
        """Nothing had to leave: these are all the entries that no summary covers, read after the head."""
        with self._lock:
            self._looked[key] = _Looked(head, sum(entry.tokens for entry in uncovered))
            self._looked.move_to_end(key)
            while len(self._looked) > _MAX_SESSIONS:
                self._looked.popitem(last=False)

    def elsewhere(self, key: SessionKey) -> None:
        """Another process works on it just now."""
        with self._lock:
            self._elsewhere[key] = time.monotonic() + _ELSEWHERE_S
            self._elsewhere.move_to_end(key)
            while len(self._elsewhere) > _MAX_SESSIONS:
                self._elsewhere.popitem(last=False)

    def is_elsewhere(self, key: SessionKey) -> bool:
        """Whether another process worked on it a moment ago, which need not be found out for each turn."""
        with self._lock:
            return self._elsewhere.get(key, 0.0) > time.monotonic()

    def forget(self, key: SessionKey) -> None:
        """Know nothing of a session."""
        with self._lock:
            self._looked.pop(key, None)
            self._elsewhere.pop(key, None)
