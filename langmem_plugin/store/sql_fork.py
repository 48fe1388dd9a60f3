"""Copying a session as it was at a version into a new one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, Table, func, insert, literal, select, update

from langmem_plugin.errors import VersionConflict
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import constraint_row, to_micros
from langmem_plugin.store.sql_events import constraints_at
from langmem_plugin.store.sql_seals import seal_copies
from langmem_plugin.store.sql_sessions import (
    begin_session,
    head_of,
    note_events,
    prolonged,
    sealing_of,
    session_row,
)


class SqlFork:
    """Branches."""

    _database: SqlDatabase
    _writer: str

    def fork(self, key: SessionKey, to: SessionKey, version: int, *, now: datetime) -> Head:
        """See `Store.fork`."""
        with self._database.write() as connection:
            parent = session_row(connection, key)
            if parent is None or not 0 <= version <= parent["version"]:
                raise VersionConflict(expected=version, actual=0 if parent is None else parent["version"])
            child = begin_session(connection, to, now)
            if child["version"]:
                raise VersionConflict(expected=0, actual=child["version"])
            _copy_log(connection, parent["id"], child["id"], version)
            messages = schema.messages.c
            last = connection.scalar(select(func.max(messages.seq)).where(messages.session_id == child["id"])) or 0
            for table in (schema.postings, schema.embeddings):
                _copy(connection, table, parent["id"], child["id"], table.c.seq <= last)
            _copy(connection, schema.summaries, parent["id"], child["id"], schema.summaries.c.version <= version)
            _copy(connection, schema.events, parent["id"], child["id"], schema.events.c.version <= version)
            seal_copies(connection, parent, child)
            for constraint in constraints_at(connection, key, parent["id"], version, to_micros(now)):
                if constraint.scope == "session":
                    branched = replace(constraint, id=_new_id(constraint.id, to))
                    values = constraint_row(
                        branched, owner=to.owner, session=to.session, sealing=sealing_of(connection)
                    )
                    connection.execute(insert(schema.constraints).values(**values))
            terms = select(func.sum(schema.postings.c.count)).where(schema.postings.c.session_id == child["id"])
            tokens = select(func.sum(messages.tokens)).where(messages.session_id == child["id"])
            connection.execute(
                update(schema.sessions)
                .where(schema.sessions.c.id == child["id"])
                .values(
                    version=version + 1,
                    last_seq=last,
                    documents=last,
                    terms=connection.scalar(terms) or 0,
                    tokens=connection.scalar(tokens) or 0,
                    ttl=parent["ttl"],
                    **prolonged(connection, parent, now),
                    history_tokens=parent["history_tokens"],
                    erased_version=min(parent["erased_version"], version),
                )
            )
            change = ("forked", str(version), "")
            note_events(connection, child["id"], version + 1, [change], writer=self._writer, at=to_micros(now))
            row = session_row(connection, to)
            if row is None:
                raise LookupError("a session that was just made is not there")
            return head_of(row)


def _copy_log(connection: Connection, parent: int, child: int, version: int) -> None:
    _copy(connection, schema.messages, parent, child, schema.messages.c.version <= version)
    turns = schema.turns.c
    _copy(connection, schema.turns, parent, child, (turns.state == "committed") & (turns.version <= version))


def _copy(connection: Connection, table: Table, parent: int, child: int, which: object) -> None:
    """Rows of the parent as the child's; numbers that the database gives are given anew."""
    columns = [column for column in table.columns if column.name not in ("session_id", "id")]
    rows = select(literal(child), *columns).where(table.c.session_id == parent, which).order_by(*table.primary_key)  # type: ignore[arg-type]
    connection.execute(insert(table).from_select(["session_id", *(column.name for column in columns)], rows))


def _new_id(constraint_id: str, to: SessionKey) -> str:
    seed = f"{constraint_id}\0{to.owner}\0{to.session}"
    return "c" + hashlib.sha256(seed.encode()).hexdigest()[:10]
