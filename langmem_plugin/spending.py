"""How many tokens a session and an owner have used, by the providers' reports, and the limits."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from datetime import datetime, timedelta
from typing import TypeAlias

from langmem_plugin.config import SpendConfig
from langmem_plugin.errors import SpendExceeded
from langmem_plugin.records import SessionKey

_KEPT = 100_000
"""Sessions and owners that are kept; past it the least recently used begin anew."""
_Who: TypeAlias = tuple[str, ...]


class Ledger:
    """Tokens used within a sliding span, by session and by owner; thread-safe, as long as the process."""

    def __init__(self, config: SpendConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._used: OrderedDict[_Who, deque[tuple[datetime, int]]] = OrderedDict()

    def add(self, key: SessionKey, tokens: int, *, now: datetime) -> None:
        """Count tokens that a provider reported."""
        if tokens <= 0 or not self._limits(key):
            return
        with self._lock:
            for who, _, _ in self._limits(key):
                self._used.setdefault(who, deque()).append((now, tokens))
                self._used.move_to_end(who)
                if len(self._used) > _KEPT:
                    self._used.popitem(last=False)

    def check(self, key: SessionKey, *, now: datetime, calls: int = 0) -> list[str]:
        """Warnings for the next request.

        Args:
            key: Whose request it is.
            now: The present moment.
            calls: Calls of the model that its turn has made.

        Raises:
            SpendExceeded: A limit is reached; nothing more is sent until the span has passed.
        """
        most = self._config.turn_calls
        if most is not None and calls >= most:
            raise SpendExceeded("turn", used=calls, limit=most, unit="calls of the model", span_s=None)
        notes = []
        for who, what, limit in self._limits(key):
            used = self.used(who, now=now)
            if used >= limit:
                raise SpendExceeded(what, used=used, limit=limit, unit="tokens", span_s=self._config.span_s)
            if used >= limit * self._config.warn:
                notes.append(f"the {what} has used {used} of {limit} tokens in {self._config.span_s:g} s")
        return notes

    def used(self, who: _Who, *, now: datetime) -> int:
        """Tokens within the span that ends now."""
        since = now - timedelta(seconds=self._config.span_s)
        with self._lock:
            entries = self._used.get(who)
            if entries is None:
                return 0
            while entries and entries[0][0] <= since:
                entries.popleft()
            return sum(tokens for _, tokens in entries)

    def _limits(self, key: SessionKey) -> list[tuple[_Who, str, int]]:
        limits: list[tuple[_Who, str, int]] = []
        if self._config.session_tokens is not None:
            limits.append(((key.owner, key.session), "session", self._config.session_tokens))
        if self._config.owner_tokens is not None:
            limits.append(((key.owner,), "owner", self._config.owner_tokens))
        return limits
