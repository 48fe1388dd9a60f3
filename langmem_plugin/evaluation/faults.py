"""Processes killed, crowded and doubled on one store: how much of what was acknowledged is lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langmem_plugin.errors import MissingExtra
from langmem_plugin.testing import file_faults
from langmem_plugin.testing.servers import postgres_server
from langmem_plugin.testing.soak import Verdict, crowd, disturbed, kill_writers


def measure(
    *,
    url: str | None,
    kills: int,
    kills_with_vectors: int,
    controls: int,
    processes: int,
    threads: int,
    turns: int,
    restarts: int,
    file_operations: int,
    redis_restarts: int = 0,
    postgres: bool = False,
    seed: int = 0,
    progress: Callable[[str], object],
) -> dict[str, Any]:
    """Run the trials that have a number above 0, each on a database of its own unless `url` names one."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:

        def at(name: str) -> str:
            return url or f"sqlite:///{Path(folder) / name}.db"

        def note(name: str, verdict: Verdict, **more: object) -> None:
            found[name] = {**asdict(verdict), "passed": verdict.passed, **more}
            progress(name)

        if kills:
            note(f"{kills} writers killed", kill_writers(at("kills"), kills, seed=seed))
        if kills_with_vectors:
            verdict = kill_writers(at("vectors"), kills_with_vectors, seed=seed + 1, vectors=True)
            note(f"{kills_with_vectors} writers killed, embedding into Chroma", verdict)
        if controls:
            verdict = kill_writers(at("controls"), controls, seed=seed + 2, half=True)
            note(f"control, must fail: {controls} writers killed that write a turn in two", verdict)
        if processes and threads:
            addresses = _addresses(at("crowd"), Path(folder) / "pg-crowd" if postgres else None)
            _crowd(note, addresses, processes=processes, threads=threads, turns=turns)
        if file_operations:
            _fail_files(note, file_operations, seed)
        if restarts:
            verdict, worst = _restarted(Path(folder) / "pg", restarts)
            name = (
                f"PostgreSQL: {restarts // 2} immediate stops, {restarts - restarts // 2} times all connections killed"
            )
            note(name, verdict, figures={"longest write, seconds": worst})
        if redis_restarts:
            verdict, worst = _redis_killed(Path(folder) / "redis", redis_restarts)
            half = redis_restarts // 2
            name = f"Redis: killed {redis_restarts - half} times, all connections {half} times"
            note(name, verdict, figures={"longest write, seconds": worst})
    return found


def _crowd(
    note: Callable[..., None], addresses: Iterator[tuple[str, str]], *, processes: int, threads: int, turns: int
) -> None:
    for where, address in addresses:
        verdict, figures = crowd(address, processes=processes, threads=threads, turns=turns)
        note(f"{processes} processes of {threads} threads{where}", verdict, figures=figures)


def _addresses(url: str, server_in: Path | None) -> Iterator[tuple[str, str]]:
    """The database, and one of a PostgreSQL server of its own while it is used."""
    yield "", url
    if server_in is not None:
        with postgres_server(server_in) as server:
            yield ", PostgreSQL", server.get_uri()


def _fail_files(note: Callable[..., None], file_operations: int, seed: int) -> None:
    """File operations beneath SQLite that go wrong, and two controls."""
    verdict, kinds = file_faults.measure(file_operations, seed=seed)
    note(f"{sum(kinds.values())} file operations gone wrong", verdict, figures=kinds)
    for control in ("synchronous off", "turn in two"):
        verdict, kinds = file_faults.measure(max(20, file_operations // 100), control=control, seed=seed)
        note(f"control, must fail: {control}, {sum(kinds.values())} ends", verdict)


def _restarted(folder: Path, rounds: int) -> tuple[Verdict, float]:
    """Six writers on a server of their own that is stopped and started, or loses every connection."""
    with postgres_server(folder) as server:
        import psycopg

        return _disturbed(server, psycopg, rounds)


def _disturbed(server: Any, psycopg: Any, rounds: int) -> tuple[Verdict, float]:
    kinds = itertools.cycle(("kill", "stop"))

    def disturb() -> None:
        time.sleep(random.uniform(0.3, 1.5))  # noqa: S311 - any moment will do
        if next(kinds) == "kill":
            with psycopg.connect(server.get_uri()) as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'langmem-plugin'"
                )
            return
        pid = server.get_pid()
        os.kill(pid, signal.SIGQUIT)  # what `pg_ctl stop -m immediate` sends: no goodbye, recovery at the next start
        for _ in range(600):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                break
            time.sleep(0.05)
        server.ensure_postgres_running()

    return disturbed(server.get_uri(), disturb, rounds=rounds)


def _redis_killed(folder: Path, rounds: int) -> tuple[Verdict, float]:
    """Six writers on a server of their own, which syncs every write, while it is killed or loses every connection."""
    from langmem_plugin.testing.redis_server import RedisServer

    try:
        import redis
    except ImportError as error:
        raise MissingExtra("killing a Redis server", "redis", "redis") from error
    server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "always")
    kinds = itertools.cycle(("server", "connections"))

    def disturb() -> None:
        time.sleep(random.uniform(0.2, 0.6))  # noqa: S311 - any moment will do
        if next(kinds) == "server":
            server.kill()
            server.start()
            return
        with redis.Redis(port=server.port) as client:
            client.execute_command("CLIENT KILL TYPE normal")

    try:
        return disturbed(server.url(), disturb, rounds=rounds)
    finally:
        server.kill()


def to_markdown(found: dict[str, Any]) -> str:
    """The verdicts as a table, then the times."""
    columns = list(Verdict.__slots__)
    lines = [f"| trial | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{one[column]:,}' for column in columns)} |" for name, one in found.items()]
    for name, one in found.items():
        if "figures" in one:
            lines += ["", f"{name}: " + ", ".join(f"{what} {value:,.1f}" for what, value in one["figures"].items())]
    return "\n".join(lines)
