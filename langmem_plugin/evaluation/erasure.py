"""Owners forgotten among others: how many of their byte strings are left in any file."""

from __future__ import annotations

import random
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.testing.soak import Letters


def measure(*, owners: int, erased: int, progress: Callable[[str], object]) -> dict[str, Any]:
    """Fill a SQLite file and a Chroma folder, forget some owners, and look for every word of theirs.

    The search is the plainest: each name and each word, made up for its owner alone, in the
    bytes of every file, before and after.
    """
    rng = random.Random(1)  # noqa: S311 - guards nothing
    words = {f"owner{_word(rng)}": [_word(rng) for _ in range(8)] for _ in range(owners)}
    gone = rng.sample(sorted(words), erased)
    with tempfile.TemporaryDirectory() as folder:
        with Memory.open(f"sqlite:///{folder}/memory.db", embedder=Letters()) as memory:
            for owner, said in words.items():
                session = memory.session("s", owner=owner)
                session.add(f"My words are {' '.join(said[:4])}, never use them.", assistant(" ".join(said[4:])))
            memory.wait(600)
            progress("filled")
            before = _left(folder, gone, words)
            began = time.perf_counter()
            receipts = [memory.forget(owner=owner) for owner in gone]
            taken = time.perf_counter() - began
            progress("forgotten")
            memory.status()
        after = _left(folder, gone, words)
        kept = _left(folder, sorted(set(words) - set(gone)), words)
    return {
        "owners": owners,
        "erased": erased,
        "strings of theirs": 9 * erased,
        "found before": before,
        "found after": after,
        "strings of others": 9 * (owners - erased),
        "found of others after": kept,
        "receipts complete": sum(receipt.complete for receipt in receipts),
        "seconds a forgetting": taken / max(1, erased),
    }


def to_markdown(found: dict[str, Any]) -> str:
    """One row a figure."""
    rows = [f"| {name} | {value:,.2f} |" if isinstance(value, float) else f"| {name} | {value:,} |"
            for name, value in found.items()]  # fmt: skip
    return "\n".join(["| | |", "|---|---:|", *rows])


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=12))


def _left(folder: str, owners: list[str], words: dict[str, list[str]]) -> int:
    data = b"\0".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
    return sum(one.encode() in data for owner in owners for one in (owner, *words[owner]))
