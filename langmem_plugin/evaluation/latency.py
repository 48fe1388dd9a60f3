"""How long recall takes, apart from the question's embedding, by length of session and beside other people's data."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np

from langmem_plugin.evaluation.overhead import said
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant, user
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.records import SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.bulk import insert_many
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sql import SqlStore
from langmem_plugin.store.sql_commit import posting_rows
from langmem_plugin.store.sql_sessions import begin_session

_AT_ONCE: Final = 500
"""Messages of one transaction while sessions are filled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Recall over one session; milliseconds."""

    messages: int
    others: int
    """Messages of other owners in the same database."""
    p50_ms: float
    p95_ms: float
    cpu_p50_ms: float
    """Processor time of the asking thread alone: what is left on a machine that is busy with other work."""
    cpu_p95_ms: float
    add_p50_ms: float
    """Adding one message in a transaction of its own, on the disk when it returns."""
    index_p50_ms: float
    """Of that, the keyword index: finding the message's terms and writing its postings."""


def measure(
    lengths: Sequence[int] = (1_000, 10_000, 100_000),
    *,
    others: int = 100,
    each: int = 1_000,
    rounds: int = 100,
    progress: Callable[[str], None] | None = None,
) -> list[Latency]:
    """Time questions to sessions of these lengths, alone in a SQLite file and then among other owners' sessions.

    Messages and questions have 8 to 40 made-up words by Zipf's law. There is no embedder: the
    keyword leg, the ranking and reading what was found are timed. The first ten questions to
    a session are not counted.

    Args:
        lengths: Messages of the sessions that are asked.
        others: Sessions of other owners.
        each: Messages of each of those.
        rounds: Questions that are timed.
        progress: Called with a line now and then.
    """
    chance = random.Random(11)  # noqa: S311 - the same messages each time
    found: list[Latency] = []
    with tempfile.TemporaryDirectory() as folder, Memory.open(f"sqlite:///{folder}/l.db") as memory:
        for length in lengths:
            _fill(memory, f"of {length}", "asked", length, chance)
            if progress:
                progress(f"a session of {length} messages")
        beside = 0
        for stage in (0, others):
            for number in range(stage):
                _fill(memory, f"rest {number}", f"owner {number}", each, chance)
                if progress and number % 20 == 19:
                    progress(f"{number + 1} of {others} other sessions")
            beside += stage * each
            if stage or not found:
                found += [_timed(memory, length, beside, rounds, chance) for length in lengths]
    return found


def to_markdown(rows: Sequence[Latency]) -> str:
    """The figures as a table."""
    lines = [
        "| messages | of others | recall p50, ms | p95, ms | processor p50, ms | p95, ms | add, ms | index, ms |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.messages:,} | {row.others:,} | {row.p50_ms:.1f} | {row.p95_ms:.1f} "
        f"| {row.cpu_p50_ms:.1f} | {row.cpu_p95_ms:.1f} | {row.add_p50_ms:.1f} | {row.index_p50_ms:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


def _fill(memory: Memory, session: str, owner: str, count: int, chance: random.Random) -> None:
    into = memory.session(session, owner=owner)
    for start in range(0, count, _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, count))
        into.add(*(said(chance) if place % 2 == 0 else assistant(said(chance)) for place in some))


def _timed(memory: Memory, length: int, others: int, rounds: int, chance: random.Random) -> Latency:
    session = memory.session(f"of {length}", owner="asked")
    asked, worked, added = [], [], []
    for number in range(rounds + 10):
        question = said(chance) + "?"
        started, working = time.perf_counter(), time.thread_time()
        session.recall(question)
        if number >= 10:
            worked.append(1_000 * (time.thread_time() - working))
            asked.append(1_000 * (time.perf_counter() - started))
    for _ in range(min(rounds, 50)):
        message = said(chance)
        started = time.perf_counter()
        session.add(message)
        added.append(1_000 * (time.perf_counter() - started))
    p50, p95 = np.percentile(asked, [50, 95]).tolist()
    cpu_p50, cpu_p95 = np.percentile(worked, [50, 95]).tolist()
    return Latency(
        messages=length,
        others=others,
        p50_ms=p50,
        p95_ms=p95,
        cpu_p50_ms=cpu_p50,
        cpu_p95_ms=cpu_p95,
        add_p50_ms=float(np.median(added)),
        index_p50_ms=float(np.median([_indexed(memory, SessionKey("asked", session.id), chance) for _ in added])),
    )


def _indexed(memory: Memory, key: SessionKey, chance: random.Random) -> float:
    """Milliseconds that the keyword index takes of adding a message; nothing is kept."""
    store = memory._store  # noqa: SLF001 - a part of a call is timed
    if not isinstance(store, SqlStore):
        raise TypeError("the index is timed in a SQLite file")
    message = user(said(chance))
    started = time.perf_counter()
    terms = message_terms(message)
    took = time.perf_counter() - started
    with suppress(_Enough), store.database.write() as connection:
        row = begin_session(connection, key, utc_now())
        started = time.perf_counter()
        insert_many(connection, schema.postings, posting_rows(row["id"], (terms,), row["last_seq"] + 1))
        took += time.perf_counter() - started
        raise _Enough
    return 1_000 * took


class _Enough(Exception):
    """Ends a transaction that is not wanted."""
