"""The runner: order, fairness, retries, the breaker, waiting, closing, forks and exits."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from itertools import pairwise

import pytest

from langmem_plugin.errors import ModelFailed
from langmem_plugin.projections.lane import Later, Pace, StandIn
from langmem_plugin.projections.runner import Runner
from langmem_plugin.records import SessionKey

FAST = Pace(retry_s=0.01, max_retry_s=0.05, patience=3, breaker_after=5, rest_s=0.05, max_rest_s=0.2)


def key(name: object) -> SessionKey:
    return SessionKey("owner", str(name))


class Units:
    """A projection with so many units of work a session; done in the order asked for."""

    def __init__(self, name: str = "units", units: int = 1) -> None:
        self.name = name
        self.units = units
        self.left: Counter[SessionKey] = Counter()
        self.order: list[SessionKey] = []
        self.threads: set[str] = set()

    def advance(self, key: SessionKey) -> bool:
        self.threads.add(threading.current_thread().name)
        self.left.setdefault(key, self.units)
        self.left[key] -= 1
        self.order.append(key)
        return self.left[key] > 0


class Broken:
    """Fails while `down`; can stand in."""

    name = "broken"

    def __init__(self, error: BaseException | None = None) -> None:
        self.down = True
        self.error = error or ModelFailed("summariser", "TimeoutError")
        self.tries = 0
        self.done: list[SessionKey] = []
        self.stood_in: list[SessionKey] = []

    def advance(self, key: SessionKey) -> bool:
        self.tries += 1
        if self.down:
            raise self.error
        self.done.append(key)
        return False

    def stand_in(self, key: SessionKey) -> None:
        self.stood_in.append(key)


@pytest.fixture
def run():
    """Runners that are closed after the test."""
    made: list[Runner] = []

    def make(*projections, pace: Pace = FAST) -> Runner:
        made.append(Runner(projections, pace=pace))
        return made[-1]

    yield make
    for runner in made:
        runner.close(1.0)


def eventually(condition, timeout_s: float = 5.0) -> bool:
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def test_nothing_noted(run):
    """Without a note there is no thread, and waiting is over at once."""
    before = threading.active_count()
    runner = run(Units())
    assert runner.wait() is True
    assert threading.active_count() == before
    assert runner.status()["units"].done == 0


def test_done_to_the_end(run):
    """Every unit of every session is done, behind, in a daemon thread of the projection."""
    work = Units(units=3)
    runner = run(work)
    for name in range(10):
        runner.note(key(name))
    assert runner.wait(5) is True
    assert Counter(work.order) == {key(name): 3 for name in range(10)}
    assert work.threads == {"langmem-units"}
    assert runner.status()["units"].done == 30


def test_fair_across_sessions(run):
    """A session with much to do does not keep the others waiting: one unit in turn."""
    work = Units(units=20)
    gate = threading.Event()
    advance = work.advance
    work.advance = lambda key: gate.wait(5) and advance(key)
    runner = run(work)
    for name in "abc":
        runner.note(key(name))
    gate.set()
    assert runner.wait(5)
    assert all(first != second for first, second in pairwise(work.order))


def test_notes_are_one(run):
    """Many notes of one session while it waits are one piece of work; one while it runs is worked off after."""
    gate, started = threading.Event(), threading.Event()
    work = Units()
    advance = work.advance

    def slow(key):
        started.set()
        gate.wait(5)
        return advance(key)

    work.advance = slow
    runner = run(work)
    runner.note(key("a"))
    assert started.wait(5)
    for _ in range(1000):
        runner.note(key("a"))
    gate.set()
    assert runner.wait(5)
    assert work.order == [key("a")] * 2


def test_a_broken_projection_stops_no_other(run):
    """One that fails, or hangs, leaves the others working."""
    work, broken, hung = Units(), Broken(), Units("hung")
    gate = threading.Event()
    hung.advance = lambda key: bool(gate.wait(10)) and False
    runner = run(broken, hung, work)
    for name in range(20):
        runner.note(key(name))
    assert eventually(lambda: len(work.order) == 20)
    assert runner.wait(0.2) is False
    gate.set()


def test_wait_ends_on_a_broken_model(run):
    """Waiting without a limit ends, with False, when work is parked after several tries."""
    broken = Broken()
    runner = run(broken)
    runner.note(key("a"))
    started = time.monotonic()
    assert runner.wait() is False
    assert time.monotonic() - started < 5
    assert broken.tries >= 3


def test_wait_outlasts_a_hiccup(run):
    """One failure is waited out: the retry comes and everything is done."""
    broken = Broken()
    runner = run(broken, pace=Pace(retry_s=0.2, patience=3))
    runner.note(key("a"))
    assert eventually(lambda: broken.tries == 1)
    broken.down = False
    assert runner.wait(5) is True
    assert broken.done == [key("a")]


def test_what_another_process_does_is_looked_at_again(run):
    """It is waited for, is neither failed nor parked, and notes meanwhile change nothing."""
    free = threading.Event()

    class Elsewhere(Units):
        def advance(self, key: SessionKey) -> bool | Later:
            super().advance(key)
            return False if free.is_set() else Later(0.02)

    units = Elsewhere()
    runner = run(units)
    runner.note(key(1))
    assert not runner.wait(0.1)
    assert len(units.order) > 1
    runner.note(key(1))
    status = runner.status()["units"]
    assert (status.queued, status.parked, status.failed, status.breaker) == (1, 0, 0, "closed")
    free.set()
    assert runner.wait(10)
    assert runner.status()["units"].queued == 0


def test_wait_times_out(run):
    """Waiting ends at its limit while work is still going on."""
    gate = threading.Event()
    work = Units()
    work.advance = lambda key: bool(gate.wait(10)) and False
    runner = run(work)
    runner.note(key("a"))
    started = time.monotonic()
    assert runner.wait(0.05) is False
    assert time.monotonic() - started < 1
    gate.set()
    assert runner.wait(5) is True


def test_breaker_opens_and_closes(run):
    """After failures in a row the projection rests: far fewer tries than sessions; on success all catch up."""
    broken = Broken()
    assert isinstance(broken, StandIn)
    runner = run(broken, pace=Pace(retry_s=0.01, rest_s=0.3, max_rest_s=0.3, breaker_after=5))
    for name in range(200):
        runner.note(key(name))
    assert runner.wait() is False
    status = runner.status()["broken"]
    assert status.breaker == "open"
    assert status.parked == 200
    assert broken.tries < 10
    broken.down = False
    assert eventually(lambda: len(set(broken.done)) == 200)
    assert runner.wait(5) is True
    assert runner.status()["broken"].breaker == "closed"


def test_stands_in_while_down(run):
    """While the model is down every session is stood in for, and again when it changes."""
    broken = Broken()
    runner = run(broken, pace=Pace(retry_s=0.01, rest_s=5, breaker_after=3))
    for name in range(10):
        runner.note(key(name))
    assert runner.wait() is False
    assert eventually(lambda: set(broken.stood_in) == {key(name) for name in range(10)})
    broken.stood_in.clear()
    runner.note(key(4))
    runner.note(key("new"))
    assert runner.wait() is False
    assert broken.stood_in == [key(4), key("new")] or broken.stood_in == [key("new"), key(4)]
    assert runner.status()["broken"].stand_ins >= 12


def test_a_session_that_fails_alone(run):
    """One session's bad luck neither opens the breaker for good nor stops the rest."""

    class OneBad(Units):
        def advance(self, at: SessionKey) -> bool:
            if at == key("bad"):
                raise ModelFailed("summariser", "garbage")
            return super().advance(at)

    work = OneBad()
    runner = run(work)
    runner.note(key("bad"))
    for name in range(50):
        runner.note(key(name))
    assert eventually(lambda: len(work.order) == 50)


def test_status_holds_no_text(run, caplog):
    """A foreign error is told by its class alone; a streak of failures is logged once, without text."""
    broken = Broken(ValueError("the user's secret is 4711"))
    runner = run(broken)
    with caplog.at_level(logging.INFO, logger="langmem_plugin"):
        runner.note(key("a"))
        assert runner.wait() is False
        status = runner.status()["broken"]
        broken.down = False
        assert eventually(lambda: broken.done)
        assert runner.wait(5)
    assert status.last_error == "ValueError"
    assert status.failed >= 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "secret" not in caplog.text


def test_own_errors_are_told(run):
    """An error of this package is told with its message, which never holds text."""
    runner = run(Broken())
    runner.note(key("a"))
    assert runner.wait() is False
    assert runner.status()["broken"].last_error.startswith("ModelFailed: the summariser failed: TimeoutError")


def test_queue_is_bounded(run):
    """Past the bound notes are dropped and counted, and waiting says that not all was done."""
    gate = threading.Event()
    work = Units()
    advance = work.advance
    work.advance = lambda key: gate.wait(5) and advance(key)
    runner = run(work, pace=Pace(max_queued=5))
    for name in range(100):
        runner.note(key(name))
    gate.set()
    assert runner.wait(5) is False
    status = runner.status()["units"]
    assert status.dropped >= 90
    assert status.done + status.dropped == 100
    assert runner.wait(5) is True


def test_close_drains_and_is_idempotent(run):
    """Closing does what is queued; later notes are nothing; closing again is nothing."""
    work = Units()
    runner = run(work)
    for name in range(100):
        runner.note(key(name))
    runner.close()
    assert len(work.order) == 100
    runner.note(key("late"))
    runner.close()
    assert len(work.order) == 100
    assert runner.wait(1) is True


@pytest.mark.parametrize("stuck", ["failing", "hung"])
def test_close_is_bounded(run, stuck):
    """A model that fails or hangs does not hold up closing beyond its limit."""
    gate = threading.Event()
    work = Broken()
    if stuck == "hung":
        work.advance = lambda key: bool(gate.wait(10)) and False
    runner = run(work)
    for name in range(10):
        runner.note(key(name))
    started = time.monotonic()
    runner.close(0.2)
    assert time.monotonic() - started < 2
    gate.set()


def test_many_writers(run):
    """Ten threads that note at once lose nothing."""
    work = Units()
    runner = run(work)

    def write(base: int) -> None:
        for name in range(100):
            runner.note(key(base * 100 + name))

    threads = [threading.Thread(target=write, args=(base,)) for base in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runner.wait(10) is True
    assert set(work.order) == {key(name) for name in range(1000)}


def test_an_exit_ends_no_thread(run):
    """A model that calls sys.exit() has failed like any other; the rest goes on."""
    broken = Broken()
    broken.error = SystemExit("the user's secret")
    runner = run(broken)
    runner.note(key("a"))
    assert runner.wait() is False
    assert runner.status()["broken"].last_error == "SystemExit"
    broken.down = False
    assert eventually(lambda: broken.done == [key("a")])


def script(code: str) -> subprocess.CompletedProcess[str]:
    prelude = """
        import os, time, threading
        from langmem_plugin.projections.lane import Pace
        from langmem_plugin.projections.runner import Runner
        from langmem_plugin.records import SessionKey
        class Slow:
            name = "slow"
            def __init__(self, s): self.s = s
            def advance(self, key):
                time.sleep(self.s)
                print("done", key.session, os.getpid() == parent, flush=True)
                return False
        parent = os.getpid()
    """
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ},
    )  # fmt: skip


def test_a_process_ends():
    """A process that forgets to close ends: short work is done first, a hung model holds it up for a bound only."""
    short = script("""
        r = Runner([Slow(0.05)]); [r.note(SessionKey("o", str(n))) for n in range(3)]
    """)
    assert short.returncode == 0
    assert short.stdout.count("done") == 3
    started = time.monotonic()
    hung = script("""
        r = Runner([Slow(60)], exit_timeout_s=0.3); r.note(SessionKey("o", "a"))
    """)
    assert hung.returncode == 0
    assert hung.stderr == ""
    assert time.monotonic() - started < 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_survives_a_fork():
    """A child forked in the middle of work notes, works and waits on its own, without the parent's notes."""
    forked = script("""
        r = Runner([Slow(0.2)])
        r.note(SessionKey("o", "parent"))
        time.sleep(0.05)
        if (child := os.fork()) == 0:
            r.note(SessionKey("o", "child"))
            ok = r.wait(5)
            r.close()
            os._exit(0 if ok else 3)
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status), "parent", r.wait(5))
    """)
    assert "child 0 parent True" in forked.stdout, forked.stderr
    assert "done child False" in forked.stdout
    assert "done parent True" in forked.stdout
    assert "done parent False" not in forked.stdout
