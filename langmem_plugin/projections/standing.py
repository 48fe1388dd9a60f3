"""How much of each session no summary covers: one that still fits its window is not looked at for each turn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from langmem_plugin.records import Head, SessionKey, Uncovered

_MAX_SESSIONS = 10_000


class Standing:
    """Remembers what each session weighed when nothing had to leave its window; thread-safe."""

    def __init__(self, high: Callable[[Head], int]) -> None:
        """Nothing is known yet.

        Args:
            high: Tokens up to which nothing leaves the session of this head.
        """
        self._high = high
        self._looked: OrderedDict[SessionKey, Uncovered] = OrderedDict()
        """What was found when nothing was due."""
        self._lock = threading.Lock()

    def fits(self, key: SessionKey, head: Head) -> bool:
        """True if all that no summary covers surely stays in the window; from memory, without a look at the store."""
        with self._lock:
            known = self._looked.get(key)
        uncovered = head.tokens
        if known is not None and known.head.erased == head.erased and known.head.last_seq <= head.last_seq:
            added = head.tokens - known.head.tokens
            uncovered = known.tokens + added if added >= 0 else uncovered
        return uncovered <= self._high(head)

    def saw(self, key: SessionKey, found: Uncovered) -> bool:
        """What no summary covers, as the store says; True, and remembered, if it stays in the window."""
        if found.tokens > self._high(found.head):
            return False
        with self._lock:
            self._looked[key] = found
            self._looked.move_to_end(key)
            while len(self._looked) > _MAX_SESSIONS:
                self._looked.popitem(last=False)
        return True

    def forget(self, key: SessionKey) -> None:
        """Know nothing of a session."""
        with self._lock:
            self._looked.pop(key, None)
