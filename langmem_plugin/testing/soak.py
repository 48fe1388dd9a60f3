"""Long trials of a store by real processes: killed at any moment, crowded, delivering twice (guarantees G4 to G6).

Each trial forks; start it in a process that has opened no memory and no other threads.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

import numpy as np

from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.projections.constraints import find_constraints
from langmem_plugin.records import Entry
from langmem_plugin.session import Session
from langmem_plugin.tokens import as_counter

OWNER = "soak"
_LOOK_EVERY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a trial found."""

    acknowledged: int
    """Turns whose write returned."""
    lost: int
    """Of those, not in the log afterwards."""
    halves: int
    """Turns of which only one of two messages is there."""
    duplicates: int
    """Turns that are there more than once."""
    disordered: int
    """Turns of one writer that stand in another order than it wrote them; gaps in the numbers."""
    errors: int
    """Errors that reached a caller."""
    unacknowledged: int = 0
    """Turns that are there whole though their write did not return: allowed."""

    @property
    def passed(self) -> bool:
        """True if nothing is wrong."""
        return not (self.lost or self.halves or self.duplicates or self.disordered or self.errors)


class Letters:
    """An embedder that takes no time: how often each letter stands in a text."""

    name = "letters"

    def embed(self, texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """One row a text."""
        rows = np.full((len(texts), 32), 0.01, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for place, letter in enumerate(text):
                row[ord(letter) % 32] += 1 + place / 50
        return rows


def kill_writers(url: str, kills: int, *, seed: int = 0, vectors: bool = False, half: bool = False) -> Verdict:
    """Kill a writing process at a random moment, `kills` times, and look at what it left.

    Args:
        url: The database; each process has a session of its own.
        kills: How many processes.
        seed: Of the moments.
        vectors: Embed and index in Chroma behind, too.
        half: A control that must fail: each turn is written in two.
    """
    warm()
    rng = random.Random(seed)
    total: Counter[str] = Counter()
    left: dict[str, list[int]] = {}
    for number in range(kills):
        name = f"kill-{seed}-{number}"
        with _forked(partial(_write_forever, url, name, vectors, half)) as (pid, out):
            select.select([out], [], [], 60)
            time.sleep(rng.random() * 0.1)
            os.kill(pid, signal.SIGKILL)
            left[name] = [int(line) for line in out.read().split(b"\n")[:-1]]
        if len(left) == _LOOK_EVERY or number == kills - 1:
            with _forked(partial(_verify_killed, url, left, vectors)) as (_, out):
                found = out.read()
            total += Counter(json.loads(found) if found else {"errors": 1, "lost": sum(map(len, left.values()))})
            left = {}
    return _verdict(total)


def crowd(
    url: str, *, processes: int = 8, threads: int = 8, turns: int = 50, sessions: int = 4, twice: float = 0.1
) -> tuple[Verdict, dict[str, float]]:
    """Many threads of many processes write to a few sessions at once, some turns twice.

    Returns:
        The verdict, and turns per second and the times of a write in milliseconds.
    """
    warm()
    with _forked(lambda _: Memory.open(url).close()):
        pass  # the tables are there before the clock starts
    began = time.perf_counter()
    answers = []
    children = []
    for process in range(processes):
        forked = _forked(partial(_crowd, url, process, threads, turns, sessions, twice))
        children.append((forked, forked.__enter__()))
    for forked, (_, out) in children:
        answers.append(json.loads(out.read() or b'{"times": [], "errors": ["no answer"], "taken": 0}'))
        forked.__exit__(None, None, None)
    times = np.sort(np.array([one for answer in answers for one in answer["times"]])) * 1000
    taken = max(answer["taken"] for answer in answers) if answers else time.perf_counter() - began
    names = [f"{process}-{thread}" for process in range(processes) for thread in range(threads)]
    with _forked(partial(_verify_crowd, url, names, turns, sessions)) as (_, out):
        total = Counter(json.loads(out.read()))
    total["errors"] += sum(len(answer["errors"]) for answer in answers)
    figures = {f"p{share:g} ms": float(np.percentile(times, share)) for share in (50, 99, 99.9)} if len(times) else {}
    figures |= {"worst ms": float(times[-1])} if len(times) else {}
    figures |= {"turns per second": processes * threads * turns / taken}
    return _verdict(total), figures


def writing(url: str, *, processes: int, turns: int) -> tuple[list[float], float]:
    """Processes write turns to sessions of their own as fast as each returns.

    Returns:
        The times of all writes in milliseconds, ascending, and the seconds that the slowest process took.
    """
    warm()
    with _forked(lambda _: Memory.open(url).close()):
        pass
    children = []
    for process in range(processes):
        forked = _forked(partial(_write_fast, url, f"{processes}-{process}", turns))
        children.append((forked, forked.__enter__()))
    times: list[float] = []
    spans: list[tuple[float, float]] = []
    for forked, (_, out) in children:
        answer = json.loads(out.read())
        forked.__exit__(None, None, None)
        times += answer["times"]
        spans.append((answer["began"], answer["ended"]))
    return sorted(times), max(end for _, end in spans) - min(began for began, _ in spans)


def _write_fast(url: str, name: str, turns: int, out: IO[bytes]) -> None:
    times = []
    with Memory.open(url) as memory:
        session = memory.session(name, owner=OWNER)
        for number in range(20):
            write_turn(session, f"{name}-first", number, stream=False)
        began = time.time()
        for number in range(turns):
            start = time.perf_counter()
            write_turn(session, name, number, stream=False)
            times.append((time.perf_counter() - start) * 1000)
        ended = time.time()
    out.write(json.dumps({"times": times, "began": began, "ended": ended}).encode())


def disturbed(url: str, disturb: Callable[[], None], *, rounds: int, writers: int = 6) -> tuple[Verdict, float]:
    """Writers in threads of this process while `disturb` is called `rounds` times: a server stopped, killed.

    Returns:
        The verdict, and the longest that a write took, in seconds.
    """
    stop = threading.Event()
    acknowledged: dict[str, int] = {}
    errors: list[str] = []
    worst = [0.0]

    def write(memory: Memory, name: str) -> None:
        session = memory.session(name, owner=OWNER)
        number = 0
        while not stop.is_set():
            began = time.perf_counter()
            try:
                write_turn(session, name, number, stream=bool(number % 2))
            except Exception as error:  # noqa: BLE001 - counted
                errors.append(f"{type(error).__name__}: {error}")
            else:
                number += 1
                acknowledged[name] = number
            worst[0] = max(worst[0], time.perf_counter() - began)

    with Memory.open(url) as memory:
        names = [f"disturbed-{number}" for number in range(writers)]
        threads = [threading.Thread(target=write, args=(memory, name)) for name in names]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            disturb()
        stop.set()
        for thread in threads:
            thread.join()
    total: Counter[str] = Counter(errors=len(errors))
    with Memory.open(url) as memory:
        for name in names:
            numbers = list(range(acknowledged.get(name, 0)))
            total += Counter(judge(memory.session(name, owner=OWNER).history(), {name: numbers}))
    return _verdict(total), worst[0]


def warm() -> None:
    """Load what each child would load again: the tokenizer's vocabulary and the rules for constraints."""
    as_counter("gpt-4o").count("warm")
    find_constraints("warm", active=[])


def write_turn(session: Session, writer: str, number: int, *, stream: bool) -> None:
    """One turn, its question and its answer: at once, or begun, streamed and committed; tried again, it goes on."""
    turn_id, question, answer = f"{writer}/{number}", f"Question {number} of {writer}?", f"Answer {number} to {writer}."
    if not stream:
        session.add(question, assistant(answer), turn_id=turn_id)
        return
    turn = session.begin(question, turn_id=turn_id)
    if len(turn.messages) < 2:  # the answer may be there from a try that could not commit
        for _ in turn.stream(answer[start : start + 5] for start in range(0, len(answer), 5)):
            pass
    turn.commit()


def _write_forever(url: str, name: str, vectors: bool, half: bool, out: IO[bytes]) -> None:
    memory = Memory.open(url, embedder=Letters() if vectors else None)
    session = memory.session(name, owner=OWNER)
    if vectors:
        _await_index(memory)
    number = 0
    while True:
        if half:
            session.add(f"Question {number} of {name}?", turn_id=f"{name}/{number}")
            session.add(assistant(f"Answer {number} to {name}."), turn_id=f"{name}/{number}b")
        else:
            write_turn(session, name, number, stream=bool(number % 2))
        if number % 7 == 3:
            write_turn(session, name, number - 1, stream=True)  # a delivery that comes twice
        out.write(b"%d\n" % number)
        out.flush()
        number += 1


def _await_index(memory: Memory) -> None:
    """Chroma's process takes a second to come up: it shall be at work when the kill comes."""
    memory.session("first", owner=OWNER).add("Hello.", assistant("Hi."))
    until = time.monotonic() + 60
    while memory.status()["vectors"]["state"] != "ready" and time.monotonic() < until:
        time.sleep(0.02)


def _verify_killed(url: str, left: dict[str, list[int]], vectors: bool, out: IO[bytes]) -> None:
    total: Counter[str] = Counter()
    with Memory.open(url, embedder=Letters() if vectors else None) as memory:
        for name, acknowledged in left.items():
            session = memory.session(name, owner=OWNER)
            session.context(f"Question 0 of {name}?")  # answered whatever became of the index
            total += Counter(judge(session.history(), {name: acknowledged}))
        if vectors and not memory.wait(60):
            total["errors"] += 1
    out.write(json.dumps(total).encode())


def _crowd(url: str, process: int, threads: int, turns: int, sessions: int, twice: float, out: IO[bytes]) -> None:
    times: list[float] = []
    errors: list[str] = []
    with Memory.open(url) as memory:

        def work(thread: int) -> None:
            rng = random.Random(process * 1000 + thread)
            name = f"{process}-{thread}"
            session = memory.session(f"crowd-{(process * threads + thread) % sessions}", owner=OWNER)
            for number in range(turns):
                for _ in range(2 if rng.random() < twice else 1):
                    began = time.perf_counter()
                    try:
                        write_turn(session, name, number, stream=False)
                    except Exception as error:  # noqa: BLE001 - counted
                        errors.append(type(error).__name__)
                    times.append(time.perf_counter() - began)

        # Statements are compiled once a process; that is no waiting for a turn.
        memory.session(f"first-{process}", owner=OWNER).add("Hello.", assistant("Hi."))
        workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        taken = time.perf_counter() - began
    out.write(json.dumps({"times": times, "errors": errors, "taken": taken}).encode())


def _verify_crowd(url: str, names: list[str], turns: int, sessions: int, out: IO[bytes]) -> None:
    total: Counter[str] = Counter()
    with Memory.open(url) as memory:
        for number in range(sessions):
            here = {name: list(range(turns)) for place, name in enumerate(names) if place % sessions == number}
            total += Counter(judge(memory.session(f"crowd-{number}", owner=OWNER).history(), here))
    out.write(json.dumps(total).encode())


def judge(entries: list[Entry], acknowledged: dict[str, list[int]]) -> dict[str, int]:
    """Compare a log with what was acknowledged, by writer."""
    found: Counter[str] = Counter(lost=0)
    turns: dict[str, list[Entry]] = {}
    for place, entry in enumerate(entries, start=1):
        found["disordered"] += entry.seq != place
        turns.setdefault(entry.turn, []).append(entry)
    order: dict[str, list[int]] = {}
    texts = Counter(entry.message.text for entry in entries)
    found["duplicates"] += sum(count - 1 for count in texts.values())
    for turn, held in turns.items():
        writer, _, number = turn.rpartition("/")
        found["halves"] += len(held) != 2 or held[1].seq != held[0].seq + 1
        order.setdefault(writer, []).append(int(number) if number.isdecimal() else -1)
    for writer, numbers in acknowledged.items():
        there = order.get(writer, [])
        found["acknowledged"] += len(numbers)
        found["lost"] += len(set(numbers) - set(there))
        found["unacknowledged"] += len(set(there) - set(numbers) - {-1})
        found["disordered"] += there != sorted(there)
    return dict(found)


def _verdict(total: Counter[str]) -> Verdict:
    return Verdict(**{name: int(total[name]) for name in Verdict.__slots__})


class _forked:  # noqa: N801 - read as a verb
    """A child process that runs a function and writes to a pipe; ended and reaped on leaving."""

    def __init__(self, work: Callable[[IO[bytes]], None]) -> None:
        self._work = work

    def __enter__(self) -> tuple[int, IO[bytes]]:
        read, write = os.pipe()
        gc.freeze()  # or each child's first full collection writes to every page that it shares, and so copies it
        self._pid = os.fork()
        if self._pid == 0:
            code = 1
            try:
                os.close(read)
                with os.fdopen(write, "wb") as out:
                    self._work(out)
                code = 0
            finally:
                os._exit(code)
        gc.unfreeze()
        os.close(write)
        self._out = os.fdopen(read, "rb")
        return self._pid, self._out

    def __exit__(self, *_error: object) -> None:
        self._out.close()
        os.waitpid(self._pid, 0)
