"""Sessions end when their time is over and are swept with receipts; lists say who has what."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from langmem_plugin import Memory, MemoryConfig, erasure
from langmem_plugin.cli import main
from langmem_plugin.erasure import digest_of
from langmem_plugin.errors import InvalidSetting, StoreClosed, VectorsLocked
from langmem_plugin.messages import assistant
from langmem_plugin.projections.vector_folder import VectorFolder


class Letters:
    """Embeds by the letters of a text; every text has another vector."""

    name = "letters"

    def embed(self, texts):
        rows = np.tile(np.sin(np.arange(64, dtype=np.float32)), (len(texts), 1))
        for row, text in zip(rows, texts, strict=True):
            for place, letter in enumerate(text):
                row[ord(letter) % 64] += 1 + place / 100
        return rows


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'memory.db'}"


@pytest.fixture
def now():
    return [datetime(2026, 1, 1, tzinfo=UTC)]


def bytes_below(folder):
    return b"\0".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


def test_a_sweep_of_many_sessions_rebuilds_and_scans_once(url, tmp_path, now, monkeypatch):
    """G11: 23 sessions are forgotten with one receipt, one rebuild of the index, no byte left; the rest is whole."""
    monkeypatch.setattr(erasure, "_AT_ONCE", 10)
    told = []
    with Memory.open(url, embedder=Letters(), clock=lambda: now[0]) as memory:
        for number in range(26):
            ttl = timedelta(hours=1) if number % 12 else None
            memory.session(f"s{number}", owner="ann", ttl=ttl).add(f"My phrase is {number:05d}-zebra-{number:05d}.")
        assert memory.wait(60)
        vectors = memory._store.vectors(memory.session("s1", owner="ann")._key, "letters")[1]
        assert memory._vectors.wait(60)
        rebuilds = memory._vectors.status()["rebuilds"]
        now[0] += timedelta(hours=2)
        (receipt,) = memory.sweep(progress=told.append)
        assert told == [10, 20, 23]
        assert (receipt.complete, receipt.counts["sessions"], len(receipt.versions)) == (True, 23, 23)
        assert digest_of("My phrase is 00001-zebra-00001.", receipt.salt) in receipt.digests
        assert memory._vectors.wait(60)
        assert memory._vectors.status()["rebuilds"] == rebuilds + 1
        files = bytes_below(tmp_path)
        assert b"00001-zebra" not in files
        assert vectors[0].tobytes()[:32] not in files
        assert b"00024-zebra" in files
        assert len(memory.sessions(owner="ann")) == 3
        assert memory.session("s24", owner="ann").recall("zebra")[0].entry.seq == 1


def test_a_session_that_began_anew_leaves_no_old_vector(url, tmp_path, now):
    """A write to a session that is over deletes its rows; the next sweep takes its vectors out of the index."""
    with Memory.open(url, embedder=Letters(), clock=lambda: now[0]) as memory:
        session = memory.session("s", owner="ann", ttl=60)
        session.add("The old phrase is walrus-walrus-walrus.")
        assert memory.wait(60)
        assert memory._vectors.wait(60)
        old = memory._store.vectors(session._key, "letters")[1][0].tobytes()
        now[0] += timedelta(minutes=2)
        session.add("Good morning.", "And a new phrase.")
        assert memory.wait(60)
        assert [hit.entry.message.text for hit in session.recall("walrus")] == []
        assert memory.sweep() == ()
        assert memory._vectors.wait(60)
        files = bytes_below(tmp_path)
        assert b"walrus" not in files
        assert old[:32] not in files


def test_a_time_to_live_of_every_session(url, now):
    """`MemoryConfig.ttl_s` is for sessions that begin; one of its own takes precedence, and stays with the session."""
    with Memory.open(url, clock=lambda: now[0]) as memory:
        memory.session("before", owner="ann").add("Hello.")
    config = MemoryConfig(ttl_s=60.0)
    with Memory.open(url, config=config, clock=lambda: now[0]) as memory:
        memory.session("before", owner="ann").add("Hello again.")
        memory.session("plain", owner="ann").add("Hello.")
        memory.session("own", owner="ann", ttl=timedelta(days=1)).add("Hello.")
        memory.session("own", owner="ann").fork("branch")
    with Memory.open(url, clock=lambda: now[0]) as memory:
        ttls = {info.session: info.ttl for info in memory.list_sessions(owner="ann")}
        day = timedelta(days=1)
        assert ttls == {"before": None, "plain": timedelta(minutes=1), "own": day, "branch": day}
        now[0] += timedelta(minutes=2)
        assert memory.sessions(owner="ann") == ["before", "own", "branch"]


def test_what_is_made_behind_does_not_prolong(url, now):
    """Summaries, vectors and reading leave the end where it was; opening with the same time does, too."""
    config = MemoryConfig.preset("customer_support").model_copy(update={"ttl_s": 3_600.0})
    with Memory.open(url, config=config, embedder=Letters(), clock=lambda: now[0]) as memory:
        session = memory.session("s", owner="ann")
        for number in range(30):
            session.add(f"Topic {number}: " + "and so on " * 60, assistant("Yes. " * 100))
        end = session.expires_at
        now[0] += timedelta(minutes=10)
        assert session.context("Hm?").report.tokens_used
        assert memory.wait(60)
        assert memory._store.summaries(session._key)[1] is not None
        memory.session("s", owner="ann", ttl=3_600).recall("topic 3")
        session.forget(1)
        assert session.expires_at == end
        session.set_ttl(7_200)
        assert session.expires_at == now[0] + timedelta(hours=2)


def test_imported_sessions_live_from_now_on(url, now):
    """Old messages that are moved into a memory with a time to live are there."""
    with Memory.open(clock=lambda: now[0]) as old:
        old.session("s", owner="ann").add("Hello.", assistant("Hi."))
        lines = list(old.export_lines())
    now[0] += timedelta(days=400)
    with Memory.open(url, config=MemoryConfig(ttl_s=60.0), clock=lambda: now[0]) as new:
        new.import_lines(lines)
        assert len(new.session("s", owner="ann").history()) == 2
        assert new.session("s", owner="ann").expires_at == now[0] + timedelta(minutes=1)


def test_a_sweep_claims_the_index_before_it_forgets(url, tmp_path, now):
    """While another process has the index open nothing is forgotten; where nothing is over it is not even asked."""
    with Memory.open(url, clock=lambda: now[0]) as memory:
        (tmp_path / "memory.db.vectors").mkdir()
        session = memory.session("s", owner="ann", ttl=60)
        session.add("Hello.")
        folder = VectorFolder(tmp_path / "memory.db.vectors")
        try:
            assert memory.sweep() == ()
            now[0] += timedelta(hours=1)
            with pytest.raises(VectorsLocked):
                memory.sweep()
        finally:
            folder.release()
        assert memory.sweep()[0].counts["messages"] == 1


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, True, "1h", timedelta(0), timedelta.max, 1e300])
def test_times_that_cannot_be_are_refused(ttl):
    """Only a timedelta or a number of seconds, more than 0 and at most a hundred years; nothing is written."""
    with Memory.open() as memory:
        with pytest.raises(InvalidSetting, match="ttl"):
            memory.session("s", owner="ann", ttl=ttl)
        assert memory.sessions(owner="ann") == []
    if isinstance(ttl, (int, float)):
        with pytest.raises(InvalidSetting, match="ttl_s"):
            MemoryConfig(ttl_s=ttl)


@pytest.mark.parametrize(
    "query",
    [
        {"owner": ""},
        {"owner": 7},
        {"prefix": "\ud800"},
        {"order": "size"},
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - what is refused
        {"until": "yesterday"},
        {"limit": -1},
        {"offset": 1.5},
    ],
)
def test_lists_refuse_what_cannot_be(query):
    """A bad owner, prefix, order, time or page is a typed error."""
    with Memory.open() as memory, pytest.raises(InvalidSetting):
        memory.list_sessions(**query)


def test_a_closed_memory_lists_and_sweeps_nothing():
    """After close every call of these is StoreClosed."""
    memory = Memory.open()
    session = memory.session("s", owner="ann")
    memory.close()
    for call in (memory.sweep, memory.owners, memory.list_sessions, lambda: session.info, lambda: session.set_ttl(9)):
        with pytest.raises(StoreClosed):
            call()


def test_the_commands_list_and_sweep(url, tmp_path, capsys):
    """`sessions` shows owners or one's sessions, as a table or JSON; `sweep` forgets and prints receipts."""
    with Memory.open(url) as memory:
        memory.session("trip\x1b[31m", owner="ann", ttl=0.000_001).add("Hello.")
        memory.session("work", owner="bob").add("Hello.", assistant("Hi."))
    assert main(["sessions", url]) == 0
    out = capsys.readouterr().out
    assert "bob" in out
    assert "ann" not in out  # its time is over
    assert main(["sessions", url, "--owner", "bob", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["session"], row["messages"], row["expires_at"]) == ("work", 2, None)
    assert main(["sweep", url, "--receipts", str(tmp_path / "receipts.jsonl")]) == 0
    captured = capsys.readouterr()
    assert "1 sessions" in captured.err
    assert "forgot 1 messages" in captured.out or "1 sessions" in captured.out
    assert json.loads((tmp_path / "receipts.jsonl").read_text())["complete"]
    assert main(["sweep", url]) == 0
    assert "no session's time is over" in capsys.readouterr().out
    assert main(["sessions", url, "--limit", "-1"]) == 1
