"""G4 to G6 by real processes: killed, crowded, doubled, cut off from their server, out of disk."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from sqlalchemy import event

from langmem_plugin import Memory
from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.messages import assistant
from langmem_plugin.store import shared_write, write_lock
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.file_turn import Errands
from langmem_plugin.store.write_lock import WriteLock
from langmem_plugin.testing.soak import disturbed

NONE = {"kills": 0, "kills-with-vectors": 0, "controls": 0, "processes": 0}


def faults(tmp_path, **numbers):
    """`langmem-plugin eval faults` in a process of its own, because it forks; its figures by trial."""
    out = tmp_path / "figures.json"
    arguments = [f"--{name}={value}" for name, value in {**NONE, **numbers}.items()]
    command = [sys.executable, "-m", "langmem_plugin.cli", "eval", "faults", *arguments, "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ, timeout=300)
    return list(json.loads(out.read_text()).values())


def test_fifty_killed_writers_leave_whole_turns(tmp_path):
    """Processes killed at random moments: nothing acknowledged is lost, no turn is half, none is there twice."""
    (found,) = faults(tmp_path, kills=50)
    assert found["passed"]
    assert found["acknowledged"] >= 50


def test_turns_in_two_writes_are_found_out(tmp_path):
    """A control: writers that write a turn in two leave halves, and the trial says so."""
    (found,) = faults(tmp_path, controls=3)
    assert not found["passed"]
    assert found["halves"]


def test_writers_killed_while_chroma_is_written(tmp_path):
    """The same with vectors: the index is checked or rebuilt at the next opening, and requests are answered."""
    (found,) = faults(tmp_path, **{"kills-with-vectors": 4})
    assert found["passed"]


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_crowd_of_processes_and_threads_loses_nothing(tmp_path, backend, request):
    """Four processes of four threads, a tenth of the turns twice: each once, in its writer's order, no error."""
    url = {"url": request.getfixturevalue("postgres_url")} if backend == "postgres" else {}
    (found,) = faults(tmp_path, processes=4, threads=4, turns=5, **url)
    assert found["passed"]
    assert found["acknowledged"] == 80


def test_a_server_that_is_cut_off_loses_nothing(postgres_server, postgres_url, caplog):
    """PostgreSQL's connections are killed, commits among them: no error reaches a caller, each turn is there once.

    Nor a traceback the log: what was cut off is given up, not tidied.
    """
    name = postgres_url.partition("?")[0].rpartition("/")[2]

    def cut():
        time.sleep(0.2)
        with psycopg.connect(postgres_server.get_uri()) as admin:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    verdict, _ = disturbed(postgres_url, cut, rounds=8, writers=3)
    assert verdict.passed
    assert verdict.acknowledged > 8
    assert [record.name for record in caplog.records if record.exc_info] == []


def test_a_full_disk_is_a_typed_error_and_loses_nothing(tmp_path):
    """Writes past a limit on the file's size raise StoreUnavailable; what was acknowledged before is there."""
    url = f"sqlite:///{tmp_path / 'memory.db'}"
    code = f"""
import resource, signal, sys
from langmem_plugin import Memory
from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.messages import assistant
memory = Memory.open({url!r})
session = memory.session("s", owner="ann")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
for number in range(10_000):
    try:
        session.add(f"Question {{number}} " + "x" * 5_000, assistant("Yes."))
    except StoreUnavailable:
        print(number, flush=True)
        break
sys.stdout.flush()
import os; os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=os.environ, timeout=120
    )
    assert done.stdout.strip().isdecimal(), done.stderr
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        assert len(session.history()) == 2 * int(done.stdout)
        session.add("Now there is room again.", assistant("Good."))


def test_threads_write_in_the_order_of_asking():
    """The lock is handed on first come, first served, and its holder may take it again."""
    lock, order = WriteLock(), []

    def want(number):
        with lock, lock:
            order.append(number)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(10)]
    with lock:
        for thread in threads:
            thread.start()
            time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert order == list(range(10))


def test_no_process_is_passed_over(tmp_path):
    """Two locks on one file that are wanted again and again alternate: neither gets it four times in a row."""
    locks = [WriteLock(tmp_path / "lock") for _ in range(2)]
    order = []
    stop = threading.Event()

    def want(number):
        while not stop.is_set():
            with locks[number]:
                order.append(number)
                time.sleep(0.003)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    for lock in locks:
        lock.close()
    both = order[order.index(1) :] if order[0] == 0 else order[order.index(0) :]
    runs = [len(list(run)) for _, run in itertools.groupby(both[:-4])]
    assert len(runs) > len(both) / 4


def test_a_database_that_is_held_for_ever_is_a_typed_error(tmp_path, monkeypatch):
    """A process that stops while it writes does not block others for ever: they are told, and nothing is written."""
    monkeypatch.setattr(write_lock, "_FULL_S", 0.3)
    url = f"sqlite:///{tmp_path / 'memory.db'}"
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.", assistant("Hi."))
        with WriteLock(tmp_path / "memory.db.lock"):
            with pytest.raises(StoreUnavailable, match="retry"):
                session.add("Hello?")
            assert len(session.history()) == 2  # reading goes on
        session.add("Hello?")


def test_a_killed_process_leaves_no_lock(tmp_path):
    """A writer that is killed while it holds the lock does not keep it."""
    path = tmp_path / "lock"
    code = (
        "import time; from pathlib import Path; from langmem_plugin.store.write_lock import WriteLock\n"
        f"with WriteLock(Path({str(path)!r})):\n    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ) as child:
        assert child.stdout.readline() == "held\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
        lock = WriteLock(path)
        with lock:
            pass
        lock.close()


def crowded(database, count, body):
    """Run `body(number)` in threads that ask to write, in order, while a write is under way."""
    threads = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    try:
        with database.write():
            for thread in threads:
                thread.start()
                time.sleep(0.02)
    finally:
        for thread in threads:
            thread.join()


def test_waiting_threads_share_a_commit(tmp_path, monkeypatch):
    """Writes that wait are made durable together, each as one savepoint: a failing one takes nothing of the others."""
    monkeypatch.setattr(shared_write, "_LONG_S", 60.0)
    database = SqlDatabase(f"sqlite:///{tmp_path / 'memory.db'}")
    commits, errors = [], []
    event.listen(database._engine, "commit", commits.append)

    def write(number):
        try:
            with database.write() as connection:
                connection.exec_driver_sql("INSERT INTO meta VALUES (?, 'x')", (f"key {number}",))
                assert number % 3 != 1
        except AssertionError:
            errors.append(number)

    crowded(database, 9, write)
    assert sorted(errors) == [1, 4, 7]
    assert len(commits) == 1
    with database.read() as connection:
        found = connection.exec_driver_sql("SELECT key FROM meta WHERE key LIKE 'key %' ORDER BY key").scalars().all()
    assert found == [f"key {number}" for number in (0, 2, 3, 5, 6, 8)]
    database.close()


def test_a_shared_commit_that_fails_is_acknowledged_to_nobody(tmp_path, monkeypatch):
    """Every thread of a transaction that cannot be committed gets a typed error, and nothing of it stands."""
    monkeypatch.setattr(shared_write, "_LONG_S", 60.0)
    database = SqlDatabase(f"sqlite:///{tmp_path / 'memory.db'}")
    errors = []

    def fail(_connection):
        raise sqlite3.OperationalError("disk I/O error")

    def write(number):
        try:
            with database.write() as connection:
                connection.exec_driver_sql("INSERT INTO meta VALUES (?, 'x')", (f"key {number}",))
        except StoreUnavailable as error:
            errors.append(error)

    event.listen(database._engine, "commit", fail)
    with pytest.raises(StoreUnavailable):
        crowded(database, 4, write)
    event.remove(database._engine, "commit", fail)
    crowded(database, 1, write)
    assert len(errors) == 4
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta WHERE key LIKE 'key %'").scalar() == 1
    database.close()


def test_processes_write_in_the_order_of_asking(tmp_path):
    """Three locks on one file, asked for one after the other while it is held, get it in that order."""
    locks = [WriteLock(tmp_path / "lock") for _ in range(4)]
    order = []

    def want(number):
        with locks[number]:
            order.append(number)

    def tickets():
        return int.from_bytes((tmp_path / "lock").read_bytes()[:8], "little")

    threads = [threading.Thread(target=want, args=(number,)) for number in (1, 2, 3)]
    with locks[0]:
        for thread in threads:
            taken, until = tickets(), time.monotonic() + 30
            thread.start()
            while tickets() == taken:
                assert time.monotonic() < until, "it does not ask"
                time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert order == [1, 2, 3]
    for lock in locks:
        lock.close()


def test_one_process_at_a_time_is_at_an_errand(tmp_path):
    """What one is at is refused to others, all else is free, and closing the file frees it."""
    first, second = Errands(tmp_path / "lock"), Errands(tmp_path / "lock")
    with (
        first.alone("a") as mine,
        first.alone("a") as again,
        second.alone("a") as theirs,
        second.alone("b") as other,
    ):
        assert (mine, again, theirs, other) == (True, False, False, True)
    with second.alone("a") as free:
        assert free
    with first.alone("a"):
        first.close()
        with second.alone("a") as freed:
            assert freed
    second.close()
