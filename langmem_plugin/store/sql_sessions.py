"""A session's row in SQL: found, made, and counted on by each change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypeAlias

from sqlalchemy import Connection, RowMapping, bindparam, insert, select, text, update

from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.rows import Row, to_micros

# Made once: to make a statement takes longer than SQLite takes to answer it.
_SESSION = select(schema.sessions).where(
    schema.sessions.c.owner == bindparam("owner"), schema.sessions.c.session == bindparam("session")
)
_LOCKED = _SESSION.with_for_update()
"""For writing, where writers do not wait for each other anyway."""

# Another process may make it at the same moment.
_NEW_SESSION = text(
    "INSERT INTO sessions (owner, session, version, last_seq, history_tokens, documents, terms, erased_version, "
    "created_at) VALUES (:owner, :session, :version, 0, 0, 0, 0, 0, :created_at) ON CONFLICT DO NOTHING"
)

Change: TypeAlias = tuple[str, str, str]
"""Kind, reference and detail of a row of the audit trail."""

EMPTY_HEAD = Head(version=0, last_seq=0, history_tokens=0)
"""A session that nobody wrote to."""


def session_row(connection: Connection, key: SessionKey) -> RowMapping | None:
    """The one place where owner and session become a row (guarantee G7)."""
    options = connection.get_execution_options()
    rows: dict[SessionKey, RowMapping | None] | None = options.get("langmem_rows")
    if rows is not None and key in rows:  # one transaction, one answer
        return rows[key]
    query = _LOCKED if options.get("langmem_write", False) else _SESSION
    row = connection.execute(query, {"owner": key.owner, "session": key.session}).mappings().first()
    if rows is not None:
        rows[key] = row
    return row


def subject_of(connection: Connection, key: SessionKey) -> str:
    """What stands for a session in its tombstone: it names nobody, and differs between databases."""
    instance = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "instance"))
    parts = [part.encode() for part in (str(instance), key.owner, key.session)]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


def new_version(
    connection: Connection, key: SessionKey, now: datetime, changes: Sequence[Change], writer: str
) -> tuple[int, int]:
    """Count one more version; gives the session's row id and its new version."""
    row = begin_session(connection, key, now)
    version = row["version"] + 1
    connection.execute(update(schema.sessions).where(schema.sessions.c.id == row["id"]).values(version=version))
    note_events(connection, row["id"], version, changes, writer=writer, at=to_micros(now))
    return row["id"], version


def note_events(
    connection: Connection,
    session_id: int,
    version: int,
    changes: Iterable[Change],
    *,
    writer: str,
    at: int,
) -> None:
    """Add the changes that made a version to the trail."""
    rows = [
        {
            "session_id": session_id,
            "version": version,
            "place": place,
            "kind": kind,
            "ref": ref,
            "detail": detail,
            "writer": writer,
            "at": at,
        }
        for place, (kind, ref, detail) in enumerate(changes)
    ]
    connection.execute(insert(schema.events), rows)


def begin_session(connection: Connection, key: SessionKey, now: datetime) -> RowMapping:
    """The session's row, made if there is none."""
    row = session_row(connection, key)
    if row is not None:
        return row
    query = select(schema.tombstones.c.version).where(schema.tombstones.c.subject == subject_of(connection, key))
    connection.execute(
        _NEW_SESSION,
        {
            "owner": key.owner,
            "session": key.session,
            "created_at": to_micros(now),
            "version": connection.scalar(query) or 0,
        },
    )
    row = session_row(connection, key)
    if row is None:
        raise LookupError("a session that was just made is not there")
    return row


def head_of(row: Row) -> Head:
    """Where the session of this row stands."""
    return Head(
        version=row["version"],
        last_seq=row["last_seq"],
        history_tokens=row["history_tokens"],
        erased=row["erased_version"],
    )
