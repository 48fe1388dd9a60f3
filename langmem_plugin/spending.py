"""How many tokens a session and an owner have used, by the providers' reports, and the limits."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from langmem_plugin.config import SpendConfig
from langmem_plugin.errors import SpendExceeded
from langmem_plugin.messages import Message, Usage
from langmem_plugin.records import SessionKey
from langmem_plugin.store.spending import Reported, SpendStore
from langmem_plugin.tokens import Calibration, Correction, TokenCounter

_KEPT = 100_000
"""Sessions and owners that are kept; past it the least recently used are read again, or begin anew."""
_FRESH = timedelta(seconds=30)
"""What other processes spent is known after so long at the latest."""
_Who: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens by the providers' reports; nothing where no report came."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    """The part of `input_tokens` that prefix caches served."""
    calls: int = 0
    """Answers that carried a report."""
    by_model: Mapping[str, int] = field(default_factory=dict)
    """`total_tokens` by model; "" where the framework did not say."""


def spent(reports: Iterable[Reported]) -> Spent:
    """The sum of reports."""
    every = [(one.model, one.usage) for one in reports]
    models: Counter[str] = Counter()
    for model, usage in every:
        models[model] += usage.total_tokens
    return Spent(
        input_tokens=sum(usage.input_tokens for _, usage in every),
        output_tokens=sum(usage.output_tokens for _, usage in every),
        total_tokens=sum(usage.total_tokens for _, usage in every),
        cached_tokens=sum(usage.cached_tokens for _, usage in every),
        calls=len(every),
        by_model=dict(models),
    )


@dataclass(slots=True)
class _Used:
    said: deque[tuple[datetime, int]] = field(default_factory=deque)
    """By messages: read again from the store."""
    told: deque[tuple[datetime, int]] = field(default_factory=deque)
    """By `report_usage` alone: known to this process."""
    read_at: datetime | None = None
    asked: deque[datetime] = field(default_factory=deque)
    """Requests of late, for the breaker."""
    open_until: datetime | None = None


def remembered(store: SpendStore, counter: TokenCounter) -> Calibration:
    """What earlier processes learned of this counter's counts."""
    known = store.learned(counter.name)
    return Calibration({one.model: Correction(ratio=one.ratio, extra=one.extra) for one in known})


class Ledger:
    """Tokens used within a sliding span, by session and by owner; thread-safe.

    Messages keep their usage, so what was used is read back from the store: it outlives the
    process and holds for several. Reports without a message live as long as the process.
    """

    def __init__(self, config: SpendConfig, store: SpendStore | None = None) -> None:
        self._config = config
        self._store = store
        self._lock = threading.Lock()
        self._used: OrderedDict[_Who, _Used] = OrderedDict()

    def add(self, key: SessionKey, usage: Usage, *, now: datetime, stored: bool = False) -> None:
        """Count tokens that a provider reported.

        Args:
            key: Whose request it was.
            usage: The report.
            now: The present moment.
            stored: A message carries it, so that it is found in the store again.
        """
        if usage.total_tokens <= 0:
            return
        for who, _, _ in self._limits(key):
            with self._lock:
                used = self._of(who)
                (used.said if stored and self._store is not None else used.told).append((now, usage.total_tokens))

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
        self._check_burst(key, now)
        notes = []
        for who, what, limit in self._limits(key):
            used = self.used(who, now=now)
            if used >= limit:
                raise SpendExceeded(what, used=used, limit=limit, unit="tokens", span_s=self._config.span_s)
            if used >= limit * self._config.warn:
                notes.append(f"the {what} has used {used} of {limit} tokens in {self._config.span_s:g} s")
        return notes

    def check_repeats(self, messages: Sequence[Message]) -> None:
        """Stop a turn that makes the same tool calls again and again.

        Raises:
            SpendExceeded: Its last `repeats` calls of the model asked for the same, with the same arguments.
        """
        most = self._config.repeats
        if most is None:
            return
        asked = [
            [(call.name, call.arguments) for call in message.tool_calls] for message in messages if message.tool_calls
        ]
        if len(asked) >= most and all(one == asked[-1] for one in asked[-most:]):
            raise SpendExceeded("turn", used=most, limit=most, unit="repetitions of one tool call", span_s=None)

    def used(self, who: _Who, *, now: datetime) -> int:
        """Tokens within the span that ends now."""
        since = now - timedelta(seconds=self._config.span_s)
        with self._lock:
            used = self._of(who)
            stale = self._store is not None and (
                used.read_at is None or not used.read_at <= now < used.read_at + _FRESH
            )
        if stale and self._store is not None:
            session = who[1] if len(who) > 1 else None
            read = self._store.reported(who[0], session=session, since=since)
            with self._lock:
                used.said = deque((one.at, one.usage.total_tokens) for one in read)
                used.read_at = now
        with self._lock:
            for entries in (used.said, used.told):
                while entries and entries[0][0] <= since:
                    entries.popleft()
            return sum(tokens for entries in (used.said, used.told) for _, tokens in entries)

    def _check_burst(self, key: SessionKey, now: datetime) -> None:
        """The breaker: past so many requests in a short time a session rests."""
        config = self._config
        most = config.burst_requests
        if most is None:
            return
        with self._lock:
            used = self._of((key.owner, key.session))
            if used.open_until is not None and now >= used.open_until:
                used.open_until = None
                used.asked.clear()
            if used.open_until is None:
                since = now - timedelta(seconds=config.burst_s)
                while used.asked and used.asked[0] <= since:
                    used.asked.popleft()
                used.asked.append(now)
                if len(used.asked) > most:
                    used.open_until = now + timedelta(seconds=config.rest_s)
            if used.open_until is not None:
                raise SpendExceeded("session", used=len(used.asked), limit=most, unit="requests", span_s=config.burst_s)

    def _of(self, who: _Who) -> _Used:
        used = self._used.setdefault(who, _Used())
        self._used.move_to_end(who)
        if len(self._used) > _KEPT:
            self._used.popitem(last=False)
        return used

    def _limits(self, key: SessionKey) -> list[tuple[_Who, str, int]]:
        limits: list[tuple[_Who, str, int]] = []
        if self._config.session_tokens is not None:
            limits.append(((key.owner, key.session), "session", self._config.session_tokens))
        if self._config.owner_tokens is not None:
            limits.append(((key.owner,), "owner", self._config.owner_tokens))
        return limits
