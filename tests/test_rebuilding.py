"""What is derived is checked against the log and comes back from it (guarantee G10)."""

import json

import pytest
from sqlalchemy import delete, update

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.cli import main
from langmem_plugin.config import RecallConfig
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import assistant, user
from langmem_plugin.store import schema
from langmem_plugin.store.sql import SqlStore

CONFIG = MemoryConfig(budget=Budget(max_tokens=600, completion=0))


def fill(memory, session_id="s", owner="ann"):
    """A session with constraints of every fate, a summary, and a forgotten message."""
    session = memory.session(session_id, owner=owner)
    session.add(user("Never use Python. I am allergic to peanuts."), assistant("Noted."))
    session.add(user("My daughter Mia starts school on Monday."), assistant("Good luck to Mia!"))
    session.add(user("Actually, Python is fine now."), assistant("All right."))
    session.add(user("Always answer in French."), assistant("D'accord."))
    french = next(one for one in session.constraints() if "French" in one.text)
    session.revoke(french.id)
    for turn in range(20):
        session.add(user(f"Tell me about the harbour of town {turn}, please."), assistant("It is deep. " * 12))
    session.forget(message=4)
    memory.wait()
    return session


def kept(session):
    return {(c.id, c.text, c.state, c.scope, c.seq, c.superseded_by) for c in session.constraints(all=True)}


@pytest.fixture
def memory(tmp_path):
    with Memory.open(f"sqlite:///{tmp_path / 'm.db'}", config=CONFIG) as memory:
        yield memory


def drop(memory, *tables):
    store = memory._engine.store
    assert isinstance(store, SqlStore)
    with store.database.write() as connection:
        for table in tables:
            connection.execute(delete(table))


def test_what_is_dropped_comes_back(memory):
    """Keywords, constraints with their fates, and the summary are as before after they were dropped and rebuilt."""
    session, other = fill(memory), fill(memory, owner="bob")
    store = memory._engine.store
    before, constraints = store.keywords(session._key, after=0, upto=999), kept(session)
    stats, hits = store.keyword_stats(session._key), session.recall("Which town has the harbour 7?")
    assert memory.verify().sound
    assert len(before) > 40
    assert {state.value for _, _, state, *_ in constraints} >= {"active", "superseded", "revoked"}
    drop(memory, schema.postings, schema.constraints, schema.summaries)
    found = memory.verify()
    assert {(one.owner, one.part) for one in found.differences} == {
        (owner, part) for owner in ("ann", "bob") for part in ("keywords", "constraints")
    }
    done = memory.rebuild(owner="ann")
    memory.wait()
    assert (done.sessions, done.keywords, done.constraints) == (1, len(before), len(constraints))
    assert store.keywords(session._key, after=0, upto=999) == before
    assert store.keyword_stats(session._key) == stats
    assert kept(session) == constraints
    assert session.recall("Which town has the harbour 7?") == hits
    assert store.summaries(session._key)[1] is not None
    assert {one.owner for one in memory.verify().differences} == {"bob"}
    memory.rebuild("keywords", "constraints")
    assert memory.verify().sound
    assert len(kept(other)) == len(constraints)


def test_a_rebuild_of_what_is_sound_changes_nothing_but_summaries(memory):
    """Nothing is missing, nothing added; constraints that the user changed since stay as the user left them."""
    session = fill(memory)
    session.add_constraint("Be brief.", kind="requirement")
    peanuts = next(one for one in session.constraints() if "peanuts" in one.text)
    session.pin(peanuts.id)
    before, version = kept(session), session.version
    done = memory.rebuild("keywords", "constraints")
    assert (done.keywords, done.constraints, done.summaries) == (0, 0, 0)
    assert (kept(session), session.version) == (before, version)
    assert memory.rebuild("summaries").summaries > 0
    memory.wait()
    assert memory._engine.store.summaries(session._key)[1] is not None


def test_a_summary_that_another_process_drops_is_written_anew(memory):
    """What was found standing before it was dropped tells nothing any more."""
    session = fill(memory)
    with Memory.open(memory.url, config=CONFIG, background=False) as other:
        assert other.rebuild("summaries").summaries > 0
    assert memory._engine.store.summaries(session._key)[1] is None
    session.add(user("One more."))
    memory.wait()
    assert memory._engine.store.summaries(session._key)[1] is not None


def test_another_language_of_the_keywords_is_a_rebuild_away(tmp_path):
    """A log indexed for one language is found out by another's configuration, and recalled by it after a rebuild."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    english = MemoryConfig(budget=CONFIG.budget, recall=RecallConfig(language="english"))
    with Memory.open(url, config=english) as memory:
        memory.session("s", owner="ann").add(user("Die Häuser am Hafen gehören meinen Schwestern."))
    german = MemoryConfig(budget=CONFIG.budget, recall=RecallConfig(language="german"))
    with Memory.open(url, config=german) as memory:
        assert [one.part for one in memory.verify().differences] == ["keywords"]
        assert memory.rebuild("keywords").keywords == 1
        assert memory.verify().sound
        assert memory.session("s", owner="ann").recall("Haus der Schwester")


def test_damage_to_the_log_is_named(memory):
    """A message that is gone and words that were altered are told, without their text."""
    session = fill(memory)
    store = memory._engine.store
    table = schema.messages
    with store.database.write() as connection:
        connection.execute(delete(table).where(table.c.seq == 9))
        connection.execute(update(schema.constraints).values(text=json.dumps("Always use Python.")))
    found = memory.verify(owner="ann", session="s")
    assert {one.part for one in found.differences} >= {"log", "constraints"}
    assert "Python" not in str(found)
    assert session.context("Hello?").messages


def test_parts_and_names_are_checked(memory):
    """A part that is none, and a session without its owner, are typed errors."""
    with pytest.raises(InvalidSetting, match="keywords"):
        memory.rebuild("postings")
    with pytest.raises(InvalidSetting, match="owner"):
        memory.verify(session="s")
    assert memory.verify(owner="nobody").sound


def test_the_commands_tell_and_mend(tmp_path, capsys):
    """`verify` ends with 1 and names what differs, `rebuild` mends it, and then `verify` ends with 0."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with Memory.open(url, config=CONFIG) as memory:
        fill(memory)
        drop(memory, schema.postings)
    assert main(["verify", "--database", url]) == 1
    assert "ann / s: keywords: of " in capsys.readouterr().out
    assert main(["rebuild", "--database", url, "--part", "keywords"]) == 0
    assert main(["verify", "--database", url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.split("summaries\n", 1)[-1])["sound"] is True
    assert main(["rebuild", "--database", url, "--part", "vectors"]) == 1
