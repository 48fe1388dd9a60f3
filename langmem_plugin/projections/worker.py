"""Works behind the conversations of many processes: finds sessions that changed, and claims them one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.measures import Observers
from langmem_plugin.projections.lane import LaneStatus, Pace, Projection, StandIn
from langmem_plugin.projections.runner import Runner
from langmem_plugin.records import SessionKey
from langmem_plugin.store.claims import Behind, Claims, WorkStore

_PAGE = 64
_REST_S = 15.0
"""A session whose work failed here is left alone so long, but for the retries of its own."""


@dataclass(slots=True)
class _Taken:
    """A session that this worker has claimed."""

    number: int
    version: int
    left: set[str]
    """Projections that have not finished with it."""
    whole: bool = True
    """Every projection had its turn, so that it may be noted as worked off."""
    closing: bool = False
    """Done with, but not given back yet."""


@dataclass(slots=True)
class _Failed:
    number: int
    lanes: set[str] = field(default_factory=set)
    until: float = 0.0


class Worker:
    """Does what `Memory` otherwise does in threads of its own, for any number of processes.

    Several may run at once on PostgreSQL: a session is claimed before anything is done in
    it, and the claim of a worker that dies is gone with it. Whatever a dead worker had not
    finished is found again from the positions in the store; what it had committed stands.

    Make one with `Memory.worker`; use it as a context manager, or close it.
    """

    def __init__(
        self,
        store: WorkStore,
        projections: Sequence[Projection],
        *,
        done_with: str,
        poll_s: float = 1.0,
        at_once: int = 32,
        pace: Pace | None = None,
        told: Observers | None = None,
    ) -> None:
        """Claim the file, where it is one; nothing is done before `run`.

        Args:
            store: Where sessions and positions are.
            projections: What is done.
            done_with: See `WorkStore.begin_work`.
            poll_s: How often to look for sessions that changed, seconds.
            at_once: Sessions that are claimed at one time, at most.
            pace: Retries and the circuit breaker of each projection.
            told: Who is told of each unit of work.

        Raises:
            WorkerRunning: The database is a SQLite file and has a worker.
            InvalidSetting: The database lives in another process alone.
        """
        self._store = store
        self._poll_s = poll_s
        self._at_once = at_once
        self._done_with = done_with
        self._claims = store.claims()
        self._desk = _Desk(store, self._claims, [projection.name for projection in projections])
        self._runner = Runner([_claimed(projection, self._desk) for projection in projections], pace=pace, told=told)
        self._after = 0
        self._closed = False

    def run(self, stop: threading.Event | None = None, *, until_idle: bool = False) -> bool:
        """Work until told to stop.

        Args:
            stop: Set it from another thread, or from a signal, to end.
            until_idle: End as well when there is nothing that this worker could do.

        Returns:
            False if work is left that failed here; it is found again by whoever works next.

        Raises:
            StoreUnavailable: The database could not be reached for half a minute.
        """
        stop = stop or threading.Event()
        self._store.begin_work(self._done_with)
        idle = 0
        while not stop.is_set():
            taken, around = self._take()
            if taken:
                idle = 0
                continue
            if self._desk.taken:
                self._desk.freed.wait(self._poll_s)
                self._desk.freed.clear()
                continue
            idle = idle + 1 if around else 0
            if until_idle and idle > 1:
                break
            if not until_idle:
                stop.wait(self._poll_s)
        return not self._desk.failed()

    def status(self) -> Mapping[str, LaneStatus]:
        """What was done, what waits and what failed, by projection; no message text."""
        return self._runner.status()

    def close(self, timeout_s: float = 5.0) -> None:
        """Finish what is under way within `timeout_s`, and give every session back; idempotent."""
        if self._closed:
            return
        self._closed = True
        self._runner.close(timeout_s)
        self._claims.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _take(self) -> tuple[int, bool]:
        """Claim what is behind, a page at a time; how many, and whether the end of the sessions was reached."""
        room = self._at_once - self._desk.taken
        if room <= 0:
            return 0, False
        page = self._store.behind(after=self._after, limit=_PAGE)
        taken = 0
        for one in page:
            if taken == room:
                return taken, False
            self._after = one.number
            if self._desk.take(one):
                taken += 1
                self._runner.note(one.key)
        if len(page) < _PAGE:
            self._after = 0
            return taken, True
        return taken, False


class _Desk:
    """What is claimed and what is left of it; lanes come here from their threads."""

    def __init__(self, store: WorkStore, claims: Claims, lanes: Sequence[str]) -> None:
        self._store = store
        self._claims = claims
        self._lanes = frozenset(lanes)
        self._lock = threading.Lock()
        self._taken: dict[SessionKey, _Taken] = {}
        self._failed: dict[SessionKey, _Failed] = {}
        self.freed = threading.Event()
        """A session was given back."""

    @property
    def taken(self) -> int:
        """Sessions that are claimed."""
        return len(self._taken)

    def failed(self) -> bool:
        """Whether work failed here and was not made good."""
        return bool(self._failed)

    def take(self, one: Behind) -> bool:
        """Claim a session for every lane; False if another worker has it, or it rests."""
        with self._lock:
            failed = self._failed.get(one.key)
            if one.key in self._taken or (failed is not None and failed.until > time.monotonic()):
                return False
            left = set(self._lanes) - (failed.lanes if failed is not None else set())
            if failed is not None:
                failed.until = time.monotonic() + _REST_S
            if not left or not self._claims.claim(one.number):
                return False
            self._taken[one.key] = _Taken(one.number, one.version, left, whole=failed is None)
            return True

    def hold(self, key: SessionKey, lane: str) -> bool:
        """Whether a lane may work on a session now; claims it again for a retry."""
        with self._lock:
            if (taken := self._taken.get(key)) is not None:
                if taken.closing:
                    return False  # whatever came since is found again
                if lane not in taken.left:
                    taken.left.add(lane)
                    taken.whole = False
                return True
            failed = self._failed.get(key)
            if failed is None or not self._claims.claim(failed.number):
                return False
            self._taken[key] = _Taken(failed.number, 0, {lane}, whole=False)
            return True

    def end(self, key: SessionKey, lane: str, *, failed: bool) -> None:
        """A lane has nothing more to do in a session, or cannot."""
        with self._lock:
            taken = self._taken.get(key)
            if failed and taken is not None:
                taken.whole = False
                here = self._failed.setdefault(key, _Failed(taken.number))
                here.lanes.add(lane)
                here.until = time.monotonic() + _REST_S
            elif not failed and (here_too := self._failed.get(key)) is not None:
                here_too.lanes.discard(lane)
                here_too.until = 0.0
                if not here_too.lanes:
                    del self._failed[key]
            if taken is None:
                return
            taken.left.discard(lane)
            if taken.left or taken.closing:
                return
            taken.closing = True
        try:
            if taken.whole:
                self._store.save_worked(taken.number, taken.version)
        except StoreUnavailable:
            pass  # it is looked at once more, and nothing is found to do
        finally:
            self._claims.release(taken.number)
            with self._lock:
                del self._taken[key]
            self.freed.set()


class _Claimed:
    """A projection that works only on what is claimed."""

    def __init__(self, inner: Projection, desk: _Desk) -> None:
        self.name = inner.name
        self.grace_s: float = getattr(inner, "grace_s", 0.05)
        self._inner = inner
        self._desk = desk

    def advance(self, key: SessionKey) -> bool:
        """See `Projection.advance`; what another process is at is left to it."""
        if not self._desk.hold(key, self.name):
            return False
        more = self._inner.advance(key) is True  # if it raises, the lane puts the session off, and tells
        if not more:
            self._desk.end(key, self.name, failed=False)
        return more

    def put_off(self, key: SessionKey) -> None:
        """See `PutsOff.put_off`."""
        self._desk.end(key, self.name, failed=True)


class _ClaimedStandIn(_Claimed):
    """The same of one that can do without its model for a while."""

    def __init__(self, inner: Projection, desk: _Desk, cover: Callable[[SessionKey], None]) -> None:
        super().__init__(inner, desk)
        self._cover = cover

    def stand_in(self, key: SessionKey) -> None:
        """See `StandIn.stand_in`."""
        if self._desk.hold(key, self.name):
            try:
                self._cover(key)
            finally:
                self._desk.end(key, self.name, failed=True)


def _claimed(projection: Projection, desk: _Desk) -> _Claimed:
    if isinstance(projection, StandIn):
        return _ClaimedStandIn(projection, desk, projection.stand_in)
    return _Claimed(projection, desk)
