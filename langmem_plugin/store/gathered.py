"""Calls of several threads done together: one of them leads, and does what has gathered meanwhile for all."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from threading import Event, Lock
from typing import Final, Generic, TypeVar

_MOST: Final = 64
"""Calls done at once at most."""
_LINGER_S: Final = 0.01
"""A go waits at most so long for those whom the last one served, and a quarter of what that one was held up."""

Given = TypeVar("Given")
Done = TypeVar("Done")


class Gathered(Generic[Given, Done]):
    """Does calls of many threads in few goes, first come, first served. A lone thread waits for nobody.

    What a go may not do together stays for the next one. A go that fails as a whole takes no call with it: each of
    its threads then does its own call alone. Where a go was held up, by other processes that want the same, the next
    one first waits a moment until as many calls are there again: a go of many takes hardly longer than one of few,
    and stands in line as long.
    """

    def __init__(
        self,
        do: Callable[[Callable[[], Sequence[Given]]], Sequence[Done | Exception]],
        *,
        of: Callable[[Given], Hashable] = lambda _given: None,
        apart: Callable[[Given], Hashable] = lambda _given: None,
        patience_s: float | None = None,
    ) -> None:
        """Nothing waits yet.

        Args:
            do: Does one go: calls what it is given for the calls that have gathered, and returns what came of each,
                in their order; an error that it returns is that call's own. Called again, it gives those that came
                meanwhile and contend for what the go has already; what passed between the two held the go up.
            of: What calls contend for: one that does not wait long for the present go has none of it in common.
            apart: Calls that differ in it are never in one go.
            patience_s: After so long waiting begins a further go beside the present one; None: never.
        """
        self._do = do
        self._of = of
        self._apart = apart
        self._patience_s = patience_s
        self._lock = Lock()
        self._waiting: list[_Call[Given, Done]] = []
        self._goes: list[_Go[Given, Done]] = []
        self._held_up_s = 0.0
        """For how long the last go was."""
        self._crowd = 0
        """Calls that it did or that waited when it ended."""

    def __call__(self, given: Given) -> Done:
        """Do one call, alone or with others; its result, or its error."""
        call: _Call[Given, Done] = _Call(given)
        try:
            go = self._wait(call)
        except BaseException:
            self._leave(call)
            raise
        if go is not None:
            self._run(go, call)
        if call.alone:
            (call.outcome,) = self._do(iter([(given,), ()]).__next__)
        if isinstance(call.outcome, Exception):
            raise call.outcome
        if call.outcome is None:
            raise RuntimeError("a call ended without an outcome")
        return call.outcome

    def _wait(self, call: _Call[Given, Done]) -> _Go[Given, Done] | None:
        """Until the call is over, None, or is to lead a go."""
        with self._lock:
            self._waiting.append(call)
            go = self._lead(call)
            lingering = [one.leader for one in self._goes if one.taken is None] if self._is_crowd() else []
        for one in lingering:
            one.woken.set()
        while go is None and not call.over:
            call.woken.wait(self._patience_s)
            call.woken.clear()
            with self._lock:
                go = None if call.over else self._lead(call)
        return go

    def _leave(self, call: _Call[Given, Done]) -> None:
        """Its thread was interrupted: unless it is being done already it is not done, and whoever is next may lead."""
        with self._lock:
            self._waiting = [one for one in self._waiting if one is not call]
            self._goes = [go for go in self._goes if go.leader is not call]
            woken = self._waiting[:1]
        for one in woken:
            one.woken.set()

    def _lead(self, call: _Call[Given, Done]) -> _Go[Given, Done] | None:
        """A go of its own for a call that waits; None while another one does it, or is about to."""
        if self._goes:
            since = time.monotonic() - (self._patience_s or float("inf"))
            held = {self._of(one.given) for go in self._goes for one in go.calls}
            if any(go.began > since or not go.calls for go in self._goes) or self._of(call.given) in held:
                return None
        go: _Go[Given, Done] = _Go(call)
        self._goes.append(go)
        return go

    def _linger(self, go: _Go[Given, Done]) -> None:
        """Wait a moment for those whom the last go served, if it was held up."""
        until = time.monotonic() + min(_LINGER_S, self._held_up_s / 4)
        while (left := until - time.monotonic()) > 0:
            with self._lock:
                if self._is_crowd():
                    return
            go.leader.woken.wait(left)
            go.leader.woken.clear()

    def _is_crowd(self) -> bool:
        """Whether as many wait as the last go did and left waiting."""
        return len(self._waiting) >= self._crowd

    def _take(self, go: _Go[Given, Done]) -> Sequence[Given]:
        with self._lock:
            now = time.monotonic()
            if go.taken is not None:
                self._held_up_s = now - go.taken
            go.taken = now
            mine = {self._of(one.given) for one in go.calls}
            others = {self._of(one.given) for other in self._goes if other is not go for one in other.calls}
            apart = self._apart(go.leader.given)

            def joins(one: _Call[Given, Done]) -> bool:
                of = self._of(one.given)
                return self._apart(one.given) == apart and (of in mine if mine else of not in others)

            some = [one for one in self._waiting if one is go.leader or joins(one)][: _MOST - len(go.calls)]
            go.calls += some
            self._waiting = [one for one in self._waiting if one not in some]
        return [one.given for one in some]

    def _run(self, go: _Go[Given, Done], leader: _Call[Given, Done]) -> None:
        try:
            self._linger(go)
            outcomes = self._do(lambda: self._take(go))
            for one, outcome in zip(go.calls, outcomes, strict=True):
                one.outcome = outcome
        except BaseException as error:
            for one in go.calls:
                one.alone = one is not leader
            leader.outcome = error if isinstance(error, Exception) else None
            leader.alone = isinstance(error, Exception) and len(go.calls) > 1
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                with suppress(ValueError):
                    self._waiting.remove(leader)
                self._goes.remove(go)
                self._crowd = min(_MOST, len(go.calls) + len(self._waiting))
                woken = go.calls + self._waiting[:1]
                for one in go.calls:
                    one.over = True
            for one in woken:
                one.woken.set()


class _Call(Generic[Given, Done]):
    """One that waits, and what came of it."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.woken = Event()
        self.over = False
        self.alone = False
        """Whether its thread has to do it alone."""
        self.outcome: Done | Exception | None = None


class _Go(Generic[Given, Done]):
    """Calls that are done together."""

    def __init__(self, leader: _Call[Given, Done]) -> None:
        self.leader = leader
        self.calls: list[_Call[Given, Done]] = []
        self.began = time.monotonic()
        self.taken: float | None = None
        """When it last took calls."""
