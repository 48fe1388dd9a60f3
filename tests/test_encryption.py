"""Encryption at rest: what is sealed is read with its owner's key at its own place, and by nobody else."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import threading
from dataclasses import replace

import pytest
from sqlalchemy.engine import make_url

from langmem_plugin import Memory
from langmem_plugin.cli import main
from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.errors import InvalidSetting, KeyUnavailable, SealBroken
from langmem_plugin.evaluation import rotation
from langmem_plugin.keyring import FolderKeyRing, KeyRing
from langmem_plugin.messages import Message, Role, Text, ToolCall, Usage, assistant, tool_result, user
from langmem_plugin.records import SessionKey
from langmem_plugin.store.row_security import protect
from langmem_plugin.store.sealing import MARK

CANARY = "zebra quagga okapi"
"""Words are in the keyword index; this order of them is nowhere."""


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'db' / 'memory.db'}"


@pytest.fixture
def ring(tmp_path):
    return FolderKeyRing(tmp_path / "keys")


def bytes_below(folder):
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def texts(session):
    return [entry.message.text for entry in session.history()]


def raw(tmp_path, statement, *values):
    """What SQL gives, past the package."""
    with sqlite3.connect(tmp_path / "db" / "memory.db") as connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def test_nothing_that_was_said_is_in_any_file(url, ring, tmp_path):
    """Texts, calls, metadata, constraints, summaries, recalled blocks, pending turns: unreadable, open and closed."""
    config = MemoryConfig(budget=Budget(max_tokens=600, completion=0))
    said = Message(role=Role.USER, blocks=(Text(f"I never eat {CANARY}."),), metadata={"note": "hidden0canary"})
    with Memory.open(url, encryption=ring, config=config, writer="desk") as memory:
        session = memory.session("s", owner="ann")
        session.add(said, assistant("", ToolCall(id="c1", name="find", arguments=f'{{"q": "{CANARY}"}}')))
        session.add(tool_result(f"{CANARY} from the tool", call_id="c1"), assistant(f"So {CANARY}."))
        for number in range(30):
            session.add(f"Let us talk about topic {number}. {CANARY}", assistant(f"Topic {number} is fine. {CANARY}"))
        turn = session.begin("What did the tool find?")
        turn.context()
        turn.append(f"Yes, {CANARY}.")
        turn.commit()
        memory._store.mark_constraint(session._key, session.constraints()[0].id, display=f"Says {CANARY}")
        turn = session.begin(f"Pending {CANARY}.")
        turn.append(f"{CANARY} hidden2canary")
        memory.wait(30)
        assert memory._store.summaries(SessionKey("ann", "s"))[1] is not None
        branch = session.fork("branch")
        assert texts(branch) == texts(session)
        assert raw(tmp_path, "SELECT count(*) FROM turns WHERE attachment LIKE ?", f"{MARK}%") > [(0,)]
        files = bytes_below(tmp_path / "db")
        for word in (CANARY, "hidden0canary", "hidden2canary"):
            assert word.encode() not in files
    files = bytes_below(tmp_path / "db")
    assert CANARY.encode() not in files
    assert b"quagga" in files  # the keyword index is not sealed, and the docs say so
    with Memory.open(url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        assert session.history()[0].message == said
        assert CANARY in session.constraints()[0].text
        assert session.resume().messages[0].text == f"Pending {CANARY}."


def test_a_thousand_rows_in_each_others_place_are_all_found_out(url, ring, tmp_path):
    """A ciphertext that is brought from another row, session, column or owner never opens, and its place is named."""
    with Memory.open(url, encryption=ring) as memory:
        for owner in ("ann", "bob"):
            for name in ("s", "t"):
                memory.session(name, owner=owner).add(*(user(f"{owner} {name} {n}") for n in range(250)))
    rows = raw(tmp_path, "SELECT session_id, seq, body FROM messages ORDER BY session_id, seq")
    assert len(rows) == 1000
    with sqlite3.connect(tmp_path / "db" / "memory.db") as connection:
        for distance in (1, 250, 500):  # a row on, the session's neighbour, the other owner
            for (session_id, seq, _), (_, _, body) in zip(rows, rows[distance:] + rows[:distance], strict=True):
                connection.execute(
                    "UPDATE messages SET body = ? WHERE session_id = ? AND seq = ?", (body, session_id, seq)
                )
            connection.commit()
            found = 0
            with Memory.open(url, encryption=ring) as memory:
                for owner in ("ann", "bob"):
                    for name in ("s", "t"):
                        for seq in range(1, 251):
                            with pytest.raises((SealBroken, KeyUnavailable)) as caught:
                                memory._store.entries_at(SessionKey(owner, name), [seq])
                            found += 1
                            if isinstance(caught.value, SealBroken):
                                assert caught.value.place.startswith(f"messages {name}/")
                                assert caught.value.place.endswith(f"/{seq}")
            assert found == 1000
    connection.close()


def test_a_row_that_was_tampered_with_can_be_forgotten(url, ring, tmp_path):
    """Reading and rotating name its place; forgetting it leaves a tombstone, and the rest goes on under a new key."""
    with Memory.open(url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        session.add(user("One.", id="m1"), user("Two.", id="m2"), user("Three."))
        raw(tmp_path, "UPDATE messages SET body = (SELECT body FROM messages WHERE seq = 3) WHERE seq = 2")
        for call in (session.history, lambda: memory.rotate_key(owner="ann", grace_s=0)):
            with pytest.raises(SealBroken, match="messages s/1/2"):
                call()
        assert memory.forget(owner="ann", session="s", message=2).complete
        assert texts(session) == ["One.", "[forgotten]", "Three."]
        assert session.history()[1].message.id == "m2"
        assert memory.rotate_key(owner="ann", grace_s=0).destroyed == 1
        assert texts(session) == ["One.", "[forgotten]", "Three."]


def test_a_changed_byte_is_found_out(url, ring, tmp_path):
    """Whatever bit of a sealed text is turned, reading says so, and writes nothing."""
    with Memory.open(url, encryption=ring) as memory:
        memory.session("s", owner="ann").add("I never eat eggs.")
        for table, column in (("messages", "body"), ("constraints", "text"), ("constraints", "display")):
            ((kept,),) = raw(tmp_path, f"SELECT {column} FROM {table}")
            begin = kept.index(":", len(MARK)) + 1
            for place in range(begin, len(kept) - 4):
                changed = kept[:place] + ("A" if kept[place] != "A" else "B") + kept[place + 1 :]
                with pytest.raises(SealBroken):
                    _open_row(memory, table, column, changed)
            _open_row(memory, table, column, kept)


def _open_row(memory, table, column, text):
    sealing = memory._store.sealing
    if table == "messages":
        return sealing.open(text, "ann", "messages", "s", 1, 1)
    (one,) = memory.session("s", owner="ann").constraints()
    return sealing.open(text, "ann", "constraints", "s", one.id, column)


def test_without_the_right_key_nothing_is_read_and_nothing_lost(url, ring, tmp_path):
    """No ring, another ring, a destroyed key: typed errors that say what to do; other owners go on."""
    with Memory.open(url, encryption=ring) as memory:
        for owner in ("ann", "bob"):
            memory.session("s", owner=owner).add(f"I am {owner}.", assistant("Hello."))
    with pytest.raises(KeyUnavailable, match="encryption="):
        Memory.open(url)
    with Memory.open(url, encryption=FolderKeyRing(tmp_path / "other")) as memory:
        with pytest.raises(KeyUnavailable, match="restore") as caught:
            memory.session("s", owner="ann").history()
        assert caught.value.key_id == ring.ids("ann")[0]
        assert "I am" not in str(caught.value)
    shutil.copytree(tmp_path / "keys", tmp_path / "backup")
    assert ring.destroy("ann") == 1
    with Memory.open(url, encryption=ring) as memory:
        with pytest.raises(KeyUnavailable):
            memory.session("s", owner="ann").context("Who am I?")
        assert texts(memory.session("s", owner="bob")) == ["I am bob.", "Hello."]
        memory.session("s", owner="bob").add("Still here.")
    with Memory.open(url, encryption=FolderKeyRing(tmp_path / "backup")) as memory:
        assert texts(memory.session("s", owner="ann")) == ["I am ann.", "Hello."]
    with Memory.open(url, encryption=ring) as memory:
        receipt = memory.forget(owner="ann")
        assert receipt.counts["messages"] == 2
        memory.session("s", owner="ann").add("Anew.")
        assert texts(memory.session("s", owner="ann")) == ["Anew."]


def test_a_database_from_before_is_read_on_and_sealed_by_a_rotation(url, ring, tmp_path):
    """Old rows are read, new ones sealed; rotate_key leaves no old text in any file, and everything in its place."""
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        session.add(f"I never eat {CANARY}.", assistant(f"{CANARY}!"))
        memory.session("s", owner="bob").add("Plain.")
    assert CANARY.encode() in bytes_below(tmp_path / "db")
    with Memory.open(url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        session.add("Later.")
        before = (session.history(), session.constraints(), session.events(), session.version)
        told = []
        rotated = memory.rotate_key(owner="ann", progress=told.append, grace_s=0)
        assert (rotated.rows, told[-1], rotated.destroyed) == (4, 4, 1)
        assert ring.ids("ann") == (rotated.key_id,)
        assert (session.history(), session.constraints(), session.events(), session.version) == before
        assert CANARY.encode() not in bytes_below(tmp_path / "db")
        assert texts(memory.session("s", owner="bob")) == ["Plain."]
        assert memory.verify().sound
    with Memory.open(url, encryption=ring) as memory:
        assert texts(memory.session("s", owner="ann")) == [f"I never eat {CANARY}.", f"{CANARY}!", "Later."]


def test_a_key_changes_while_others_read_and_write(url, ring, tmp_path):
    """A thousand rows get a new key with a reader and a writer beside: no error, nothing lost, no old key."""
    errors, stop, written = [], threading.Event(), []

    def serve(memory, write):
        session = memory.session("s", owner="ann")
        try:
            while not stop.is_set():
                if write:
                    session.add(f"Served {len(written)}.")
                    written.append(None)
                else:
                    assert len(memory._store.entries(session._key, after=450, limit=100)) == 100
        except BaseException as error:  # noqa: BLE001 - told below
            errors.append(error)

    with Memory.open(url, encryption=ring) as memory, Memory.open(url, encryption=FolderKeyRing(ring._folder)) as other:
        memory.session("s", owner="ann").add(*(user(f"Message {number}.") for number in range(1000)))
        threads = [threading.Thread(target=serve, args=(one, write)) for one, write in ((memory, 0), (other, 1))]
        for thread in threads:
            thread.start()
        rotated = memory.rotate_key(owner="ann", grace_s=0.1)
        assert rotated.rows >= 1000
        stop.set()
        for thread in threads:
            thread.join()
        assert not errors
        assert texts(memory.session("s", owner="ann")) == [f"Message {n}." for n in range(1000)] + [
            f"Served {n}." for n in range(len(written))
        ]
    assert ring.ids("ann") == (rotated.key_id,)
    new = f"{MARK}{rotated.key_id}:%"
    assert raw(tmp_path, "SELECT count(*) FROM messages WHERE body NOT LIKE ?", new) == [(0,)]


def test_a_rotation_that_ended_early_is_gone_on_with(url, ring, tmp_path):
    """After an end in its middle all is readable, by both keys; the next call uses the same new key and ends it."""

    class Crash(BaseException):
        pass

    def crash(_rows):
        raise Crash

    with Memory.open(url, encryption=ring) as memory:
        memory.session("s", owner="ann").add(*(user(f"Message {number}.") for number in range(500)))
        with pytest.raises(Crash):
            memory.rotate_key(owner="ann", progress=crash, grace_s=0)
    old, new = FolderKeyRing(ring._folder).ids("ann")
    marks = "SELECT DISTINCT substr(body, 4, 16) FROM messages"
    assert set(raw(tmp_path, marks)) == {(old,), (new,)}
    with Memory.open(url, encryption=FolderKeyRing(ring._folder)) as memory:
        session = memory.session("s", owner="ann")
        assert len(session.history()) == 500
        session.add("Between.")
        rotated = memory.rotate_key(owner="ann", grace_s=0)
        assert (rotated.key_id, rotated.destroyed) == (new, 1)
        assert rotated.rows < 500
        assert len(session.history()) == 501
    assert raw(tmp_path, marks) == [(new,)]


def test_a_process_that_is_killed_while_it_changes_a_key_loses_nothing():
    """`kill -9` on the way, then a change with a reader and a writer beside: all there, no call failed, no old key."""
    found = rotation.measure(rows=300, kills=1)
    assert (found.errors, found.lost, found.old, found.kills) == (0, 0, 0, 1)
    assert found.reads > 0
    assert found.writes > 0


def test_forgetting_an_owner_destroys_the_key(url, ring, tmp_path):
    """The receipt says so, and a copy of the database from before can no longer be read."""
    with Memory.open(url, encryption=ring) as memory:
        for owner in ("ann", "bob"):
            memory.session("s", owner=owner).add(f"I am {owner} and my word is {CANARY}.", assistant("Noted."))
    shutil.copytree(tmp_path / "db", tmp_path / "copy")
    with Memory.open(url, encryption=ring) as memory:
        part = memory.forget(owner="bob", session="s", message=1)
        assert (part.keys, part.complete) == (0, True)
        assert any("sealed" in limit for limit in part.limits)
        receipt = memory.forget(owner="ann")
        assert (receipt.keys, receipt.complete) == (1, True)
        assert receipt.to_json()["keys"] == 1
        assert receipt.strings > 4
        assert memory.forget(owner="ann").keys == 0
    assert ring.ids("ann") == ()
    with Memory.open(f"sqlite:///{tmp_path / 'copy' / 'memory.db'}", encryption=ring) as memory:
        with pytest.raises(KeyUnavailable):
            memory.session("s", owner="ann").history()
        assert len(memory.session("s", owner="bob").history()) == 2


def test_a_session_begun_while_its_owner_is_forgotten_can_be_read(url, ring):
    """What is written after the rows went and before the key did is sealed anew, and the old key goes."""
    with Memory.open(url, encryption=ring) as memory:
        memory.session("s", owner="ann").add("Before.")
        (old,) = ring.ids("ann")
        drop, store = memory._store.drop_keys, memory._store

        def late(owner):
            memory.session("new", owner=owner).add("After.")
            return drop(owner)

        store.drop_keys = late
        assert memory.forget(owner="ann").keys == 1
        assert old not in ring.ids("ann")
    with Memory.open(url, encryption=ring) as memory:
        assert texts(memory.session("new", owner="ann")) == ["After."]


def test_the_rest_of_a_memory_works_on_sealed_rows(url, ring, tmp_path):
    """Spending, past versions, export and import both ways, verify and rebuild give what they give without."""
    with Memory.open(url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        used = replace(assistant("I see."), usage=Usage(input_tokens=30, output_tokens=5, total_tokens=35))
        session.add("I never eat eggs.", used)
        session.add("My cat is Tiger.", assistant("Nice."))
        session.forget(3)
        assert memory.spent(owner="ann").total_tokens == 35
        assert session.recall("eggs")[0].entry.seq == 1
        assert [message.text for message in session.at(1).context("Hm?").messages][-1] == "Hm?"
        lines = list(memory.export_lines())
        assert "eggs" in "".join(lines)
        assert memory.verify().sound
        memory.rebuild()
        assert memory.verify().sound
    with Memory.open() as plain:
        plain.import_lines(lines)
        assert texts(plain.session("s", owner="ann")) == texts_of(url, ring)
        again = list(plain.export_lines())
    with Memory.open(f"sqlite:///{tmp_path / 'db' / 'new.db'}", encryption=ring) as memory:
        memory.import_lines(again)
        assert texts(memory.session("s", owner="ann")) == texts_of(url, ring)


def texts_of(url, ring):
    with Memory.open(url, encryption=ring) as memory:
        return texts(memory.session("s", owner="ann"))


def test_a_postgres_database_is_sealed_and_its_keys_change(postgres_url, ring, tmp_path):
    """No text is readable by SQL; rotation, forks and forgetting work as on SQLite."""
    import psycopg

    with Memory.open(postgres_url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        session.add(f"I never eat {CANARY}.", assistant("Noted."))
        assert texts(session.fork("branch")) == texts(session)
        rotated = memory.rotate_key(owner="ann", grace_s=0)
        assert (rotated.rows, rotated.destroyed) == (6, 1)
        assert texts(memory.session("branch", owner="ann"))[0] == f"I never eat {CANARY}."
        with psycopg.connect(postgres_url) as connection:
            for table in ("messages", "constraints", "turns"):
                assert CANARY not in str(connection.execute(f"SELECT * FROM {table}").fetchall())
        assert memory.forget(owner="ann").keys == 1
        session.add("Anew.")
        assert texts(session) == ["Anew."]
    with pytest.raises(KeyUnavailable):
        Memory.open(postgres_url)


def hashes(url):
    """Every value of the memory's hashes, past the package: by key and field."""
    import redis

    server, _, prefix = url.partition("?prefix=")
    with redis.Redis.from_url(server) as client:
        return {name: client.hgetall(name) for name in client.scan_iter(match=f"{prefix}:*", count=1000, _type="HASH")}


def test_nothing_that_was_said_is_in_redis_and_keys_change(redis_url, ring):
    """Fields hold neither texts nor keywords; what is brought from another field is found out; all else works."""
    with Memory.open(redis_url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        for number in range(20):
            session.add(f"I never eat {CANARY} {number}.", assistant(f"Noted {number}."))
        memory.session("s", owner="bob").add("I am bob. I never eat eggs.")
        session.add_constraint(f"Mind the {CANARY}", scope="owner")
        session.begin(f"Pending {CANARY}.")
        before = (session.history(), session.constraints())
        branch = session.fork("branch")
        assert texts(branch) == texts(session)
        assert not any(word in str(hashes(redis_url)) for word in CANARY.split())
        old = ring.ids("ann")[0]
        rotated = memory.rotate_key(owner="ann", grace_s=0)
        assert rotated.rows > 160
        assert old not in str(hashes(redis_url))
        assert session.recall("okapi 7")[0].entry.seq == 15
    with Memory.open(redis_url, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        assert (session.history(), session.constraints()) == before
        assert session.resume().messages[0].text == f"Pending {CANARY}."
        database = memory._store.database
        name = database.session_key(session._key)
        kept = database.client.hmget(name, ["m1", "m2"])
        database.client.hset(name, mapping={"m1": kept[1], "m2": kept[0]})
        for seq in (1, 2):
            with pytest.raises(SealBroken, match=f"s/m{seq}"):
                memory._store.entries_at(session._key, [seq])
    ring.destroy("ann")
    with Memory.open(redis_url, encryption=ring) as memory:
        with pytest.raises(KeyUnavailable):
            memory.session("s", owner="ann").history()
        assert texts(memory.session("s", owner="bob")) == ["I am bob. I never eat eggs."]
        assert [info.session for info in memory.list_sessions()] == ["s", "s", "branch"]
        assert memory.forget(owner="ann").counts["sessions"] == 2
        assert memory.forget(owner="bob").keys == 1
        assert memory.owners() == []
    with pytest.raises(KeyUnavailable):
        Memory.open(redis_url)


def test_what_redis_takes_after_its_key_went_is_sealed_anew(redis_url, ring):
    """A write that had begun with a key that was changed and destroyed meanwhile can be read by everybody."""
    with Memory.open(redis_url, encryption=ring) as memory:
        database = memory._store.database
        send = database._send

        def late(transaction):
            database._send = send
            key_id, _ = ring.rotate("ann")
            ring.destroy("ann", keep=key_id)
            send(transaction)

        database._send = late
        memory.session("s", owner="ann").add("Hello.", assistant("Hi."))
    with Memory.open(redis_url, encryption=FolderKeyRing(ring._folder)) as memory:
        assert texts(memory.session("s", owner="ann")) == ["Hello.", "Hi."]


def test_row_level_security_and_sealed_rows_go_together(postgres_server, postgres_url, ring):
    """A role that sees one owner's rows reads, writes, rotates and forgets; it cannot list everybody's."""
    postgres_server.psql(
        "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'sealed_app') THEN "
        "CREATE ROLE sealed_app LOGIN; END IF; END $$;"
    )
    with Memory.open(postgres_url, encryption=ring) as memory:
        memory.session("s", owner="bob").add("I am bob.")
    protect(postgres_url, role="sealed_app")
    app = make_url(postgres_url).set(username="sealed_app").render_as_string(hide_password=False)
    with Memory.open(app, encryption=ring) as memory:
        session = memory.session("s", owner="ann")
        session.add("I never eat eggs.", assistant("Noted."))
        assert memory.rotate_key(owner="ann", grace_s=0).rows == 3
        assert texts(session) == ["I never eat eggs.", "Noted."]
        assert memory.forget(owner="ann").keys == 1
        assert texts(memory.session("s", owner="bob")) == ["I am bob."]


# The ring


def test_a_folder_ring_keeps_one_file_an_owner_for_nobody_else(tmp_path):
    """Names are digests, modes 0600 and 0700; the key lasts, turns over, and goes with its bytes."""
    ring = FolderKeyRing(tmp_path / "keys")
    assert isinstance(ring, KeyRing)
    assert ring.ids("ann") == ()
    first, secret = ring.current("ann")
    assert (len(secret), ring.current("ann")) == (32, (first, secret))
    assert FolderKeyRing(tmp_path / "keys").current("ann") == (first, secret)
    (file,) = (tmp_path / "keys").glob("*.json")
    assert "ann" not in file.name
    assert "ann" not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    second, newer = ring.rotate("ann")
    assert ring.ids("ann") == (first, second)
    assert (ring.current("ann"), ring.key("ann", first)) == ((second, newer), secret)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ring.destroy("ann", keep=second) == 1
    with pytest.raises(LookupError):
        ring.key("ann", first)
    os.link(file, tmp_path / "same")  # the file's own bytes
    assert ring.destroy("ann") == 1
    assert not file.exists()
    assert not (tmp_path / "same").read_bytes().strip(b"\0")
    assert ring.destroy("ann") == 0
    assert ring.current("ann")[1] not in (secret, newer)


def test_a_master_key_wraps_the_files(tmp_path, monkeypatch):
    """Bytes, a function or a variable give it; without it, or with another, the folder opens nothing."""
    master = bytes(range(32))
    ring = FolderKeyRing(tmp_path, master=master)
    held = ring.current("ann")
    monkeypatch.setenv("RING_MASTER", master.hex())
    for same in (lambda: master, "RING_MASTER"):
        assert FolderKeyRing(tmp_path, master=same).current("ann") == held
    (file,) = tmp_path.glob("*.json")
    for other in (None, bytes(32)):
        with pytest.raises(KeyUnavailable, match="master"):
            FolderKeyRing(tmp_path, master=other).current("ann")
    file.rename(tmp_path / FolderKeyRing(tmp_path)._file("bob").name)
    with pytest.raises(KeyUnavailable):  # another owner's file
        ring.current("bob")


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"wrapped": false, "keys": []}', "\xff", '{"wrapped": 0, "keys": [1]}']
)
def test_a_damaged_file_of_keys_is_no_new_key(tmp_path, text):
    """It is said, and nothing is written over it."""
    ring = FolderKeyRing(tmp_path)
    ring.current("ann")
    (file,) = tmp_path.glob("*.json")
    file.write_text(text or " ", encoding="latin-1")
    for call in (ring.current, ring.ids, ring.rotate, ring.destroy):
        with pytest.raises(KeyUnavailable):
            call("ann")
    assert file.read_text(encoding="latin-1") == (text or " ")


def test_many_that_ask_first_get_one_key(tmp_path):
    """Ten threads with a ring each: one key is made, and every rotation is kept."""
    found = []

    def ask():
        ring = FolderKeyRing(tmp_path)
        found.append(ring.current("ann"))
        ring.rotate("bob")

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(FolderKeyRing(tmp_path).ids("bob")) == 10


@pytest.mark.parametrize("master", [b"", b"short", bytes(33), "NO_SUCH_VARIABLE_HERE", lambda: "text", 7])
def test_a_master_key_that_is_none_is_refused(tmp_path, master):
    """32 bytes, or nothing."""
    with pytest.raises(InvalidSetting, match="32 random bytes"):
        FolderKeyRing(tmp_path, master=master)


def test_a_folder_that_cannot_be_one_is_refused(tmp_path):
    """A file in its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="folder"):
        FolderKeyRing(tmp_path / "file")


class Given:
    """A ring that gives what it is told."""

    def __init__(self, key_id, secret):
        self._held = key_id, secret

    def current(self, owner):
        return self._held

    def key(self, owner, key_id):
        return self._held[1]

    def ids(self, owner):
        return [self._held[0]]

    def rotate(self, owner):
        return self._held

    def destroy(self, owner, *, keep=None):
        return 0


@pytest.mark.parametrize(
    "held", [("k", b"x" * 16), ("k", "x" * 32), ("k", None), ("", b"x" * 32), ("a:b", b"x" * 32), (7, b"x" * 32)]
)
def test_a_ring_that_gives_no_key_is_refused(url, held):
    """A key of another length or kind, an id that cannot stand in a row: nothing is written."""
    with Memory.open(url, encryption=Given(*held)) as memory:
        session = memory.session("s", owner="ann")
        with pytest.raises(InvalidSetting, match="encryption"):
            session.add("Hello.")
        assert session.history() == []


def test_what_is_no_ring_is_refused(url):
    """So is a rotation without one, and a grace that is no time."""
    with pytest.raises(InvalidSetting, match="FolderKeyRing"):
        Memory.open(url, encryption=b"x" * 32)
    with Memory.open() as memory, pytest.raises(InvalidSetting, match="encryption"):
        memory.rotate_key(owner="ann")
    with Memory.open(encryption=Given("k", bytes(32))) as memory, pytest.raises(InvalidSetting, match="grace_s"):
        memory.rotate_key(owner="ann", grace_s=-1)


# The command line


def test_the_commands_work_on_an_encrypted_database(url, tmp_path, capsys, monkeypatch):
    """With --keys they read, move, rotate and forget; without, or with a wrong place, they say what is missing."""
    master = bytes(range(32)).hex()
    monkeypatch.setenv("LANGMEM_PLUGIN_MASTER_KEY", master)
    keys = str(tmp_path / "keys")
    with Memory.open(url, encryption=FolderKeyRing(keys, master="LANGMEM_PLUGIN_MASTER_KEY")) as memory:
        memory.session("trip", owner="ann").add("I live in Lyon.", assistant("Noted."))
        memory.session("trip", owner="bob").add("I live in Rome.")
    assert main(["export", "--database", url, "-"]) == 1
    assert "encryption=" in capsys.readouterr().err
    assert main(["export", "--database", url, "--keys", str(tmp_path / "nowhere"), "-"]) == 1
    assert "--keys" in capsys.readouterr().err
    assert main(["rotate", "--database", url, "--keys", keys, "--grace", "0"]) == 0
    assert [line.split(" under ")[0] for line in capsys.readouterr().out.splitlines()] == ["ann: 3 rows", "bob: 2 rows"]
    assert main(["inspect", url, "trip", "--owner", "ann", "--keys", keys]) == 0
    assert "Lyon" in capsys.readouterr().out
    assert main(["verify", "--database", url, "--keys", keys]) == 0
    assert main(["sessions", url, "--keys", keys]) == 0
    capsys.readouterr()
    assert main(["export", "--database", url, "--keys", keys, "--owner", "ann", "-"]) == 0
    assert "Lyon" in capsys.readouterr().out
    (tmp_path / "ring_of_mine.py").write_text(
        f"from langmem_plugin.keyring import FolderKeyRing\n"
        f"def ring(): return FolderKeyRing({keys!r}, master={'LANGMEM_PLUGIN_MASTER_KEY'!r})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["forget", "--database", url, "--keys", "ring_of_mine:ring", "--owner", "ann"]) == 0
    assert "destroyed keys: 1" in capsys.readouterr().out
    assert main(["forget", "--database", url, "--keys", "ring_of_mine:nothing", "--owner", "bob"]) == 1
