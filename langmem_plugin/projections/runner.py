"""Takes every projection from its position to the head of the log, behind the conversation."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from collections.abc import Mapping, Sequence

from langmem_plugin.measures import Observers
from langmem_plugin.projections.lane import Lane, LaneStatus, Pace, Projection
from langmem_plugin.records import Head, SessionKey


class Runner:
    """Runs projections in daemon threads of their own, one a projection.

    A projection that fails or hangs therefore delays no other. Threads start with the
    first note. Nothing noted is kept across a restart: `advance` finds its work from
    the positions in the store, so a session is noted again when it is opened.
    """

    def __init__(
        self,
        projections: Sequence[Projection],
        *,
        pace: Pace | None = None,
        exit_timeout_s: float = 2.0,
        told: Observers | None = None,
    ) -> None:
        """Prepare; no thread starts here.

        Args:
            projections: Each with a name of its own.
            pace: Bounds, retries and the circuit breaker.
            exit_timeout_s: How long a process that ends may be held up by open work.
            told: Who is told of each unit of work.
        """
        self._projections = tuple(projections)
        self._pace = pace or Pace()
        self._exit_timeout_s = exit_timeout_s
        self._told = told
        self._closed = False
        self._pid = os.getpid()
        self._lanes = self._new_lanes()
        self._at_exit_set = False

    def note(self, key: SessionKey, head: Head | None = None) -> None:
        """Say that a session has changed, and where it stands now; returns at once, whatever happens behind."""
        if self._closed:
            return
        self._notice_fork()
        if not self._at_exit_set:
            self._at_exit_set = True
            at_exit = _AtExit(self)
            atexit.register(at_exit)
            weakref.finalize(self, atexit.unregister, at_exit).atexit = False
        for lane in self._lanes:
            lane.note(key, head)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything noted is done.

        Returns:
            True if it is. False at the time-out, and as soon as work is parked because
            it keeps failing; with `timeout_s=None` it ends too.
        """
        self._notice_fork()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        done = True
        for lane in self._lanes:  # every one, even if an earlier one is parked
            done = lane.wait(until) and done
        return done

    def status(self) -> Mapping[str, LaneStatus]:
        """What was done, what waits and what failed, by projection; no message text."""
        self._notice_fork()
        return {lane.name: lane.status() for lane in self._lanes}

    def close(self, timeout_s: float = 5.0) -> None:
        """Do what is queued for up to `timeout_s` seconds, then stop; idempotent.

        What is left undone is found again from the store when the session is next opened.
        """
        self._notice_fork()
        self._closed = True
        until = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.drain()
        for lane in self._lanes:
            lane.stop(until)

    def close_at_exit(self) -> None:
        """Close within the bound set for the end of the process."""
        if os.getpid() == self._pid:
            self.close(self._exit_timeout_s)

    def _new_lanes(self) -> tuple[Lane, ...]:
        return tuple(Lane(projection, pace=self._pace, told=self._told) for projection in self._projections)

    def _notice_fork(self) -> None:
        # A child has no threads and perhaps a lock that nobody will release: it starts with lanes of
        # its own, and without the parent's notes, which the parent works off.
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self._lanes = self._new_lanes()


class _AtExit:
    """Closes a runner at the end of the process without keeping it alive until then."""

    def __init__(self, runner: Runner) -> None:
        self._runner = weakref.ref(runner)

    def __call__(self) -> None:
        if (runner := self._runner()) is not None:
            runner.close_at_exit()
