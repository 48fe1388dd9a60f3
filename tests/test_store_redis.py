"""The Redis store where Redis is not at its best: killed, restarted, out of memory, evicting, gone back in time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from langmem_plugin import Memory, MemoryConfig
from langmem_plugin.config import Budget
from langmem_plugin.errors import (
    InvalidSetting,
    LangmemPluginError,
    SchemaTooNew,
    StoreCorrupt,
    StoreLost,
    StoreUnavailable,
)
from langmem_plugin.messages import assistant
from langmem_plugin.store import redis_database, redis_transaction
from langmem_plugin.store.redis_store import RedisStore
from langmem_plugin.store.redis_url import parse_redis_url
from langmem_plugin.testing.redis_server import RedisServer
from langmem_plugin.testing.soak import Letters, disturbed
from langmem_plugin.testing.stores import said

redis = pytest.importorskip("redis")


def client_of(server):
    return redis.Redis(port=server.port)


@pytest.fixture
def client(redis_server):
    with client_of(redis_server) as client:
        yield client


@pytest.fixture
def own_server(tmp_path, redis_server):
    """Starts servers of this test alone, and ends them."""
    started = []

    def start(*settings):
        started.append(RedisServer(tmp_path / f"redis-{len(started)}", *settings))
        return started[-1]

    yield start
    for server in started:
        server.kill()


def key_of(memory, name, owner="ann"):
    database = memory._store.database
    return database.session_key(redis_database.SessionKey(owner, name))


# Away and back


def test_a_server_that_is_killed_under_load_loses_nothing(own_server):
    """Killed and started again, with an append-only file: no error reaches a caller, each turn is there once."""
    server = own_server("--appendonly", "yes", "--appendfsync", "always")

    def kill():
        time.sleep(0.15)
        server.kill()
        server.start()

    verdict, worst = disturbed(server.url(), kill, rounds=4, writers=3)
    assert verdict.passed, verdict
    assert verdict.acknowledged
    assert worst < redis_database._PATIENCE_S + 5


def test_a_server_that_is_away_is_a_typed_error_and_comes_back(own_server, monkeypatch):
    """Reads and writes raise StoreUnavailable while it is away, opening too; afterwards they go on."""
    monkeypatch.setattr(redis_database, "_PATIENCE_S", 0.2)
    server = own_server("--appendonly", "yes")
    url = server.url()
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.", assistant("Hi."))
        server.kill()
        for call in (session.history, lambda: session.add("Hello?"), lambda: session.context("?")):
            with pytest.raises(StoreUnavailable, match="retry"):
                call()
        with pytest.raises(StoreUnavailable):
            Memory.open(url)
        server.start()
        assert said(session) == ["Hello.", "Hi."]
        session.add("Hello?")


def test_a_server_that_comes_back_empty_is_noticed(own_server):
    """Nothing on disk and restarted: whoever had it open is told, and answers nothing."""
    server = own_server("--appendonly", "no")
    with Memory.open(server.url()) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.", assistant("Hi."))
        server.kill()
        server.start()
        for call in (session.history, lambda: session.add("Hello?"), lambda: session.context("?")):
            with pytest.raises(StoreLost, match="directory"):
                call()


def test_a_server_that_went_back_in_time_is_read_anew(own_server, caplog):
    """Restarted from an older snapshot: what it lost is in no context and no recall, and the log says so."""
    server = own_server("--appendonly", "no")
    with Memory.open(server.url()) as memory:
        session = memory.session("s", owner="ann")
        session.add("The code of the garage is 7714-B.", assistant("Noted."))
        with client_of(server) as client:
            client.save()
        session.add("The code of the cellar is quagga.", assistant("Noted."))
        session.add("So be it.", assistant("Yes."))
        assert "quagga" in str(session.context("What is the code of the cellar?").messages)
        server.kill()
        server.start()
        session.add("The code of the attic is 1234.", assistant("Noted."))
        seen = str((session.context("What is the code?").messages, session.recall("quagga cellar code")))
        assert "quagga" not in seen
        assert "1234" in seen
        assert len(session.history()) == 4
        assert "Redis lost versions" in caplog.text


def test_what_redis_cannot_promise_is_said_at_the_start(own_server, redis_server, caplog):
    """Without an append-only file, and with eviction, opening logs a warning; a server that syncs always has none."""
    with Memory.open(own_server("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru").url()):
        assert "appendonly" in caplog.text
        assert "evicts" in caplog.text
    caplog.clear()
    with Memory.open(own_server("--appendonly", "yes").url()):
        assert "appendfsync everysec" in caplog.text
    caplog.clear()
    with Memory.open(redis_server.url()):
        assert "Redis" not in caplog.text


# Eviction and expiry


def test_sessions_that_were_evicted_are_never_half_or_wrong(own_server, monkeypatch):
    """Under allkeys-lru each session is whole or a typed error; forgotten, it begins anew with a higher version."""
    server = own_server("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru", "--maxmemory-samples", "10")
    written = {}
    with Memory.open(server.url()) as memory:
        for number in range(120):
            owner, name = f"owner{number % 7}", f"s{number}"
            text = f"{owner} {name} " + "x" * 25_000
            try:
                memory.session(name, owner=owner).add("Hello.", assistant(text))
                written[owner, name] = text
            except StoreLost:
                memory.forget(owner=owner)
                written = {key: text for key, text in written.items() if key[0] != owner}
        lost = 0
        with Memory.open(server.url(prefix=memory.url.rpartition("=")[2])) as other:
            for (owner, name), text in written.items():
                try:
                    found = said(other.session(name, owner=owner))
                except StoreLost:
                    lost += 1
                else:
                    assert found == ["Hello.", text]
        assert 0 < lost < len(written)
        for owner, name in written:
            session = memory.session(name, owner=owner)
            try:
                session.history()
            except StoreLost:
                session.forget()
                assert session.history() == []
                assert session.add("Again.") > 1
                break


@pytest.mark.parametrize("what", ["session", "owner", "directory", "field"])
def test_what_is_missing_is_noticed_and_can_be_begun_anew(redis_url, client, what):
    """A key that was dropped, or a field of one, is StoreLost for reads and writes; forgetting begins anew."""
    with Memory.open(redis_url) as memory:
        session, other = memory.session("s", owner="ann"), memory.session("s", owner="bob")
        for one in (session, other):
            one.add("I never drink coffee.", assistant("Noted."))
        database = memory._store.database
        match what:
            case "session":
                client.delete(key_of(memory, "s"))
            case "owner":
                client.delete(database.owner_key("ann"))
            case "directory":
                client.delete(database.directory)
            case "field":
                client.hdel(key_of(memory, "s"), "m2")
        for call in (session.history, session.constraints, lambda: session.add("?"), lambda: session.context("?")):
            with pytest.raises(StoreLost):
                call()
        if what == "directory":
            with pytest.raises(StoreLost):
                Memory.open(redis_url)
            return
        assert len(other.history()) == 2
        if what == "owner":
            with pytest.raises(StoreLost):
                memory.sessions(owner="ann")
            memory.forget(owner="ann")
        else:
            assert memory.sessions(owner="ann") == ["s"]
            session.forget()
        assert (session.history(), session.constraints(all=True)) == ([], ())
        session.add("Hello.")
        assert said(session) == ["Hello."]


def test_lost_sessions_keep_no_work_behind_from_the_others(redis_url, client):
    """Summaries of eight sessions that were evicted are not tried again, and another session's is written."""
    with Memory.open(redis_url, config=MemoryConfig(budget=Budget(max_tokens=500, completion=0))) as memory:
        sessions = [memory.session(f"s{number}", owner="ann") for number in range(9)]
        for session in sessions:
            session.add("Hello.", assistant("Hi."))
        assert memory.wait(30)
        for session in sessions[:8]:
            client.delete(key_of(memory, session.id))
            memory._runner.note(session._key)
        for number in range(12):
            sessions[8].add(f"Topic {number} is gardens. " * 5, assistant("Yes."))
        assert memory.wait(30)
        assert all(work.queued == 0 and not work.failed for work in memory._runner.status().values())
        assert memory._store.summaries(sessions[8]._key)[1] is not None


def test_the_server_drops_sessions_whose_time_is_over(redis_url, client, monkeypatch):
    """The server drops what nobody swept, a day after its end; it reads as new before and after, and a sweep tells."""
    with Memory.open(redis_url, config=MemoryConfig(ttl_s=60.0)) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.")
        assert 86_400 < client.ttl(key_of(memory, "s")) <= 86_460
        session.set_ttl(None)
        assert client.ttl(key_of(memory, "s")) == -1
        monkeypatch.setattr(redis_transaction, "_GRACE_MS", 0)
        monkeypatch.setattr(redis_transaction, "_NAMED_MS", 0)
        session.set_ttl(2.0)
        session.add("I never drink coffee.", assistant("Noted."))
        session.add_constraint("Answer in French.", scope="owner")
        version = session.version
        time.sleep(2.1)
        assert not client.exists(key_of(memory, "s"))
        assert (session.history(), session.version, memory.sessions(owner="ann")) == ([], 0, [])
        assert [one.text for one in session.constraints()] == ["Answer in French."]
        assert session.add("Hello.") > version
        assert memory.session("t", owner="ann", ttl=0.3).add("Hello.")
        time.sleep(2.1)
        (receipt,) = memory.sweep()
        assert receipt.counts == {"sessions": 2}
        assert client.ttl(memory._store.database.owner_key("ann")) == -1
        memory.session("u", owner="ann", ttl=0.1).add("Hello.")
        time.sleep(0.2)
        memory.session("new", owner="ann").add("Hello.")
        names = client.hkeys(memory._store.database.owner_key("ann"))
        assert [name for name in names if name.startswith(b"s:")] == [b"s:new"]


def test_a_server_out_of_memory_refuses_a_turn_whole(own_server):
    """Under noeviction a write that does not fit is a typed error, nothing of it stands, and reading goes on."""
    server = own_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    with Memory.open(server.url()) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.", assistant("Hi."))
        count = -1

        def fill():
            nonlocal count
            while True:
                count += 1
                memory.session(f"n{count}", owner="ann").add("x" * 30_000)

        with pytest.raises(StoreUnavailable, match="out of memory"):
            fill()
        assert said(session) == ["Hello.", "Hi."]
        assert memory.sessions(owner="ann") == ["s", *(f"n{number}" for number in range(count))]
        with client_of(server) as client:
            client.config_set("maxmemory", "1mb")
        with pytest.raises(StoreUnavailable, match="out of memory"):
            session.add("Hm?")
        assert session.forget(1).counts["messages"] == 1
        memory.forget(owner="ann", session="n0")
        with client_of(server) as client:
            client.config_set("maxmemory", "3mb")
        memory.forget(owner="ann", session="n1")
        session.add("There is room again.")


# Several processes


def test_a_crowd_of_processes_and_threads_loses_nothing(redis_url, tmp_path):
    """Two processes of four threads on four sessions, a tenth of the turns twice; and three writers that are killed."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "langmem_plugin.cli", "eval", "faults", f"--url={redis_url}", "--kills=3"]
    command += ["--kills-with-vectors=0", "--controls=0", "--processes=2", "--threads=4", "--turns=4", f"--json={out}"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ, timeout=120)
    found = list(json.loads(out.read_text()).values())
    assert [one["passed"] for one in found] == [True, True]
    assert sum(one["acknowledged"] for one in found) >= 35


def lived(memory, rng, now):
    """Forty changes of two sessions of one owner, each with what follows from it behind."""
    sessions = [memory.session(name, owner="ann") for name in ("s", "t")]
    for step in range(40):
        assert memory.wait(30)
        now[0] += timedelta(seconds=1)
        session = rng.choice(sessions)
        held = session.constraints()
        match rng.randrange(9):
            case 0 | 1 | 2:
                session.add(f"I never eat fish number {step}. Topic {step} is gardens.", assistant("I see."))
            case 3:
                session.add_constraint(f"Rule {step}.", scope=rng.choice(["session", "owner"]))
            case 4 if held:
                session.revoke(rng.choice(held).id)
            case 5 if held:
                session.edit_constraint(rng.choice(held).id, f"Rule {step}, edited.")
            case 6 if session.history():
                session.forget(rng.randrange(len(session.history())) + 1)
            case 7:
                session.share_constraints(shared=rng.random() < 0.7)
            case 8:
                session.begin(f"Pending {step}.", turn_id=f"p{step}")
    return sessions


def told(session):
    """All that a session can be asked."""
    store, key = session._engine.store, session._key
    pasts = [store.snapshot_at(key, version) for version in range(session.version + 1)]
    return [
        [(past.head, past.summary, [(entry.seq, entry.message) for entry in past.entries]) for past in pasts],
        [[(one.text, one.state, one.scope, one.seq) for one in past.constraints] for past in pasts],
        [past.moment for past in pasts],
        [store.keyword_stats_at(key, past.head.last_seq).length for past in pasts],
        [replace(one, turn="") for one in store.past(key).commits],
        [(event.version, event.kind, event.detail, event.writer) for event in session.events()],
        [(one.text, one.state, one.scope, one.created_version) for one in session.constraints(all=True)],
        [(hit.entry.seq, round(hit.score, 9)) for hit in session.recall("fish gardens 7")],
        said(session),
        None if (turn := session.resume()) is None else turn.id,
    ]


def test_the_same_changes_make_the_same_session_as_on_sqlite(redis_url, tmp_path):
    """Turns, constraints, summaries, forgettings and branches: every version, the trail and recall are equal."""
    found = []
    for url in (redis_url, f"sqlite:///{tmp_path / 'memory.db'}"):
        now = [datetime(2026, 1, 1, tzinfo=UTC)]

        config = MemoryConfig(budget=Budget(max_tokens=500, completion=0))
        with Memory.open(url, config=config, clock=lambda now=now: now[0], sync=True, writer="w") as memory:
            sessions = lived(memory, random.Random(11), now)
            assert memory.wait(30)
            sessions += [one.fork(f"fork of {one.id}", at=one.version // 2) for one in sessions]
            found.append([told(one) for one in sessions])
            found[-1].append([memory.forget(owner="ann", session="s").counts, memory.forget(owner="ann").counts])
    assert found[0] == found[1]


def test_what_was_forgotten_is_in_no_key(redis_url, client):
    """After an owner was forgotten nothing of what was said, nor a name, stands in any key of the server."""
    with Memory.open(redis_url) as memory:
        for name in ("s1-canary", "s2-canary"):
            session = memory.session(name, owner="ann-canary")
            session.add("I never eat the canary fish.", assistant("A canary, noted."))
            session.add_constraint("Speak canary.", scope="owner")
            session.begin("A pending canary.")
        session.forget(1)
        prefix = redis_url.rpartition("=")[2]

        def held():
            keys = list(client.scan_iter(match=f"{prefix}*", _type="hash"))
            return b" ".join(part for key in keys for pair in client.hgetall(key).items() for part in (key, *pair))

        assert b"canary" in held()
        receipt = memory.forget(owner="ann-canary")
        assert receipt.counts["sessions"] == 2
        assert b"canary" not in held()
        assert any("kept" in limit or "files" in limit for limit in receipt.limits)


def test_workers_do_what_is_behind(redis_url):
    """Two workers of two memories write every summary once; a claim keeps the other off until it is released."""
    config = MemoryConfig(budget=Budget(max_tokens=500, completion=0))
    with (
        Memory.open(redis_url, config=config, background=False) as one,
        Memory.open(redis_url, config=config, background=False) as two,
    ):
        sessions = [one.session(f"s{number}", owner="ann") for number in range(4)]
        for session in sessions:
            for number in range(8):
                session.add(f"Topic {number} is gardens. " * 9, assistant("Yes."))
        store = one._store
        assert len(store.behind()) == 4
        workers = [memory.worker(poll_s=0.05) for memory in (one, two)]
        threads = [threading.Thread(target=worker.run, kwargs={"until_idle": True}) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.behind() == []
        assert all(store.summaries(session._key)[1] is not None for session in sessions)
        assert all([event.kind for event in session.events()].count("summary") == 1 for session in sessions)
        mine, other = store.claims(), two._store.claims()
        assert [mine.claim(1), other.claim(1), other.claim(2)] == [True, False, True]
        mine.release(2)
        mine.close()
        assert [other.claim(1), mine.claim(2)] == [True, False]
        other.close()


def test_what_is_derived_comes_back_from_the_log(redis_url):
    """Keywords that differ are found and put right; constraints are restored with their fates; summaries go."""
    with Memory.open(redis_url, config=MemoryConfig(budget=Budget(max_tokens=500, completion=0))) as memory:
        session = memory.session("s", owner="ann")
        session.add("I never drink coffee.", assistant("Noted."))
        session.revoke(session.constraints()[0].id)
        for number in range(12):
            session.add(f"Topic {number} is gardens. " * 5, assistant("Yes."))
        assert memory.wait(30)
        store, key = memory._store, session._key
        before, stats = store.keywords(key, after=0, upto=99), store.keyword_stats(key)
        held = store.constraints(key)
        store.replace_keywords(key, {1: {}, 3: {"other": 2}})
        assert [one.part for one in memory.verify().differences] == ["keywords"]
        assert memory.rebuild("keywords").keywords > 0
        assert (store.keywords(key, after=0, upto=99), store.keyword_stats(key)) == (before, stats)
        assert store.drop_summaries(key, now=datetime.now(UTC)) > 0
        assert store.summaries(key) == (None, None)
        with Memory.open(redis_url) as other:
            copy = other.session("copy", owner="ann")
            copy.add("Hello.")
            lost = [replace(one, id=f"{one.id}x", session="copy") for one in held]
            assert store.restore_constraints(copy._key, lost, now=datetime.now(UTC)) == len(held) == 1
            assert store.restore_constraints(copy._key, lost, now=datetime.now(UTC)) == 0
            assert [one.state for one in copy.constraints(all=True)] == [one.state for one in held]


def test_recall_by_meaning_has_its_index_beside_redis(redis_url, tmp_path):
    """Vectors stand in Redis and in a Chroma folder that is named; forgetting takes them out of both."""
    options = {"embedder": Letters(), "vectors": tmp_path / "vectors", "config": MemoryConfig()}
    with Memory.open(redis_url, **options) as memory:
        session = memory.session("s", owner="ann")
        session.add("We adopted a puppy in spring.", assistant("How lovely."))
        session.add("The kitchen needs new tiles.", assistant("Which colour?"))
        assert memory.wait(60)
        assert memory._store.count_vectors("letters") == 4
    with Memory.open(redis_url, **options) as memory:
        session = memory.session("s", owner="ann")
        hits = session.recall("We adopted a puppy in spring?")
        assert hits[0].entry.seq == 1
        assert hits[0].vector is not None
        session.forget(1)
        assert memory._store.count_vectors("letters") == 3
        assert memory.wait(60)
        assert memory.forget(owner="ann").complete
        assert memory._store.vector_keys("letters") == []


# Bad input


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://localhost/x",
        "redis://localhost:99999",
        "redis://localhost?prefix=",
        "redis://localhost?prefix=a*b",
        "redis://localhost?ttl=5",
        "redis://localhost/0#x",
        "redis://:secret@localhost?prefix=",
    ],
)
def test_addresses_that_cannot_work_are_refused(url):
    """A typed error that shows no password, before any connection is made."""
    with pytest.raises(InvalidSetting) as caught:
        Memory.open(url)
    assert "secret" not in str(caught.value)


def test_addresses_are_completed():
    """Port, database and prefix have their defaults; a password is in what the client gets alone."""
    assert parse_redis_url("redis://localhost").server == "redis://localhost:6379/0"
    assert parse_redis_url("redis://localhost:").server == "redis://localhost:6379/0"
    assert parse_redis_url("redis://[::1]:7000/3?prefix=a:b").server == "redis://[::1]:7000/3"
    full = parse_redis_url("rediss://ann:p%40ss@db.example?ssl_ca_certs=%2Fca.pem&prefix=shop")
    assert full.server == "rediss://ann:p%40ss@db.example:6379/0?ssl_ca_certs=%2Fca.pem"
    assert (full.prefix, full.shown.count("***"), "p%40ss" in full.shown) == ("shop", 1, False)


def test_keys_that_are_not_ours_are_a_typed_error(redis_server, client):
    """A key of another kind, a directory of a newer release, a field that is no JSON: refused by name."""
    url = redis_server.url()
    prefix = url.rpartition("=")[2]
    client.set(f"{prefix}:directory", "x")
    with pytest.raises(StoreCorrupt):
        Memory.open(url)
    client.delete(f"{prefix}:directory")
    client.hset(f"{prefix}:directory", mapping={"instance": "x", "schema": "99"})
    with pytest.raises(SchemaTooNew):
        Memory.open(url)
    client.delete(f"{prefix}:directory")
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.", assistant("Hi."))
        client.hset(key_of(memory, "s"), "m1", b"\xff{")
        with pytest.raises(LangmemPluginError):
            session.history()
        client.delete(key_of(memory, "s"))
        client.set(key_of(memory, "s"), "x")
        with pytest.raises(LangmemPluginError):
            session.history()


def test_two_prefixes_share_nothing(redis_server):
    """Memories of two key prefixes of one server do not see each other."""
    with Memory.open(redis_server.url()) as one, Memory.open(redis_server.url()) as other:
        one.session("s", owner="ann").add("Hello.")
        assert other.sessions(owner="ann") == []
        assert RedisStore(one.url).keys() == one._store.keys()
