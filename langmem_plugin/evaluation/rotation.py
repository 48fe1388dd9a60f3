"""An owner's key changes while others read and write, and while the process that changes it is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.keyring import FolderKeyRing
from langmem_plugin.memory import Memory
from langmem_plugin.messages import user

_OWNER, _SESSION = "ann", "s"
_TOGETHER = 500
"""Messages of a turn while the session is filled."""
_PAGE = 50
"""Messages that a reader asks for at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a change of key cost, and what it did to others."""

    rows: int
    """Rows that were sealed anew, those that were written meanwhile among them."""
    seconds: float
    reads: int
    """Of 50 messages each, by another memory, while the key changed."""
    read_p99_ms: float
    writes: int
    """Turns of one message that a third memory added meanwhile."""
    write_p99_ms: float
    errors: int
    """Calls of those that failed."""
    kills: int
    """Processes that were killed while they changed the key, before the one that ended it."""
    lost: int
    """Messages that were not there, or not as they were said, after a kill or at the end."""
    old: int
    """Earlier keys that are still in the ring."""


def measure(
    *, rows: int = 10_000, kills: int = 5, seed: int = 0, progress: Callable[[str], object] = lambda _line: None
) -> Figures:
    """Fill a session of an encrypted SQLite file, and change its owner's key.

    Args:
        rows: Messages.
        kills: Processes that begin a change and are killed at a random moment.
        seed: Of chance.
        progress: Called with a line now and then.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = f"sqlite:///{folder / 'm.db'}"
        expected = [f"Message {number}." for number in range(rows)]
        with _opened(url, folder) as memory:
            session = memory.session(_SESSION, owner=_OWNER)
            for start in range(0, rows, _TOGETHER):
                session.add(*map(user, expected[start : start + _TOGETHER]))
        lost = 0
        for number in range(kills):
            _kill(url, folder, random.Random(seed + number))  # noqa: S311 - chance here guards nothing
            lost += _missing(url, folder, expected)
            progress(f"{number + 1} killed")
        reads: list[float] = []
        writes: list[float] = []
        errors: list[str] = []
        stop = threading.Event()
        with _opened(url, folder) as memory, _opened(url, folder) as reader, _opened(url, folder) as writer:
            read, write = (one.session(_SESSION, owner=_OWNER) for one in (reader, writer))
            jobs = (
                (lambda: read.history(after=len(reads) % rows, limit=_PAGE), reads),
                (lambda: write.add(f"Served {len(writes)}."), writes),
            )
            threads = [threading.Thread(target=_serve, args=(*job, stop, errors)) for job in jobs]
            for thread in threads:
                thread.start()
            started = time.perf_counter()
            done = memory.rotate_key(owner=_OWNER)
            seconds = time.perf_counter() - started
            stop.set()
            for thread in threads:
                thread.join()
        expected += [f"Served {number}." for number in range(len(writes))]
        lost += _missing(url, folder, expected)
        left = len(FolderKeyRing(folder / "keys").ids(_OWNER)) - 1
        return Figures(
            rows=done.rows,
            seconds=seconds,
            reads=len(reads),
            read_p99_ms=_p99(reads),
            writes=len(writes),
            write_p99_ms=_p99(writes),
            errors=len(errors),
            kills=kills,
            lost=lost,
            old=left,
        )


def to_markdown(found: Figures) -> str:
    """The figures as a table."""
    lines = ["| | |", "|---|---:|"]
    lines.append(f"| rows sealed anew | {found.rows:,} in {found.seconds:.1f} s |")
    lines.append(f"| reads of {_PAGE} messages meanwhile | {found.reads:,}, 99 % within {found.read_p99_ms:.0f} ms |")
    lines.append(f"| turns written meanwhile | {found.writes:,}, 99 % within {found.write_p99_ms:.0f} ms |")
    lines.append(f"| calls that failed | {found.errors} |")
    lines.append(f"| changes killed on the way | {found.kills} |")
    lines.append(f"| messages lost or changed | {found.lost} |")
    lines.append(f"| old keys left | {found.old} |")
    return "\n".join(lines)


def _opened(url: str, folder: Path) -> Memory:
    return Memory.open(url, encryption=FolderKeyRing(folder / "keys"))


def _kill(url: str, folder: Path, chance: random.Random) -> None:
    """Begin a change in another process, and kill it once it has sealed something."""
    command = [sys.executable, "-m", "langmem_plugin.cli", "rotate", "--database", url, "--keys", str(folder / "keys")]
    process = subprocess.Popen([*command, "--owner", _OWNER], stderr=subprocess.PIPE)  # noqa: S603 - our own command
    if process.stderr is not None:
        process.stderr.readline()
        time.sleep(chance.uniform(0.0, 0.1))
    process.kill()
    process.communicate()


def _missing(url: str, folder: Path, expected: list[str]) -> int:
    with _opened(url, folder) as memory:
        found = [entry.message.text for entry in memory.session(_SESSION, owner=_OWNER).history()]
    return sum(one != other for one, other in zip(found, expected, strict=False)) + abs(len(found) - len(expected))


def _serve(call: Callable[[], object], times: list[float], stop: threading.Event, errors: list[str]) -> None:
    while not stop.is_set():
        started = time.perf_counter()
        try:
            call()
        except LangmemPluginError as error:
            errors.append(type(error).__name__)
        times.append((time.perf_counter() - started) * 1_000)


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0
