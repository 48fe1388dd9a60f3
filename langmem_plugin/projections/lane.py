"""One projection's queue and thread: fair across sessions, patient with failures."""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from langmem_plugin.errors import LangmemPluginError, StoreLost
from langmem_plugin.measures import Observers, StepDone, Stopwatch, observers
from langmem_plugin.records import Head, SessionKey

_log = logging.getLogger(__name__)

_LOG_AGAIN_S = 60.0
"""A failure that comes and goes is logged this often at most."""

Breaker: TypeAlias = Literal["closed", "open"]
_Task: TypeAlias = "tuple[Literal['advance', 'stand_in'], SessionKey]"


@dataclass(frozen=True, slots=True)
class Later:
    """There is nothing to do just now, because another process does it."""

    seconds: float
    """When to look again."""


@runtime_checkable
class Projection(Protocol):
    """Something derived from the log, with its position in it."""

    @property
    def name(self) -> str:
        """Short and unique, for `status()`."""
        ...

    def advance(self, key: SessionKey) -> bool | Later:
        """Do one unit of a session's work, found from the store; True if there is more, or when to look again.

        Effect and position commit together, so that it may be tried again at any time.
        """
        ...


@runtime_checkable
class StandIn(Protocol):
    """A projection that can do without its model for a while."""

    def stand_in(self, key: SessionKey) -> None:
        """Do what can be done without the model that keeps failing; cheap if there is nothing."""
        ...


@runtime_checkable
class Spares(Protocol):
    """A projection that can tell, of most changes, that they give it nothing to do."""

    def spares(self, key: SessionKey, head: Head) -> bool:
        """Whether a session that stands so needs no work; at once, from memory, and never raises."""
        ...


@runtime_checkable
class PutsOff(Protocol):
    """A projection that wants to know when a session's work has to wait."""

    def put_off(self, key: SessionKey) -> None:
        """Told when the work failed or the model rests; quick, and never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Bounds, retries and the circuit breaker of a lane."""

    max_queued: int = 100_000
    """Sessions with work outstanding; past it, a note is dropped and counted."""
    retry_s: float = 1.0
    """The first pause after a failure; it doubles up to `max_retry_s`, and varies by half."""
    max_retry_s: float = 600.0
    patience: int = 3
    """Failures in a row of one session after which its work counts as parked."""
    breaker_after: int = 5
    """Failures in a row of one projection after which it rests for `rest_s` seconds."""
    rest_s: float = 15.0
    """It doubles each time the one try after a rest fails, up to `max_rest_s`."""
    max_rest_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneStatus:
    """How a projection fares; no message text."""

    done: int = 0
    """Units of work."""
    failed: int = 0
    stand_ins: int = 0
    """Times the work was done without the model."""
    dropped: int = 0
    """Notes that found the queue full; a session's next note or opening makes up for one."""
    queued: int = 0
    """Sessions whose work waits for its turn, or for another process that is at it."""
    parked: int = 0
    """Sessions whose work failed and waits for its next try."""
    breaker: Breaker = "closed"
    last_error: str = ""
    """The class, and the message if it is one of this package's own."""


class Lane:
    """Works off the sessions noted for one projection, one unit a session in turn."""

    def __init__(self, projection: Projection, *, pace: Pace, told: Observers | None = None) -> None:
        self.name = projection.name
        self._projection = projection
        self._can_stand_in = isinstance(projection, StandIn)
        self._spares = projection.spares if isinstance(projection, Spares) else None
        self._put_off = projection.put_off if isinstance(projection, PutsOff) else None
        self._pace = pace
        self._observers = observers() if told is None else told
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._draining = False
        self._stopping = False
        self._ready: dict[SessionKey, None] = {}
        self._uncovered: dict[SessionKey, None] = {}
        """Parked sessions for which the projection may stand in."""
        self._parked: dict[SessionKey, float] = {}
        """When each is due again, on the monotonic clock."""
        self._elsewhere: set[SessionKey] = set()
        """Those of them that wait for another process."""
        self._due: list[tuple[float, int, SessionKey]] = []
        self._order = count()
        self._failures: dict[SessionKey, int] = {}
        self._running = False
        self._streak = 0
        """Failures in a row, of any session."""
        self._open_until: float | None = None
        self._rest_s = pace.rest_s
        self._logged = "", 0.0
        self._missed = 0
        """Dropped since the last `wait`."""
        self._status = LaneStatus()

    def note(self, key: SessionKey, head: Head | None = None) -> None:
        """Queue a session once; one that is parked keeps its pause.

        Args:
            key: The session.
            head: Where it stands now, if that is known: it may tell that there is nothing to do.
        """
        if head is not None and self._spares is not None and self._spares(key, head):
            return
        with self._changed:
            if self._draining:
                return
            if key in self._parked:
                if self._is_patient(key):
                    return
                self._ask_to_stand_in(key)
            elif key not in self._ready:
                if len(self._ready) + len(self._parked) >= self._pace.max_queued:
                    self._status = replace(self._status, dropped=self._status.dropped + 1)
                    self._missed += 1
                    return
                self._ready[key] = None
            self._start()
            self._changed.notify_all()

    def wait(self, until: float | None) -> bool:
        """True when all is done; False past `until` (monotonic) or when work is parked."""
        with self._changed:
            while True:
                if not (self._ready or self._uncovered or self._running):
                    if not self._parked:
                        missed, self._missed = self._missed, 0
                        return missed == 0
                    if self._open_until is not None or any(not self._is_patient(key) for key in self._parked):
                        return False
                if self._stopping or self._thread is None:
                    return False
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(left)

    def status(self) -> LaneStatus:
        """Counts and the last error."""
        with self._changed:
            return replace(
                self._status,
                queued=len(self._ready) + len(self._elsewhere) + self._running,
                parked=len(self._parked) - len(self._elsewhere),
                breaker="closed" if self._open_until is None else "open",
            )

    def drain(self) -> None:
        """Take no more notes, end when the queue is empty."""
        with self._changed:
            self._draining = True
            self._changed.notify_all()

    def stop(self, until: float) -> None:
        """Wait for the drained thread up to `until` (monotonic), then leave it behind.

        A projection with a `grace_s` has that many seconds more for the step under way: a
        thread that ends with the process inside a native library takes the process down.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            self._stopping = True
            return
        thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        thread.join(getattr(self._projection, "grace_s", 0.05))

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"langmem-{self.name}", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while (task := self._next()) is not None:
                self._work(*task)
        finally:
            with self._changed:
                self._thread = None
                self._changed.notify_all()

    def _next(self) -> _Task | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                self._wake(now)
                if self._uncovered:
                    return self._begin("stand_in", self._uncovered)
                if self._open_until is not None and now < self._open_until:
                    for key in list(self._ready):
                        self._park(key, self._open_until)
                        self._ask_to_stand_in(key)
                    if self._uncovered:
                        continue
                elif self._ready:
                    return self._begin("advance", self._ready)
                if self._draining:
                    return None
                self._changed.wait(self._due[0][0] - now if self._due else None)
            return None

    def _begin(self, what: Literal["advance", "stand_in"], queue: dict[SessionKey, None]) -> _Task:
        key = next(iter(queue))
        del queue[key]
        self._running = True
        return what, key

    def _work(self, what: Literal["advance", "stand_in"], key: SessionKey) -> None:
        more: bool | Later = False
        error: BaseException | None = None
        watch = Stopwatch() if self._observers else None
        try:
            if what == "advance":
                more = self._projection.advance(key)
            elif isinstance(self._projection, StandIn):
                self._projection.stand_in(key)
        except StoreLost:
            pass  # nothing is left to work on: whoever asks for the session is told
        except BaseException as caught:  # noqa: BLE001 - the one place: record it and go on with other work
            error = caught  # of any class: a model that calls sys.exit() ends no thread of ours
        with self._changed:
            self._running = False
            if error is not None:
                self._failed(what, key, error)
            elif what == "stand_in":
                self._status = replace(self._status, stand_ins=self._status.stand_ins + 1)
            else:
                self._succeeded(key, more=more)
            self._changed.notify_all()
        if watch is not None:
            failed = "" if error is None else type(error).__name__
            self._observers.tell([StepDone(key=key, took=watch.took(), projection=self.name, error=failed)])

    def _succeeded(self, key: SessionKey, *, more: bool | Later) -> None:
        self._status = replace(self._status, done=self._status.done + 1)
        if not more:  # one that fails at its last unit, again and again, is not getting on
            self._failures.pop(key, None)
        if self._streak:
            self._streak = 0
            _log.info("projection %s works again", self.name)
        if self._open_until is not None:
            self._open_until = None
            self._rest_s = self._pace.rest_s
            for parked in list(self._parked):
                self._parked[parked] = 0.0
                heapq.heappush(self._due, (0.0, next(self._order), parked))
        if isinstance(more, Later):
            self._elsewhere.add(key)
            self._put_by(key, time.monotonic() + more.seconds)
        elif more:
            self._ready[key] = None

    def _failed(self, what: Literal["advance", "stand_in"], key: SessionKey, error: BaseException) -> None:
        described = type(error).__name__
        if isinstance(error, LangmemPluginError):
            described = f"{described}: {error}"
        self._status = replace(self._status, failed=self._status.failed + 1, last_error=described)
        now = time.monotonic()
        if self._streak == 0 and (described != self._logged[0] or now > self._logged[1] + _LOG_AGAIN_S):
            self._logged = described, now
            _log.warning("projection %s failed, it is tried again: %s", self.name, described)
        self._streak += 1
        if what == "stand_in":
            return
        pace = self._pace
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(pace.max_retry_s, pace.retry_s * 2.0 ** min(failures - 1, 30))
        due = now + pause * self._jitter.uniform(0.5, 1.0)
        if self._open_until is not None:
            self._rest_s = min(pace.max_rest_s, self._rest_s * 2)
            self._open_until = now + self._rest_s
        elif self._streak >= pace.breaker_after:
            self._open_until = now + self._rest_s
        if self._open_until is not None:
            due = max(due, self._open_until)
        self._park(key, due)
        if not self._is_patient(key):
            self._ask_to_stand_in(key)

    def _is_patient(self, key: SessionKey) -> bool:
        return self._open_until is None and self._failures.get(key, 0) < self._pace.patience

    def _ask_to_stand_in(self, key: SessionKey) -> None:
        if self._can_stand_in:
            self._uncovered[key] = None

    def _put_by(self, key: SessionKey, due: float) -> None:
        self._ready.pop(key, None)
        self._parked[key] = due
        heapq.heappush(self._due, (due, next(self._order), key))

    def _park(self, key: SessionKey, due: float) -> None:
        self._put_by(key, due)
        if self._put_off is not None:
            self._put_off(key)

    def _wake(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            due, _, key = heapq.heappop(self._due)
            if self._parked.get(key) == due:
                del self._parked[key]
                self._elsewhere.discard(key)
                self._ready[key] = None
