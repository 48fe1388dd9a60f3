"""Sessions leave one database as JSON Lines and are the same in another."""

from __future__ import annotations

import json

import pytest

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import ToolCall, assistant, tool_result, user
from langmem_plugin.testing.stores import ODD_TEXTS
from langmem_plugin.transfer import openai_messages

CONFIG = MemoryConfig(budget=Budget(max_tokens=700, completion=0))


@pytest.fixture
def old(tmp_path):
    with Memory.open(f"sqlite:///{tmp_path / 'old.db'}", config=CONFIG) as memory:
        session = memory.session("trip", owner="ann")
        session.add("Never suggest flights. The code is 7714-B.", assistant("Noted."))
        session.add(*(user(text) for text in ODD_TEXTS[:-3]))
        session.add(
            user("Look.", id="m1"),
            assistant("", ToolCall(id="c1", name="find", arguments='{"a": 1}')),
            tool_result("found", call_id="c1"),
            assistant("There."),
        )
        for number in range(30):
            session.add(f"Let us talk about topic {number} for a while.", assistant(f"Topic {number} is fine."))
        session.add_constraint("Answer in French.", scope="owner")
        session.revoke(session.constraints()[-1].id)
        memory.session("work", owner="bob").add("I never drink coffee.")
        memory.wait(30)
        yield memory


def parts(session):
    entries = [(e.seq, e.turn, e.message, e.created_at) for e in session.history()]
    constraints = [(c.id, c.text, c.state, c.scope, c.seq) for c in session.constraints(all=True)]
    return entries, constraints


@pytest.mark.parametrize("backend", ["sqlite", "postgres"])
def test_a_memory_moves_as_it_is(old, backend, request):
    """Messages, turns, times, constraints in every state and the summary arrive; requests are the same bytes."""
    url = request.getfixturevalue("postgres_url") if backend == "postgres" else "sqlite://"
    seen = []
    lines = list(old.export_lines(progress=seen.append))
    assert seen[-1] == len(old.session("trip", owner="ann").history()) + 1
    with Memory.open(url, config=CONFIG) as new:
        moved = new.import_lines(lines)
        assert (moved.sessions, moved.constraints) == (2, 3)
        for name, owner in (("trip", "ann"), ("work", "bob")):
            before, after = old.session(name, owner=owner), new.session(name, owner=owner)
            assert parts(after) == parts(before)
            assert after.recall("the code") == [] or "7714-B" in after.recall("the code")[0].entry.message.text
        new.wait(30)
        asked = "What is the code?"
        assert (
            new.session("trip", owner="ann").context(asked).messages
            == old.session("trip", owner="ann").context(asked).messages
        )
        again = new.import_lines(lines)
        assert (again.messages, again.constraints) == (0, 0)


def test_one_that_broke_off_is_begun_again(old):
    """Lines that end in the middle are there as far as they came; reading all of them completes it."""
    lines = list(old.export_lines(owner="ann"))
    with Memory.open() as new:
        with pytest.raises(InvalidMessage, match="line 21"):
            new.import_lines([*lines[:20], '{"kind": "message"', *lines[20:]])
        new.import_lines(lines)
        assert parts(new.session("trip", owner="ann")) == parts(old.session("trip", owner="ann"))


def test_a_copy_for_another_owner_stands_beside(old):
    """Imported for another owner into the same database, it is another session with constraints of its own."""
    old.import_lines(list(old.export_lines(owner="ann")), owner="eve")
    eve, ann = old.session("trip", owner="eve"), old.session("trip", owner="ann")
    assert [e.message for e in eve.history()] == [e.message for e in ann.history()]
    assert {c.id for c in eve.constraints(all=True)}.isdisjoint(c.id for c in ann.constraints(all=True))


@pytest.mark.parametrize(
    "line",
    ["", "x", "[]", "{}", '{"kind": "message"}', '{"kind": "session", "format": 99}', "[" * 50_000, '{"kind": 1}'],
)
def test_what_is_no_export_is_refused(line):
    """Any other line is a typed error, or nothing if it is empty."""
    with Memory.open() as memory:
        if line:
            with pytest.raises(InvalidMessage):
                memory.import_lines([line])
        else:
            assert memory.import_lines([line]).sessions == 0


def test_the_commands_move_a_file(old, tmp_path, capsys):
    """`export` writes lines, `import` reads them; a log goes out as an OpenAI-style list in one call."""
    file, url = tmp_path / "out.jsonl", f"sqlite:///{tmp_path / 'new.db'}"
    assert main(["export", "--database", old.url, str(file), "--owner", "ann"]) == 0
    assert all(json.loads(line) for line in file.read_text().strip().split("\n"))
    assert main(["import", "--database", url, str(file)]) == 0
    assert "1 sessions" in capsys.readouterr().out
    assert main(["import", "--database", url, str(tmp_path / "nothing")]) == 1
    messages = openai_messages(old.session("trip", owner="ann").history())
    assert messages[0] == {"role": "user", "content": "Never suggest flights. The code is 7714-B."}
    assert any("tool_calls" in one for one in messages)
