"""A session's row in SQL: found, made, and counted on by each change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, or_, select, text, tuple_, update

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.bulk import insert_many
from langmem_plugin.store.rows import Row, micros_of, to_micros
from langmem_plugin.store.sealing import Sealing, SessionSeal

# Made once: to make a statement takes longer than SQLite takes to answer it.
_SESSION = select(schema.sessions).where(
    schema.sessions.c.owner == bindparam("owner"), schema.sessions.c.session == bindparam("session")
)
_LOCKED = _SESSION.with_for_update()
"""For writing, where writers do not wait for each other anyway."""

_HELD = (
    select(schema.sessions)
    .where(tuple_(schema.sessions.c.owner, schema.sessions.c.session).in_(bindparam("pairs", expanding=True)))
    .order_by(schema.sessions.c.id)
    .with_for_update()
)

LIVING = or_(schema.sessions.c.expires_at.is_(None), schema.sessions.c.expires_at > bindparam("moment"))
"""Sessions whose time is not over."""

# Another process may make it at the same moment.
_NEW_SESSION = text(
    "INSERT INTO sessions (owner, session, version, last_seq, history_tokens, documents, terms, erased_version, "
    "tokens, created_at, updated_at, ttl, expires_at) VALUES (:owner, :session, :version, 0, 0, 0, 0, 0, "
    "0, :created_at, :created_at, :ttl, :expires_at) ON CONFLICT DO NOTHING"
)

_NOTE = text("INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT DO NOTHING")
VECTORS_LEFT = "vectors_left"
"""A row of meta: vectors of a session that ended in a write may still be in an index."""

_CHILDREN = (
    schema.events,
    schema.postings,
    schema.embeddings,
    schema.summaries,
    schema.staged,
    schema.messages,
    schema.turns,
)

_FOR_OWNER = text("SELECT set_config('app.owner', :owner, true)")

Change: TypeAlias = tuple[str, str, str]
"""Kind, reference and detail of a row of the audit trail."""

EMPTY_HEAD = Head(version=0, last_seq=0, history_tokens=0)
"""A session that nobody wrote to."""


def session_row(connection: Connection, key: SessionKey) -> RowMapping | None:
    """The session's row; None if there is none, or if its time is over."""
    row = held_row(connection, key)
    return None if row is None or is_over(connection, row) else row


def sealing_of(connection: Connection) -> Sealing:
    """What this store seals with."""
    sealing: Sealing = connection.get_execution_options()["langmem_sealing"]
    return sealing


def seal_of(connection: Connection, row: Row) -> SessionSeal:
    """What seals and opens the rows of this session."""
    return SessionSeal(sealing_of(connection), row["owner"], row["session"], row["id"])


def moment(connection: Connection) -> int:
    """The present by the store's clock, in microseconds."""
    return to_micros(connection.get_execution_options()["langmem_clock"]())


def is_over(connection: Connection, row: Row) -> bool:
    """Whether the session's time to live is over; nothing of it is read any more, whether it was swept or not."""
    return row["expires_at"] is not None and row["expires_at"] <= moment(connection)


def prolonged(connection: Connection, row: Row, now: datetime) -> dict[str, int | None]:
    """The columns that say when a session was written to and until when it lives, as a write at `now` leaves them.

    Its life is counted by the store's clock, so that an import of old messages does not end at once.
    """
    ttl = row["ttl"]
    return {"updated_at": to_micros(now), "expires_at": None if ttl is None else moment(connection) + ttl}


def as_owner(connection: Connection, owner: str | None) -> None:
    """Say whose rows the transaction is about, where the database holds back everybody else's.

    Raises:
        InvalidSetting: It is about everybody's, and only one owner's can be seen.
    """
    if not connection.get_execution_options().get("langmem_by_owner", False):
        return
    if owner is None:
        want = (
            "row-level security shows one owner's rows: name one, or open the memory as the role that owns the tables"
        )
        raise InvalidSetting("owner", owner, want)
    connection.execute(_FOR_OWNER, {"owner": owner})


def held_row(connection: Connection, key: SessionKey) -> RowMapping | None:
    """The one place where owner and session become a row, over or not (guarantee G7)."""
    as_owner(connection, key.owner)
    options = connection.get_execution_options()
    rows: dict[SessionKey, RowMapping | None] | None = options.get("langmem_rows")
    if rows is not None and key in rows:  # one transaction, one answer
        return rows[key]
    query = _LOCKED if options.get("langmem_write", False) else _SESSION
    row = connection.execute(query, {"owner": key.owner, "session": key.session}).mappings().first()
    if rows is not None:
        rows[key] = row
    return row


def held_rows(connection: Connection, keys: Sequence[SessionKey]) -> dict[SessionKey, Row]:
    """The rows of several sessions, over or not, held in one order; of one owner where rows are held back."""
    as_owner(connection, keys[0].owner)
    rows = connection.execute(_HELD, {"pairs": [(key.owner, key.session) for key in keys]}).mappings()
    return {SessionKey(row["owner"], row["session"]): row for row in rows}


def subject_of(connection: Connection, key: SessionKey) -> str:
    """What stands for a session in its tombstone: it names nobody, and differs between databases."""
    return _subject(_instance(connection), key)


def _instance(connection: Connection) -> str:
    return str(connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "instance")))


def _subject(instance: str, key: SessionKey) -> str:
    parts = [part.encode() for part in (instance, key.owner, key.session)]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()


def new_version(
    connection: Connection,
    key: SessionKey,
    now: datetime,
    changes: Sequence[Change],
    writer: str,
    *,
    prolongs: bool = True,
) -> tuple[int, int]:
    """Count one more version; gives the session's row id and its new version.

    Args:
        connection: That writes.
        key: The session.
        now: The present moment.
        changes: What made the version.
        writer: Who changed it.
        prolongs: Whether the session lives on from now; not for what is made behind it.
    """
    row = begin_session(connection, key, now)
    version = row["version"] + 1
    lives = prolonged(connection, row, now) if prolongs else {}
    connection.execute(
        update(schema.sessions).where(schema.sessions.c.id == row["id"]).values(version=version, **lives)
    )
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
    insert_many(connection, schema.events, event_rows(session_id, version, changes, writer=writer, at=at))


def event_rows(
    session_id: int, version: int, changes: Iterable[Change], *, writer: str, at: int
) -> list[dict[str, Any]]:
    """The trail's rows for the changes that made a version."""
    return [
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


def begin_session(connection: Connection, key: SessionKey, now: datetime) -> RowMapping:
    """The session's row, made if there is none; one whose time is over begins anew."""
    row = held_row(connection, key)
    if row is not None and not is_over(connection, row):
        return row
    if row is not None:
        end_session(connection, row, now)
    tombs = schema.tombstones.c
    query = select(tombs.version, tombs.ttl).where(tombs.subject == subject_of(connection, key))
    tomb = connection.execute(query).first()
    ttl = None if tomb is None else tomb.ttl
    if ttl is None and (general := connection.get_execution_options()["langmem_ttl"]) is not None:
        ttl = micros_of(general)
    connection.execute(
        _NEW_SESSION,
        {
            "owner": key.owner,
            "session": key.session,
            "created_at": to_micros(now),
            "version": 0 if tomb is None else tomb.version,
            "ttl": ttl,
            "expires_at": None if ttl is None else moment(connection) + ttl,
        },
    )
    row = held_row(connection, key)
    if row is None:
        raise LookupError("a session that was just made is not there")
    return row


def end_session(connection: Connection, row: Row, now: datetime) -> None:
    """Delete a session whose time is over and that somebody writes to again, before the sweep saw it."""
    table, vectors = schema.constraints.c, schema.embeddings.c
    mine = (table.owner == row["owner"]) & (table.session == row["session"]) & (table.scope == "session")
    connection.execute(delete(schema.constraints).where(mine))
    if connection.scalar(select(vectors.seq).where(vectors.session_id == row["id"]).limit(1)) is not None:
        connection.execute(_NOTE, {"key": VECTORS_LEFT, "value": "1"})
    drop_sessions(connection, [row], now=to_micros(now))


def drop_sessions(connection: Connection, rows: Sequence[Row], *, now: int) -> None:
    """Delete the rows of at most some hundred sessions; tombstones keep versions, for later ones to go on from."""
    numbers, instance = [row["id"] for row in rows], _instance(connection)
    for child in _CHILDREN:
        connection.execute(delete(child).where(child.c.session_id.in_(numbers)))
    connection.execute(delete(schema.sessions).where(schema.sessions.c.id.in_(numbers)))
    table = schema.tombstones
    tombs = [
        {
            "subject": _subject(instance, SessionKey(row["owner"], row["session"])),
            "version": row["version"] + 1,
            "last_seq": row["last_seq"],
            "forgotten_at": now,
            "ttl": row["ttl"],
        }
        for row in rows
    ]
    connection.execute(delete(table).where(table.c.subject.in_([tomb["subject"] for tomb in tombs])))
    connection.execute(insert(table), tombs)


def head_of(row: Row, *, first_seq: int = 0) -> Head:
    """Where the session of this row stands; `first_seq` of the turn that was just committed."""
    return Head(
        version=row["version"],
        last_seq=row["last_seq"],
        history_tokens=row["history_tokens"],
        first_seq=first_seq,
        erased=row["erased_version"],
        tokens=row["tokens"],
    )
