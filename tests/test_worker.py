"""Workers: all that is behind, by processes of their own; each job once, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidSetting, ModelFailed, WorkerRunning
from langmem_plugin.messages import assistant
from langmem_plugin.projections.lane import Pace
from langmem_plugin.projections.worker import Worker

CONFIG = MemoryConfig(budget=Budget(max_tokens=1_000, completion=100))
SESSIONS = 8
APP = """
import os, time
from langmem_plugin import Budget, MemoryConfig

def say(what):
    with open("jobs.log", "a") as log:
        log.write(f"{os.getpid()} {what}\\n")

def summarizer(prompt):
    name = prompt.partition("session-")[2][:2]
    say(f"summary {name}")
    time.sleep(0.05)
    return f"Notes of session-{name}: they spoke of Lyon, and of bread."

def embedder(texts):
    for one in texts:
        say(f"vector {one[:40]}")
    time.sleep(0.01)
    return [[1.0, float(len(one))] for one in texts]

def settings():
    open(f"ready-{os.getpid()}", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    config = MemoryConfig(budget=Budget(max_tokens=1_000, completion=100))
    return {"summarizer": summarizer, "embedder": embedder, "config": config}
"""


def talk(memory: Memory, name: str, turns: int = 14, first: int = 0) -> None:
    session = memory.session(name, owner="ann")
    for place in range(first, first + turns):
        session.add(f"{name} {place}: I paid {place} euros in Lyon. " * 3, assistant(f"{name} {place} noted. " * 6))


@contextmanager
def worker_process(folder: Path, url: str, *arguments: str):
    """`langmem-plugin worker` as a process of its own."""
    (folder / "workerapp.py").write_text(APP)
    command = [sys.executable, "-m", "langmem_plugin.cli", "worker", "--database", url, "--poll", "0.05"]
    process = subprocess.Popen(
        [*command, "--use", "workerapp:settings", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def eventually(condition, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def jobs(folder: Path) -> list[tuple[str, str]]:
    log = folder / "jobs.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [tuple(line.split(" ", 1)) for line in lines]


def worked_off(engine) -> bool:
    with engine.connect() as connection:
        return not connection.scalar(text("SELECT count(*) FROM sessions WHERE worked_version < version"))


def test_two_workers_share_the_work_and_one_is_killed(tmp_path, postgres_url):
    """G10: two processes do each job once; of one that is killed, what it had not committed is done by the other."""
    with Memory.open(postgres_url, config=CONFIG, background=False) as memory:
        for number in range(SESSIONS):
            talk(memory, f"session-{number:02}")
        engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
        few = ("--at-once", "2")
        with (
            worker_process(tmp_path, postgres_url, *few) as first,
            worker_process(tmp_path, postgres_url, *few) as second,
        ):
            pids = {str(first.pid), str(second.pid)}
            eventually(lambda: len(list(tmp_path.glob("ready-*"))) == 2)  # both are there before either begins
            (tmp_path / "go").touch()
            eventually(lambda: {pid for pid, _ in jobs(tmp_path)} == pids)
            first.send_signal(signal.SIGKILL)
            first.wait()
            before = len(jobs(tmp_path))
            for number in range(SESSIONS):  # new work, of which the dead one does nothing
                talk(memory, f"session-{number:02}", turns=2, first=14)
            eventually(lambda: worked_off(engine))
            assert {pid for pid, _ in jobs(tmp_path)[before:]} == {str(second.pid)}
            second.send_signal(signal.SIGTERM)
            output, _ = second.communicate(timeout=30)
            assert second.returncode == 0, output
        asked = Counter(what for _, what in jobs(tmp_path) if what.startswith("summary"))
        embedded = Counter(what for _, what in jobs(tmp_path) if what.startswith("vector"))
        with engine.connect() as connection:
            saved = connection.scalar(text("SELECT count(*) FROM summaries"))
            repeated = connection.scalar(
                text(
                    "SELECT count(*) FROM (SELECT 1 FROM summaries GROUP BY session_id, upto_seq HAVING count(*) > 1) x"
                )
            )
            lacking = connection.scalar(
                text(
                    "SELECT count(*) FROM messages m LEFT JOIN embeddings e "
                    "ON e.session_id = m.session_id AND e.seq = m.seq WHERE e.seq IS NULL"
                )
            )
        engine.dispose()
        # The one that was killed had at most one call under way in each lane; that one alone is made again.
        assert repeated == 0
        assert saved <= sum(asked.values()) <= saved + 1
        assert lacking == 0
        assert sum(count - 1 for count in embedded.values()) <= 8
        for number in range(SESSIONS):
            session = memory.session(f"session-{number:02}", owner="ann")
            assert f"Notes of session-{number:02}" in str([m.text for m in session.context().messages])


def test_a_sqlite_file_takes_one_worker(tmp_path):
    """A second worker on a file is refused with the first one's pid; when that ends, another may begin."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with Memory.open(url, config=CONFIG, background=False) as memory:
        talk(memory, "session-00")
        (tmp_path / "go").touch()
        with memory.worker(), pytest.raises(WorkerRunning, match=str(os.getpid())):
            memory.worker()
        with worker_process(tmp_path, url, "--until-idle") as process:
            output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
        assert "summary: " in output
        assert "Notes of session-00" in str(
            [m.text for m in memory.session("session-00", owner="ann").context().messages]
        )


def test_nothing_is_done_without_background(tmp_path, capsys):
    """background=False starts no thread and calls no model; the command without models then writes extracts."""
    called = []
    url = f"sqlite:///{tmp_path / 'm.db'}"
    config = tmp_path / "config.json"
    config.write_text(CONFIG.model_dump_json())
    before = threading.active_count()
    with Memory.open(
        url, config=CONFIG, summarizer=lambda prompt: called.append(prompt) or "x", background=False
    ) as memory:
        talk(memory, "session-00")
        assert memory.wait(1)
        assert threading.active_count() == before
        assert called == []
        assert memory._store.summaries(memory.session("session-00", owner="ann")._key) == (None, None)
        assert main(["worker", "--database", url, "--until-idle", "--poll", "0.01", "--config", str(config)]) == 0
        assert "units done" in capsys.readouterr().out
        assert memory._store.summaries(memory.session("session-00", owner="ann")._key)[1].method == "extract"


def test_another_model_is_more_work(tmp_path):
    """A worker with an embedder that the last one did not have looks at every session again."""
    url = f"sqlite:///{tmp_path / 'm.db'}"

    def work(**settings) -> int:
        with (
            Memory.open(url, config=CONFIG, background=False, vectors="exact", **settings) as memory,
            memory.worker(poll_s=0.01) as worker,
        ):
            assert worker.run(until_idle=True)
            return sum(lane.done for lane in worker.status().values())

    with Memory.open(url, config=CONFIG, background=False) as memory:
        talk(memory, "a", turns=1)
        talk(memory, "b", turns=1)
    assert work() > 0
    assert work() == 0
    assert work(embedder=lambda texts: [[1.0, 0.0] for _ in texts]) > 0


class Failing:
    """A projection whose model fails for some sessions while `down`."""

    name = "failing"

    def __init__(self) -> None:
        self.down = True
        self.done: list[str] = []

    def advance(self, key):
        if self.down and key.session != "good":
            raise ModelFailed("summariser", "TimeoutError")
        self.done.append(key.session)
        return False


def test_work_that_fails_keeps_no_claim_and_is_found_again(tmp_path):
    """A failing session is given back, others go on, and it is done when the model is back."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    pace = Pace(retry_s=0.01, max_retry_s=0.02, patience=2, breaker_after=50)
    with Memory.open(url, config=CONFIG, background=False) as memory:
        for name in ("bad", "good", "worse"):
            talk(memory, name, turns=1)
        failing = Failing()
        with Worker(memory._store, [failing], done_with="x", poll_s=0.01, pace=pace) as worker:
            assert worker.run(until_idle=True) is False
            assert failing.done == ["good"]
            assert worker._desk.taken == 0
            failing.down = False
            eventually(lambda: set(failing.done) == {"good", "bad", "worse"})
            eventually(lambda: worker.run(until_idle=True), 10)
        assert memory._store.behind() == []


def test_settings_that_cannot_work_are_refused(tmp_path, capsys):
    """A worker beside its own background work, in memory, without a server, with a wrong function: typed errors."""
    with Memory.open(f"sqlite:///{tmp_path / 'm.db'}") as memory, pytest.raises(InvalidSetting, match="background"):
        memory.worker()
    with Memory.open(background=False) as memory, pytest.raises(InvalidSetting, match="other processes"):
        memory.worker()
    with pytest.raises(InvalidSetting, match="sync"):
        Memory.open(sync=True, background=False)
    url = f"sqlite:///{tmp_path / 'm.db'}"
    for arguments in (
        ["--use", "nowhere:at_all"],
        ["--use", "os:getcwd"],
        ["--summarizer", "m"],
        ["--config", str(tmp_path / "absent.json")],
        ["--poll", "0"],
        ["--at-once", "0"],
    ):
        assert main(["worker", "--database", url, *arguments]) == 1
        assert "langmem-plugin: " in capsys.readouterr().err
