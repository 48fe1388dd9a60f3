"""G11: what was forgotten is in no file, no request and no cache; a receipt says what was looked for."""

from __future__ import annotations

import json
import random
import sqlite3
import string
import threading
from pathlib import Path

import numpy as np
import pytest

from langmem_plugin import Memory
from langmem_plugin.cli import main
from langmem_plugin.config import Budget, MemoryConfig, RecallConfig, SummaryConfig
from langmem_plugin.erasure import digest_of
from langmem_plugin.errors import InvalidSetting, MessageNotFound, TurnClosed, TurnOpen, VectorsLocked
from langmem_plugin.messages import FORGOTTEN, ToolCall, assistant, tool_result, user
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.store.scan import Needles, forms_of, pieces


class Letters:
    """Embeds by the letters of a text; every text has another vector."""

    name = "letters"

    def embed(self, texts):
        rows = []
        for text in texts:
            row = np.sin(np.arange(64, dtype=np.float32))
            for place, letter in enumerate(text):
                row[ord(letter) % 64] += 1 + place / 100
            rows.append(row)
        return np.stack(rows)


def phrase(rng):
    """Words that nobody else says."""
    return " ".join("".join(rng.choices(string.ascii_lowercase, k=9)) for _ in range(6))


def bytes_below(folder):
    return b"\0".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'memory.db'}"


def test_ten_of_a_hundred_owners_are_gone_from_every_file(url, tmp_path):
    """No text, keyword, name or vector of ten owners is in any file, and the other ninety are whole."""
    rng = random.Random(1)
    said = {f"owner-{number:03d}-{phrase(rng)[:9]}": phrase(rng) for number in range(100)}
    gone = list(said)[::10]
    with Memory.open(url, embedder=Letters()) as memory:
        for owner, text in said.items():
            session = memory.session("s", owner=owner)
            session.add(f"My motto is {text}, never forget it.", assistant(f"I like {text}."))
            session.add_constraint(f"Greet me with {text}", scope="owner")
        assert memory.wait(60)
        vectors = {owner: memory._store.vectors(memory.session("s", owner=owner)._key, "letters")[1] for owner in gone}
        for owner in gone:
            receipt = memory.forget(owner=owner)
            assert receipt.complete
            assert receipt.counts["messages"] == 2
            assert receipt.counts["embeddings"] == 2
            assert receipt.strings > 8
            assert receipt.files >= 1
            assert memory.sessions(owner=owner) == []
            assert memory.session("s", owner=owner).constraints(all=True) == ()
        assert memory._vectors.wait(60)
        files = bytes_below(tmp_path)
        for owner in gone:
            assert owner.encode() not in files
            for word in said[owner].split():
                assert word.encode() not in files
            for vector in vectors[owner]:
                assert vector.tobytes()[:32] not in files
        for owner in set(said) - set(gone):
            texts = [entry.message.text for entry in memory.session("s", owner=owner).history()]
            assert said[owner] in texts[1]
            assert said[owner].encode() in files


def test_a_forgotten_message_leaves_a_tombstone(url, tmp_path):
    """The message's number, role and id stay; its words are in no file, no context, no recall; its neighbours stay."""
    with Memory.open(url, embedder=Letters()) as memory:
        session = memory.session("s", owner="ann")
        session.add(user("My locker code is zebra-7731-quagga.", id="m1"), assistant("Noted.", id="m2"))
        session.add("I always drink tea.", assistant("Fine."))
        memory.wait(30)
        version = session.version
        receipt = session.forget("m1")
        assert receipt.complete
        assert receipt.versions == (version + 1,) == (session.version,)
        assert receipt.digests == (digest_of("My locker code is zebra-7731-quagga.", receipt.salt),)
        entries = session.history()
        assert [entry.seq for entry in entries] == [1, 2, 3, 4]
        assert entries[0].message.text == FORGOTTEN
        assert (entries[0].message.role, entries[0].message.id) == ("user", "m1")
        assert entries[3].message.text == "Fine."
        assert "quagga" not in str(session.context("What is my locker code?").messages)
        assert not any("quagga" in hit.entry.message.text for hit in session.recall("locker code quagga"))
        session.add(user("My locker code is zebra-7731-quagga.", id="m1"))
        assert len(session.history()) == 4  # the framework's repeat does not bring it back
        memory.wait(30)
        assert b"quagga" not in bytes_below(tmp_path)
        again = session.forget(1)
        assert again.counts == {}
        assert session.version == version + 1


def test_what_came_of_a_message_goes_with_it(url, tmp_path):
    """Constraints said in it, summaries that saw it, blocks that quote it and its tool call's arguments go."""
    config = MemoryConfig(
        budget=Budget(max_tokens=700, completion=0), recall=RecallConfig(threshold=0.0), summary=SummaryConfig()
    )
    with Memory.open(url, config=config) as memory:
        session = memory.session("s", owner="ann")
        session.add(
            "Never mention the xylograph-garage to Bob.",
            assistant("", ToolCall(id="c1", name="note", arguments='{"secret": "xylograph-garage"}')),
            tool_result("kept: xylograph-garage", call_id="c1"),
            assistant("I will not mention the xylograph-garage."),
        )
        for number in range(40):
            session.add(f"Let us talk about topic {number} for a while.", assistant(f"Topic {number} is fine."))
        memory.wait(30)
        turn = session.begin("What did I say about the xylograph-garage?")
        turn.context(budget=config.budget)
        turn.append("You told me of it.")
        turn.commit()
        memory.wait(30)
        receipt = session.forget(1, whole_turn=True)
        assert receipt.counts["constraints"] == 1
        assert receipt.counts["messages"] == 4
        assert session.forget(85).complete
        memory.wait(30)
        assert session.constraints(all=True) == ()
        call, result = session.history()[1:3]
        assert (call.message.tool_calls[0].id, result.message.tool_call_id) == ("c1", "c1")
        assert "xylograph" not in str(session.context("And now?").messages)
        assert b"xylograph" not in bytes_below(tmp_path)


def test_a_summary_being_written_does_not_bring_it_back(url, tmp_path):
    """A model that read the message before it was forgotten answers afterwards: its summary is not kept."""
    asked, go_on = threading.Event(), threading.Event()

    def slow(prompt: str) -> str:
        asked.set()
        assert go_on.wait(30)
        return "They spoke of the quokka-vault." if "quokka" in prompt else "They spoke of topics."

    config = MemoryConfig(budget=Budget(max_tokens=600, completion=0))
    with Memory.open(url, config=config, summarizer=slow) as memory:
        session = memory.session("s", owner="ann")
        session.add("The code of the quokka-vault is 8812.", assistant("Noted."))
        for number in range(40):
            session.add(f"Let us talk about topic {number} for a while.", assistant(f"Topic {number} is fine."))
        session.context("Hello?")
        assert asked.wait(30)
        receipt = session.forget(1)
        go_on.set()
        assert memory.wait(60)
        assert receipt.complete
        shown = memory._store.summaries(session._key)[1]
        assert shown is None or "quokka" not in shown.text
    assert b"quokka" not in bytes_below(tmp_path)


def test_another_process_memory_sees_it_gone(url):
    """A second memory on the same file that had read the message does not show it any more."""
    with Memory.open(url) as one, Memory.open(url) as two:
        one.session("s", owner="ann").add("The wombat-code is 12345.", assistant("Noted."))
        other = two.session("s", owner="ann")
        assert "wombat-code" in str(other.context("Hm?").messages)
        one.forget(owner="ann", session="s", message=1)
        assert "wombat-code" not in str(other.context("Hm?").messages)
        assert not any("wombat" in hit.entry.message.text for hit in other.recall("wombat-code"))


def test_a_pending_turn_does_not_survive_its_session(url):
    """A turn that was begun before its session was forgotten cannot be committed; a pending message is refused."""
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        turn = session.begin(user("A secret.", id="p1"))
        with pytest.raises(TurnOpen):
            session.forget("p1")
        session.forget()
        with pytest.raises(TurnClosed):
            turn.commit()
        assert session.history() == []


def test_versions_do_not_begin_again(url):
    """A session that is forgotten and begun anew has later versions: a writer that expects an old one is refused."""
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        for _ in range(3):
            session.add("Hello.", assistant("Hi."))
        (version,) = session.forget().versions
        assert session.add("Hello again.") == version + 1
        assert memory.session("s", owner="bob").add("Hello.") == 1


def test_an_index_that_is_not_open_is_removed(url, tmp_path):
    """Forgetting without the embedder removes the index's files too; if another process has them, nothing is done."""
    with Memory.open(url, embedder=Letters()) as memory:
        memory.session("s", owner="ann").add("The ibex-code is 4711.", assistant("Noted."))
        memory.wait(30)
        memory._vectors.wait(30)
        (_, vectors) = memory._store.vectors(memory.session("s", owner="ann")._key, "letters")
    folder = tmp_path / "memory.db.vectors"
    assert vectors[0].tobytes()[:32] in bytes_below(tmp_path)
    held = VectorFolder(folder)
    with Memory.open(url) as memory:
        with pytest.raises(VectorsLocked):
            memory.forget(owner="ann")
        assert memory.sessions(owner="ann") == ["s"]
        held.release()
        assert memory.forget(owner="ann").complete
    assert vectors[0].tobytes()[:32] not in bytes_below(tmp_path)


def test_what_others_say_too_is_counted_and_stays(url):
    """A text that another owner said as well is left there, and the receipt counts it as said elsewhere."""
    with Memory.open(url) as memory:
        for owner in ("ann", "bob"):
            memory.session("s", owner=owner).add("The gnu ate my homework again.", assistant("Poor you."))
        receipt = memory.forget(owner="ann")
        assert receipt.complete
        assert receipt.elsewhere >= 1
        assert memory.session("s", owner="bob").history()[0].message.text == "The gnu ate my homework again."
        json.dumps(receipt.to_json())


def test_what_cannot_be_forgotten_is_a_typed_error(url):
    """Unknown messages, a message without its session, names that cannot be one; an unknown owner is no error."""
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        session.add("Hello.")
        for message in ("nobody", 7):
            with pytest.raises(MessageNotFound):
                session.forget(message)
        with pytest.raises(InvalidSetting):
            memory.forget(owner="ann", message=1)
        with pytest.raises(InvalidSetting):
            memory.forget(owner="")
        with pytest.raises(InvalidSetting):
            session.forget(whole_turn=True)
        receipt = memory.forget(owner="nobody at all")
        assert receipt.counts == {}
        assert receipt.complete


def test_the_command_forgets_and_writes_a_receipt(url, tmp_path, capsys):
    """`langmem-plugin forget` prints counts and what was looked for, writes the receipt, and ends with 0."""
    with Memory.open(url) as memory:
        memory.session("s", owner="ann").add("The tapir-code is 4711.", assistant("Noted."))
    receipt = tmp_path / "receipt.json"
    arguments = ["forget", "--database", url, "--owner", "ann", "--session", "s", "--message"]
    assert main([*arguments, "#1", "--receipt", str(receipt)]) == 0
    assert "forgot 1 messages" in capsys.readouterr().out
    kept = json.loads(receipt.read_text())
    assert (kept["scope"], kept["left"], kept["complete"]) == ("message", 0, True)
    assert main([*arguments, "nobody"]) == 1
    assert "no message 'nobody'" in capsys.readouterr().err


def test_a_file_that_still_holds_it_is_noticed(url, tmp_path):
    """A control: with secure_delete off the scan finds what a delete leaves behind."""
    path = tmp_path / "memory.db"
    with Memory.open(url) as memory:
        memory.session("s", owner="ann").add("The lemur-password is 987654.", assistant("Noted."))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM messages")
    connection.close()
    found, size = Needles(forms_of("The lemur-password is 987654.")).found_in_file(path)
    assert found
    assert size == path.stat().st_size


def test_needles_are_found_wherever_they_lie(tmp_path):
    """Every piece is found at every offset and over the border of two blocks; nothing else is."""
    rng = random.Random(3)
    strings = {rng.randbytes(rng.randint(8, 90)) for _ in range(300)}
    hay = bytearray(rng.randbytes(3 << 20))
    hidden = sorted(strings)[:150]
    for place, one in zip(range(1000, 3 << 20, 20000), hidden, strict=False):
        hay[place : place + len(one)] = one
    border = hidden[0]
    hay[(1 << 20) - 3 : (1 << 20) - 3 + len(border)] = border
    path = tmp_path / "hay"
    path.write_bytes(bytes(hay))
    assert Needles(strings).found_in_file(path)[0] == {one for one in strings if one in hay}
    assert Needles([border]).found_in_file(path)[0] == {border}
    assert Needles([]).found_in(b"x" * 100) == set()
    assert Needles([b"short"]).strings == frozenset()
    assert len(pieces(b"a" * 10_000)) == 1
    assert forms_of("é\ud800 tail of it") >= {"é\ud800 tail of it".encode("utf-8", "surrogatepass")}
