"""A database of an earlier release is brought to this one's schema, and nothing in it is lost."""

from __future__ import annotations

import sqlite3

from sqlalchemy import create_engine, inspect

from langmem_plugin import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.store import schema
from langmem_plugin.store.migrations import MIGRATIONS


def undo(path):
    """Make a database of the first schema of one of today's."""
    with sqlite3.connect(path) as connection:
        connection.executescript(
            """
            ALTER TABLE sessions DROP COLUMN erased_version;
            ALTER TABLE messages DROP COLUMN forgotten_version;
            DROP TABLE tombstones;
            DROP TABLE access_keys;
            ALTER TABLE turns DROP COLUMN holder;
            ALTER TABLE turns DROP COLUMN held_until;
            DROP TABLE events;
            ALTER TABLE sessions DROP COLUMN refined_seq;
            ALTER TABLE sessions DROP COLUMN shares_constraints;
            ALTER TABLE sessions DROP COLUMN worked_version;
            ALTER TABLE constraints DROP COLUMN pinned;
            ALTER TABLE constraints DROP COLUMN display;
            ALTER TABLE sessions DROP COLUMN updated_at;
            ALTER TABLE sessions DROP COLUMN tokens;
            ALTER TABLE sessions DROP COLUMN ttl;
            ALTER TABLE sessions DROP COLUMN expires_at;
            ALTER TABLE summaries DROP COLUMN judged;
            UPDATE meta SET value = '1' WHERE key = 'schema';
            """
        )
    connection.close()


def shape(path):
    """Tables and their columns."""
    engine = create_engine(f"sqlite:///{path}")
    try:
        found = inspect(engine)
        return {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
    finally:
        engine.dispose()


def test_the_first_schema_is_brought_to_the_newest(tmp_path):
    """An old database opens, holds what it held, has the columns of a new one, and works."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    for path in (old, new):
        with Memory.open(f"sqlite:///{path}") as memory:
            memory.session("s", owner="ann").add("I live in Lyon.", assistant("Noted."))
    undo(old)
    assert shape(old) != shape(new)
    with Memory.open(f"sqlite:///{new}") as memory:
        info = memory.session("s", owner="ann").info
    with Memory.open(f"sqlite:///{old}") as memory:
        was = memory.session("s", owner="ann").info
        assert (was.tokens, was.updated_at - was.created_at) == (info.tokens, info.updated_at - info.created_at)
        session = memory.session("s", owner="ann")
        assert [entry.message.text for entry in session.history()] == ["I live in Lyon.", "Noted."]
        assert session.forget(1).complete
    assert shape(old) == shape(new)


def test_steps_lead_to_the_schema_one_by_one():
    """Steps have names, follow one another and end at what this release writes."""
    assert [step.to for step in MIGRATIONS] == list(range(2, schema.SCHEMA + 1))
    assert all(step.name for step in MIGRATIONS)
