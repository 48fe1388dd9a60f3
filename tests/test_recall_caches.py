"""What recall keeps between queries never changes an answer."""

import random
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from langmem_plugin import Memory, MemoryConfig
from langmem_plugin.config import Budget, RecallConfig
from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.evaluation.overhead import said
from langmem_plugin.messages import assistant, user
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.recall.terms import analyse
from langmem_plugin.recall.traits import ASKS, TraitCache
from langmem_plugin.records import Entry, SessionKey
from langmem_plugin.store import posting_cache
from langmem_plugin.store.posting_cache import by_what_was_read
from langmem_plugin.store.protocol import Postings, Staged, TurnWrite
from langmem_plugin.store.sql import SqlStore
from langmem_plugin.store.sql_derived import _read_postings
from langmem_plugin.store.sql_sessions import session_row

NOW = datetime(2026, 5, 1, tzinfo=UTC)
KEY = SessionKey("ann", "s")


def test_a_warm_cache_answers_as_a_cold_one(tmp_path):
    """While messages come in and queries vary, a recaller that was asked before gives what a new one gives."""
    chance = random.Random(5)
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with Memory.open(url) as memory:
        session = memory.session(KEY.session, owner=KEY.owner)
        store = SqlStore(url)
        warm = Recaller(store, RecallConfig())
        for turn in range(40):
            session.add(said(chance), assistant(said(chance) + "?"))
            if turn % 4 == 0:
                query = said(chance)
                fresh = SqlStore(url)
                assert warm.recall(KEY, query, now=NOW) == Recaller(fresh, RecallConfig()).recall(KEY, query, now=NOW)
                fresh.close()
        store.close()


def test_a_session_begun_anew_is_read_anew():
    """Traits of a forgotten generation are not used for the next one's messages."""
    cache = TraitCache()
    seqs = np.array([1, 2, 9])

    def entries(text):
        return lambda wanted: [
            Entry(seq=seq, turn="t", message=user(text), tokens=1, created_at=NOW) for seq in wanted if seq < 3
        ]

    assert cache.of(KEY, (1,), seqs, entries("Why?")).has(ASKS).tolist() == [1, 1, 0]
    assert cache.of(KEY, (1,), seqs, entries("So.")).has(ASKS).tolist() == [1, 1, 0]
    assert cache.of(KEY, (2,), seqs, entries("So.")).has(ASKS).tolist() == [0, 0, 0]
    assert cache.of(KEY, (2,), seqs, entries("So.")).exist.tolist() == [True, True, False]


def test_the_least_recently_asked_sessions_leave_the_cache():
    """The cache holds about as many messages as it may, and answers for all sessions."""
    cache = TraitCache(max_messages=300)
    for name in "abcdefgh":
        key = SessionKey("ann", name)
        found = cache.of(
            key,
            (1,),
            np.array([90]),
            lambda wanted: [Entry(seq=90, turn="t", message=user("x?"), tokens=1, created_at=NOW)],
        )
        assert found.has(ASKS).tolist() == [1]
    assert sum(len(held.rows) for held in cache._held.values()) <= 300 + 128


def test_what_is_behind_is_read_in_few_reads():
    """Terms share a read while what it reads again is little: rare ones always, frequent ones read about as far."""

    def held(read_to, count):
        return read_to, Postings(np.arange(count), np.ones(count, np.int32), np.ones(count, np.int32))

    groups = by_what_was_read({"a": held(5, 2), "b": held(90, 3), "c": held(80, 500), "d": held(85, 100)})
    assert groups == {5: ["a"], 80: ["c", "d", "b"]}
    assert by_what_was_read({"a": held(5, 2), "b": held(90, 3)}) == {5: ["a", "b"]}
    assert by_what_was_read({"a": held(1, 500), "b": held(9_000, 500)}) == {1: ["a"], 9_000: ["b"]}
    assert by_what_was_read({}) == {}


def test_a_question_about_the_past_has_the_room_of_the_extract():
    """Whole messages take the place of shortened ones; the request says that earlier ones are not shown (G9)."""
    chance = random.Random(6)
    config = MemoryConfig(budget=Budget(max_tokens=1_000, completion=0))
    with Memory.open(config=config) as memory:
        session = memory.session("s", owner="ann")
        for _ in range(60):
            session.add("The code of the garage is " + said(chance), assistant(said(chance)))
        memory.wait()
        asked = session.context("What did I tell you about the code of the garage?")
        idle = session.context("Thanks, great!")
    assert asked.report.need > 0.9
    assert asked.report.tokens["recall"] > 500
    assert asked.report.tokens["summary"] < idle.report.tokens["summary"]
    assert "not shown" in asked.messages[0].text
    assert asked.report.tokens_used <= 1_000


def test_small_talk_reads_no_message(monkeypatch):
    """A message that does not ask for the past costs no read of what is past, and the report says so."""
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        for number in range(30):
            session.add(f"Good morning, this is greeting {number}.", assistant("Good morning to you."))
        session.context("Thanks!")
        read = []
        store = session._engine.store
        monkeypatch.setattr(
            store, "entries_at", lambda key, seqs, ask=store.entries_at: read.append(seqs) or ask(key, seqs)
        )
        report = session.context("Good morning.").report
    assert not read
    assert "nothing recalled: the message does not ask for the past" in report.notes


@pytest.mark.parametrize("place", ["sqlite:///{}/m.db", "sqlite://"])
def test_postings_follow_what_anybody_writes(tmp_path, place, monkeypatch):
    """A store that writes and asks gives the postings of one that was just opened, whoever else writes or forgets."""
    monkeypatch.setattr(posting_cache, "_RECENT_BYTES", 60_000)
    url = place.format(tmp_path)
    chance = random.Random(11)
    with Memory.open(url) as memory:
        store = memory._engine.store
        other = store if url == "sqlite://" else SqlStore(url)
        session = memory.session(KEY.session, owner=KEY.owner)
        for turn in range(200):
            session.add(said(chance), assistant(said(chance)))
            if turn % 7 == 3:  # a gap, if another one writes
                text = said(chance)
                one = Staged(message=user(text), tokens=9, counter="c", created_at=NOW)
                other.commit(KEY, f"t{turn}", TurnWrite(staged=(one,), terms=(message_terms(one.message),)), now=NOW)
            if turn % 50 == 20:
                store.erase_messages(KEY, [turn // 2 + 1], now=NOW)
            if turn % 9 == 0 or turn > 195:
                terms = analyse(said(chance))[: 2 + turn % 9]
                held = {term: found.seqs.tolist() for term, found in store.postings(KEY, terms).items()}
                with store.database.read() as connection:
                    row = session_row(connection, KEY)
                    read = _read_postings(connection, row["id"], terms, after=0)
                assert held == {term: rows[:, 0].tolist() for term, rows in read.items()}
        if other is not store:
            other.close()


def test_reads_together_see_one_state(tmp_path):
    """Within `reading` nothing written meanwhile is seen; a failed read ends it, and the next begins anew."""
    store = SqlStore(f"sqlite:///{tmp_path / 'm.db'}")

    def write(turn):
        one = Staged(message=user("hello"), tokens=9, counter="c", created_at=NOW)
        store.commit(KEY, turn, TurnWrite(staged=(one,), terms=({"hello": 1},)), now=NOW)

    write("a")
    with store.reading():
        before = store.head(KEY)
        write("b")
        with store.reading():
            assert store.head(KEY) == before
        assert len(store.entries(KEY)) == store.keyword_stats(KEY).documents == 1
        with pytest.raises(StoreUnavailable), store.database.read() as connection:
            connection.exec_driver_sql("SELECT nothing FROM nowhere")
        assert store.head(KEY).last_seq == len(store.entries(KEY)) == 2
        write("c")
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(store.head(KEY).last_seq))
        other.start()
        other.join()
        assert (store.head(KEY).last_seq, seen) == (2, [3])
    assert store.head(KEY).last_seq == 3
    store.close()
