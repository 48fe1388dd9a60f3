"""Chroma damaged, locked, killed and hung under load: is every request answered, and are the right messages found?"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from langmem_plugin import memory as opening
from langmem_plugin.config import Budget, MemoryConfig, RecallConfig
from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.evaluation.overhead import said
from langmem_plugin.memory import Memory
from langmem_plugin.projections.exact_index import nearest
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.chroma_server import ChromaServer

LOCKED: Final = "SQLite locked by another process"
FOLDER: Final = ("nothing", "files cut in half", "files overwritten with zeros", "files emptied", "files deleted",
                 "the folder deleted", LOCKED)  # fmt: skip
SERVER: Final = ("server: nothing", "server killed and started again", "server hangs")
"""What is done to an embedded index, and to a server."""

_COLUMNS: Final = (
    "what is done", "times", "requests", "unanswered", "without vectors", "by Chroma", "its recall", "by exact search",
    "equal to exact", "healed", "longest, ms",
)  # fmt: skip
_SESSIONS: Final = 3
_TIMES: Final = 6
_HEALS_WITHIN_S: Final = 120.0
_CONFIG: Final = MemoryConfig(
    budget=Budget(max_tokens=2_000, completion=0),
    recall=RecallConfig(deadline_s=30.0),  # the question's embedding is not what is tried here
)
_LOCK: Final = (
    "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None); "
    "db.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of one kind of trouble."""

    name: str
    times: int
    """How often it was made."""
    requests: int
    unanswered: int
    """Requests that raised."""
    without: int
    """Requests whose recall had no vector leg."""
    unexplained: int
    """Of them, those whose report does not say why."""
    by_chroma: int
    chroma_recall: float
    """Mean share of the exact hits in Chroma's answers; 1.0 if it gave none."""
    by_exact: int
    exact_equal: int
    """Answers of the fallback that are those of exact search over the stored vectors: same messages, same order."""
    healed: bool
    """Whether Chroma was ready again by itself."""
    longest_ms: float


class _Watched(VectorIndex):
    """Compares each answer with exact search over the vectors that are stored."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.truth: dict[SessionKey, tuple[Seqs, Vectors]] = {}
        self.seen: Counter[str] = Counter()
        self.shares: list[float] = []
        self._here = threading.local()

    def search(self, key: SessionKey, vector: Vectors, *, k: int, before: int | None = None) -> tuple[Seqs, Vectors]:
        """As the index searches."""
        self._here.exact = False
        found = super().search(key, vector, k=k, before=before)
        if key in self.truth:
            right, _ = nearest(*self.truth[key], vector, k)
            if self._here.exact:
                self.seen.update(exact=1, equal=int(np.array_equal(found[0], right)))
            else:
                self.shares.append(len(np.intersect1d(found[0], right)) / len(right))
        return found

    def _exactly(self, *asked: Any) -> tuple[Seqs, Vectors]:
        self._here.exact = True
        return super()._exactly(*asked)


def measure(
    trials: Sequence[str] = (*FOLDER, *SERVER),
    *,
    seconds: float = 5.0,
    messages: int = 600,
    threads: int = 4,
    seed: int = 0,
    progress: Callable[[str], object] = lambda _line: None,
) -> list[Trial]:
    """Ask without a pause while Chroma is disturbed, and look at every answer.

    Sessions are searched by Chroma whatever their size; a writer adds to another one all
    the time. The stored vectors themselves, in SQLite, are not touched.

    Args:
        trials: Of `FOLDER` and `SERVER`.
        seconds: How long each lasts; what it does is done six times in that span.
        messages: Of each session that is asked; fewer than 500 are too few for Chroma's answers.
        threads: That ask at once.
        seed: Of chance.
        progress: Called with a line now and then.
    """
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kinds, server in ((FOLDER, False), (SERVER, True)):
            wanted = [kind for kind in kinds if kind in trials]
            if wanted:
                with _memory(folder, messages, seed, server=server) as (memory, index, running):
                    for kind in wanted:
                        progress(kind)
                        with suppress(StoreUnavailable):  # a search that was late may fail in its midst
                            index.rebuild(timeout_s=_HEALS_WITHIN_S)
                        _heals(index)
                        found.append(_tried(kind, memory, index, running, seconds, threads, seed))
    return found


def to_markdown(trials: Sequence[Trial]) -> str:
    """The figures as a table."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---:|",
    ]
    lines += [
        f"| {one.name} | {one.times} | {one.requests:,} | {one.unanswered} | {one.without} | {one.by_chroma:,} "
        f"| {one.chroma_recall:.4f} | {one.by_exact:,} | {one.exact_equal:,} | {'yes' if one.healed else 'no'} "
        f"| {one.longest_ms:,.0f} |"
        for one in trials
    ]
    return "\n".join(lines)


@contextmanager
def _memory(
    folder: Path, messages: int, seed: int, *, server: bool
) -> Iterator[tuple[Memory, _Watched, ChromaServer | None]]:
    running = ChromaServer(folder / "server") if server else None
    made: list[_Watched] = []

    def watched(*args: Any, **settings: Any) -> _Watched:
        made.append(_Watched(*args, exact_max=0, **settings))
        return made[-1]

    try:
        url = f"sqlite:///{folder}/{'server' if server else 'folder'}.db"
        where = running.url if running is not None else None
        with (
            patch.object(opening, "VectorIndex", watched),
            Memory.open(url, embedder=_embed, vectors=where, config=_CONFIG) as memory,
        ):
            chance = random.Random(seed)  # noqa: S311 - the same messages each time
            for number in range(_SESSIONS):
                memory.session(str(number), owner="asked").add(*(said(chance) for _ in range(messages)))
            memory.wait()
            (index,) = made
            store = memory._store  # noqa: SLF001 - what is stored is the oracle
            index.truth = {key: store.vectors(key, index.status()["model"]) for key in store.keys(owner="asked")}
            yield memory, index, running
    finally:
        if running is not None:
            running.go_on()
            running.kill()


def _tried(
    kind: str,
    memory: Memory,
    index: _Watched,
    server: ChromaServer | None,
    seconds: float,
    threads: int,
    seed: int,
) -> Trial:
    index.seen, index.shares = Counter(), []
    took: list[float] = []
    seen: Counter[str] = Counter()
    over = threading.Event()

    def ask(number: int) -> None:
        chance = random.Random(f"{seed} {number}")  # noqa: S311
        while not over.is_set():
            session = memory.session(str(chance.randrange(_SESSIONS)), owner="asked")
            started = time.perf_counter()
            try:
                report = session.context(f"What did we say about {said(chance)}?").report
            except Exception as error:  # noqa: BLE001 - what is looked for
                seen[f"raised {type(error).__name__}"] += 1
            else:
                if "vector" not in report.legs:
                    seen["without"] += 1
                    seen["unexplained"] += not any("by keyword" in note for note in report.notes)
            took.append(1_000 * (time.perf_counter() - started))

    def write() -> None:
        chance = random.Random(seed)  # noqa: S311
        while not over.wait(0.05):
            memory.session("written", owner="writer").add(said(chance))

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    workers.append(threading.Thread(target=write))
    held = kind == LOCKED and index.folder is not None
    with _locked(index.folder) if held and index.folder else nullcontext():
        for worker in workers:
            worker.start()
        try:
            times = held + _disturb(kind, index.folder, server, over, seconds, random.Random(seed))  # noqa: S311
        finally:
            over.set()
            for worker in workers:
                worker.join()
    return Trial(
        name=kind,
        times=times,
        requests=len(took),
        unanswered=sum(count for name, count in seen.items() if name.startswith("raised")),
        without=seen["without"],
        unexplained=seen["unexplained"],
        by_chroma=len(index.shares),
        chroma_recall=float(np.mean(index.shares)) if index.shares else 1.0,
        by_exact=index.seen["exact"],
        exact_equal=index.seen["equal"],
        healed=_heals(index),
        longest_ms=max(took, default=0.0),
    )


def _heals(index: VectorIndex) -> bool:
    until = time.monotonic() + _HEALS_WITHIN_S
    while index.status()["state"] != "ready" and time.monotonic() < until:
        time.sleep(0.05)
    return bool(index.status()["state"] == "ready")


def _disturb(
    kind: str,
    folder: Path | None,
    server: ChromaServer | None,
    over: threading.Event,
    seconds: float,
    chance: random.Random,
) -> int:
    """Do it six times within the span; gives how often it could be done."""
    done = 0
    for _ in range(_TIMES):
        pause = seconds / _TIMES
        over.wait(pause / 2)
        if server is not None:
            done += _disturb_server(kind, server, pause / 2)
        elif folder is not None:
            done += _disturb_folder(kind, folder, chance)
        over.wait(pause / 2)
    return done


def _disturb_server(kind: str, server: ChromaServer, pause: float) -> int:
    match kind:
        case "server killed and started again":
            server.kill()
            time.sleep(pause)
            server.start()
        case "server hangs":
            server.stop()
            time.sleep(pause)
            server.go_on()
        case _:
            return 0
    return 1


def _disturb_folder(kind: str, folder: Path, chance: random.Random) -> int:
    if kind == "the folder deleted":
        shutil.rmtree(folder, ignore_errors=True)
        return 1
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.parent != folder)
    if kind in ("nothing", LOCKED) or not files:
        return 0
    for file in chance.sample(files, min(2, len(files))):
        with suppress(FileNotFoundError):  # the index was just made anew
            _spoil(kind, file)
    return 1


def _spoil(kind: str, file: Path) -> None:
    size = file.stat().st_size
    match kind:
        case "files cut in half":
            os.truncate(file, size // 2)
        case "files overwritten with zeros":
            with file.open("r+b") as stream:
                stream.write(bytes(size))
        case "files emptied":
            os.truncate(file, 0)
        case _:
            file.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """SQLite's exclusive lock on Chroma's database is held meanwhile, by another process."""
    file = max(folder.rglob("chroma.sqlite3"), key=lambda one: one.stat().st_mtime)
    command = [sys.executable, "-c", _LOCK, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # noqa: S603
        try:
            if child.stdout is None or child.stdout.readline() != b"locked\n":
                raise StoreUnavailable(str(file), "it could not be locked for the trial", "run it again")
            yield
        finally:
            child.communicate()


@functools.cache
def _vector_of(word: str) -> Vectors:
    drawn: Vectors = np.random.default_rng(zlib.crc32(word.encode())).normal(size=96).astype(np.float32)
    return drawn


def _embed(texts: list[str]) -> Vectors:
    """The sum of a vector a word, always the same: what embedding costs is not tried here."""
    return np.stack([sum((_vector_of(word) for word in text.lower().split()), _vector_of("")) for text in texts])
