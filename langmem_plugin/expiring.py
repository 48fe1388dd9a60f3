"""Constraints that hold for a time: subscribers hear when it is over."""

from __future__ import annotations

import heapq
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

from langmem_plugin.engine import Engine
from langmem_plugin.records import Constraint, ConstraintEvent, ConstraintState, SessionKey
from langmem_plugin.session import Session
from langmem_plugin.store.protocol import Store
from langmem_plugin.watching import Watcher, Watchers

_LONGEST_WAIT_S = 60.0
"""So long at most passes unseen if the clock is set."""


class Expiring:
    """Tells subscribers of each constraint that expires while the memory is open, once; thread-safe.

    A daemon thread waits for the next one; it begins with the first constraint that will expire
    while anybody listens. That a constraint is out of the requests does not depend on it.
    """

    def __init__(self, store: Store, watchers: Watchers, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._watchers = watchers
        self._clock = clock
        self._opened = clock()
        self._due: list[tuple[datetime, int, SessionKey, str]] = []
        self._place = count()
        self._planned: dict[str, datetime] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def look(self, key: SessionKey) -> None:
        """Plan for what a session holds, if anybody listens."""
        if self._watchers:
            self._plan(key, self._store.active_constraints(key))

    def heard(self, events: Sequence[ConstraintEvent]) -> None:
        """Plan for what was just told."""
        for event in events:
            self._plan(SessionKey(event.owner, event.session), [event.constraint])

    def tell_due(self) -> int:
        """Tell what is over by now; gives how many that were."""
        told = 0
        while (due := self._next_due()) is not None:
            key, constraint_id = due
            held = next((one for one in self._store.constraints(key) if one.id == constraint_id), None)
            if held is None or held.state is not ConstraintState.ACTIVE or held.expires_at is None:
                continue
            if held.expires_at > self._clock():
                self._plan(key, [held])
            elif not held.pinned:
                expired = replace(held, state=ConstraintState.EXPIRED)
                event = ConstraintEvent(change="expired", constraint=expired, owner=key.owner, session=key.session)
                self._watchers.tell([event])
                told += 1
        return told

    def close(self) -> None:
        """Tell nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _plan(self, key: SessionKey, constraints: Sequence[Constraint]) -> None:
        with self._changed:
            for one in constraints:
                over = one.expires_at
                if over is None or over <= self._opened or one.state is not ConstraintState.ACTIVE:
                    continue
                if self._planned.get(one.id) == over or self._closed:
                    continue
                self._planned[one.id] = over
                heapq.heappush(self._due, (over, next(self._place), key, one.id))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="langmem-plugin expiry", daemon=True)
                    self._thread.start()
                self._changed.notify_all()

    def _next_due(self) -> tuple[SessionKey, str] | None:
        with self._changed:
            while self._due and self._due[0][0] <= self._clock():
                over, _, key, constraint_id = heapq.heappop(self._due)
                if self._planned.get(constraint_id) == over:
                    del self._planned[constraint_id]
                    return key, constraint_id
            return None

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                wait = _LONGEST_WAIT_S
                if self._due:
                    wait = min(wait, max(0.0, (self._due[0][0] - self._clock()).total_seconds()))
                if wait:
                    self._changed.wait(wait)
                if self._closed:
                    return
            self.tell_due()


class Hearing:
    """The part of a memory that tells what becomes of constraints."""

    _engine: Engine
    _expiring: Expiring
    _lock: threading.Lock
    _sessions: OrderedDict[SessionKey, Session]

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Have a function called with a `ConstraintEvent` whenever a constraint comes, changes or ends.

        It is called in the thread that made the change, after the change is durable, and
        should be quick. What it raises is logged by its class and changes nothing. That a
        constraint expires is told at the time, from a thread of the memory's, for the sessions
        that were opened here; what expired before is found when constraints are read.

        Returns:
            A function that ends the subscription.
        """
        end = self._engine.watchers.add(watcher)
        with self._lock:
            opened = list(self._sessions)
        for key in opened:
            self._expiring.look(key)
        return end

    def tell_expired(self) -> int:
        """Tell subscribers now of each constraint that is over and was not told; gives how many that were."""
        return self._expiring.tell_due()
