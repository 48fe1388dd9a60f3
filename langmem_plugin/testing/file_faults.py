"""A store while file operations beneath SQLite go wrong, and after the power is cut (guarantees G4 to G6).

A small C library, compiled for the trial and preloaded, stands between SQLite and the disk. `measure`
starts a process of its own for that; Linux with a C compiler only.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sqlalchemy import event

from langmem_plugin.errors import InvalidSetting, LangmemPluginError
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.testing.soak import OWNER, Verdict, judge, warm, write_turn

_NAME = "faulty.db"
_SECTOR = 512
_TURNS = 4
_RETRIED_TURNS = 10
_PATIENCE = 300
"""Tries of one turn."""

_KINDS = {"fail": 1, "full": 2, "torn": 3, "crash": 4, "torn crash": 5, "power cut": 4}
_PASSING = ("fail", "full", "torn")
"""Those after which the process goes on: each trial has many."""
_ROUND = (*_PASSING, *(("crash", "torn crash", "power cut", "power cut") * 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One process's life, or what stands for it."""

    kind: str
    seed: int
    control: str = ""


def measure(faults: int, *, control: str = "", seed: int = 0) -> tuple[Verdict, dict[str, int]]:
    """Let at least so many file operations of a writing process go wrong, of every kind in turn.

    Args:
        faults: How many.
        control: "synchronous off" or "turn in two": trials that must fail.
        seed: Of what goes wrong when.

    Returns:
        The verdict, and how many operations went wrong, by kind.

    Raises:
        InvalidSetting: There is no C compiler, or this is not Linux.
    """
    compiler = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if compiler is None or sys.platform != "linux":
        raise InvalidSetting("file_operations", faults, "needs Linux and a C compiler (cc); or leave it at 0")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faults.so"
        source = resources.files("langmem_plugin.testing") / "file_faults.c"
        with resources.as_file(source) as code:
            command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(code), "-ldl", "-lpthread"]
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - the compiler, our own file
        arguments = json.dumps({"faults": faults, "control": control, "seed": seed, "folder": folder})
        done = subprocess.run(  # noqa: S603 - this interpreter, this module
            [sys.executable, "-m", "langmem_plugin.testing.file_faults", arguments],
            check=True,
            stdout=subprocess.PIPE,
            env={**os.environ, "LD_PRELOAD": str(library)},
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Verdict(**{name: int(found["total"].get(name, 0)) for name in Verdict.__slots__}), found["kinds"]


def _run(faults: int, control: str, seed: int, folder: Path) -> dict[str, Any]:
    """All trials, in the process that the library is preloaded into."""
    logging.disable(logging.CRITICAL)
    warm()
    template = folder / "template" / _NAME
    Memory.open(f"sqlite:///{template}").close()
    kinds: Counter[str] = Counter()
    total: Counter[str] = Counter()
    number = seed * 1_000_003
    wanted = {"": _ROUND, "synchronous off": ("power cut",), "turn in two": ("crash",)}[control]
    while sum(kinds.values()) < faults:
        trial = _Trial(kind=wanted[number % len(wanted)], seed=number, control=control)
        home = folder / "trial"
        home.mkdir()
        shutil.copy(template, home / _NAME)
        hits, found = (_passing if trial.kind in _PASSING else _ending)(trial, home)
        kinds[trial.kind] += hits
        total.update(found)
        shutil.rmtree(home)
        number += 1
    return {"total": total, "kinds": kinds}


def _passing(trial: _Trial, home: Path) -> tuple[int, dict[str, int]]:
    """Operations fail again and again; what raises is tried again with the same turn id."""
    rng = random.Random(trial.seed)
    library = _library()
    library.fault_watch(str(home / _NAME).encode(), b"")
    errors: list[str] = []
    acknowledged: dict[str, list[int]] = {}
    # A full disk stays full for a while; each other fault passes.
    again = 1 if trial.kind == "full" else rng.randint(40, 150)
    with _opened(trial, home, errors) as memory:
        library.fault_arm(_KINDS[trial.kind], rng.randint(1, 60), again)

        def work(name: str) -> None:
            done = acknowledged.setdefault(name, [])
            for number in range(_RETRIED_TURNS):
                for attempt in range(_PATIENCE):
                    try:
                        session = memory.session(name, owner=OWNER)
                        write_turn(session, name, number, stream=bool(number % 2))
                    except LangmemPluginError:
                        if attempt % 3 == 2:  # room for a while; and at even distances one may hit every attempt
                            library.fault_arm(_KINDS[trial.kind], rng.randint(30, 300), again)
                        continue
                    except BaseException as error:  # noqa: BLE001 - counted
                        errors.append(repr(error))
                        return
                    done.append(number)
                    break
                else:
                    errors.append("patience is over")

        _in_threads(work, trial)
        library.fault_arm(0, 0, 0)
    hits = library.fault_hits()
    library.fault_watch(b"", b"")
    return hits, _verified(home, acknowledged, errors)


def _ending(trial: _Trial, home: Path) -> tuple[int, dict[str, int]]:
    """The process ends at one operation; what is on the disk then is opened by the next."""
    rng = random.Random(trial.seed)
    library = _library()
    undo = home / "undo"
    library.fault_watch(str(home / _NAME).encode(), bytes(undo) if trial.kind == "power cut" else b"")
    errors: list[str] = []
    acknowledged: dict[str, list[int]] = {}
    library.fault_arm(_KINDS[trial.kind], rng.randint(1, _operations(trial)), 0)
    with suppress(LangmemPluginError), _opened(trial, home, errors) as memory:

        def work(name: str) -> None:
            done = acknowledged.setdefault(name, [])
            for number in range(_TURNS):
                try:
                    session = memory.session(name, owner=OWNER)
                    if trial.control == "turn in two":
                        session.add(f"Question {number} of {name}?", turn_id=f"{name}/{number}")
                        session.add(assistant(f"Answer {number} to {name}."), turn_id=f"{name}/{number}b")
                    else:
                        write_turn(session, name, number, stream=bool(number % 2))
                except LangmemPluginError:
                    return
                except BaseException as error:  # noqa: BLE001 - counted
                    errors.append(repr(error))
                    return
                done.append(number)

        _in_threads(work, trial)
        library.fault_arm(_KINDS["crash"], 1, 0)  # if it was not reached: the process ends here
        with suppress(LangmemPluginError):
            memory.session("end", owner=OWNER).add("This is not acknowledged.")
        # Left as it is: what closing would write comes after the end.
    hits = library.fault_hits()
    after = home / "after"
    after.mkdir()
    library.fault_watch(b"", b"")
    for name in (_NAME, f"{_NAME}-wal"):
        if (home / name).is_file():
            shutil.copy(home / name, after / name)
    if trial.kind == "power cut":
        _lose(undo, after, rng)
    return hits, _verified(after, acknowledged, errors)


def _operations(trial: _Trial) -> int:
    """About how many operations a trial has; past the last one the process ends as well."""
    return 110 if trial.control or trial.seed % 3 else 200


def _in_threads(work: Any, trial: _Trial) -> None:
    names = [f"{trial.kind} {trial.seed} {number}" for number in range(2 if trial.seed % 3 == 0 else 1)]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _opened(trial: _Trial, home: Path, errors: list[str]) -> Iterator[Memory]:
    """A memory on the trial's file; half of the trials move the log into the file often."""
    library = _library()
    memory = None
    for _ in range(_PATIENCE):
        try:
            memory = Memory.open(f"sqlite:///{home / _NAME}")
            break
        except LangmemPluginError:
            if library.fault_frozen():
                raise
    if memory is None:
        errors.append("cannot be opened")
        raise LangmemPluginError
    engine = _database(memory)._engine  # noqa: SLF001 - the trial's own settings
    pragmas = ["wal_autocheckpoint=20"] if trial.seed % 2 else []
    pragmas += ["synchronous=OFF"] if trial.control == "synchronous off" else []
    if pragmas:

        def settle(connection: Any, _record: object) -> None:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")

        event.listen(engine, "connect", settle)
        engine.dispose()
    try:
        yield memory
    finally:
        with suppress(LangmemPluginError):
            memory.close()


def _database(memory: Memory) -> SqlDatabase:
    place = memory._store.database  # noqa: SLF001 - the file itself is asked
    if not isinstance(place, SqlDatabase):
        raise TypeError(place)
    return place


def _verified(home: Path, acknowledged: dict[str, list[int]], errors: list[str]) -> Counter[str]:
    total: Counter[str] = Counter(errors=len(errors))
    try:
        with Memory.open(f"sqlite:///{home / _NAME}") as memory:
            with _database(memory).read() as connection:
                total["errors"] += connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok"
            for name, numbers in acknowledged.items():
                session = memory.session(name, owner=OWNER)
                total.update(judge(session.history(), {name: numbers}))
                session.add("It goes on.", assistant("It does."))
    except LangmemPluginError:
        total["errors"] += 1
        total["lost"] += sum(map(len, acknowledged.values()))
    return total


_HEAD = struct.Struct("<QQQQQ")


def _lose(undo: Path, after: Path, rng: random.Random) -> None:
    """Take back some of what was written and not synced: all, all from some moment on, or any sectors."""
    unsynced: dict[str, list[tuple[int, bytes]]] = {}
    data = undo.read_bytes()
    place = 0
    while place < len(data):
        kind, path_size, offset, size, _ = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        path = data[place : place + path_size].decode()
        place += path_size
        if kind == ord("s"):
            unsynced.pop(path, None)
        elif kind == ord("w"):
            unsynced.setdefault(path, []).append((offset, data[place : place + size]))
            place += size
    how = rng.choice(("all", "moment", "sectors"))
    for path, writes in unsynced.items():
        target = after / Path(path).name
        if not target.is_file() or path.endswith("-shm"):
            continue
        moment = 0 if how == "all" else rng.randint(0, len(writes))
        kept: dict[int, int] = {}
        """How many of its writes each sector has seen."""
        with target.open("r+b") as file:
            for number in reversed(range(len(writes))):
                offset, old = writes[number]
                for start in range(offset - offset % _SECTOR, offset + len(old), _SECTOR):
                    upto = kept.setdefault(start, rng.randint(0, len(writes))) if how == "sectors" else moment
                    if number >= upto:
                        first, last = max(start, offset), min(start + _SECTOR, offset + len(old))
                        file.seek(first)
                        file.write(old[first - offset : last - offset])


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.fault_watch.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    library.fault_arm.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_long)
    library.fault_hits.restype = ctypes.c_long
    return library


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(_run(given["faults"], given["control"], given["seed"], Path(given["folder"]))))
