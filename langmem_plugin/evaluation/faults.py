"""Processes killed, crowded and doubled on one store: how much of what was acknowledged is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from langmem_plugin.testing.soak import Verdict, crowd, kill_writers


def measure(
    *,
    url: str | None,
    kills: int,
    kills_with_vectors: int,
    controls: int,
    processes: int,
    threads: int,
    turns: int,
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
            note(f"{kills} writers killed", kill_writers(at("kills"), kills))
        if kills_with_vectors:
            verdict = kill_writers(at("vectors"), kills_with_vectors, seed=1, vectors=True)
            note(f"{kills_with_vectors} writers killed, embedding into Chroma", verdict)
        if controls:
            verdict = kill_writers(at("controls"), controls, seed=2, half=True)
            note(f"control, must fail: {controls} writers killed that write a turn in two", verdict)
        if processes and threads:
            verdict, figures = crowd(at("crowd"), processes=processes, threads=threads, turns=turns)
            note(f"{processes} processes of {threads} threads", verdict, figures=figures)
    return found


def to_markdown(found: dict[str, Any]) -> str:
    """The verdicts as a table, then the times."""
    columns = list(Verdict.__slots__)
    lines = [f"| trial | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{one[column]:,}' for column in columns)} |" for name, one in found.items()]
    for name, one in found.items():
        if "figures" in one:
            lines += ["", f"{name}: " + ", ".join(f"{what} {value:,.1f}" for what, value in one["figures"].items())]
    return "\n".join(lines)
