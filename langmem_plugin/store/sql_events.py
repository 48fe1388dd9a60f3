"""The audit trail in SQL, and a session as it was at an earlier version (guarantee G12)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, func, or_, select

from langmem_plugin.records import Constraint, ConstraintState, Event, Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.protocol import KeywordStats, Snapshot
from langmem_plugin.store.rows import constraint_of, from_micros, summary_of, to_micros
from langmem_plugin.store.sql_log import read_entries
from langmem_plugin.store.sql_sessions import EMPTY_HEAD, seal_of, sealing_of, session_row


class SqlEvents:
    """Who changed what, and what stood when."""

    _database: SqlDatabase

    def events(self, key: SessionKey, *, after: int = 0) -> list[Event]:
        """See `Store.events`."""
        table = schema.events.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return []
            query = select(schema.events).where(table.session_id == row["id"], table.version > after)
            return [
                Event(
                    version=one["version"],
                    kind=one["kind"],
                    ref=one["ref"],
                    detail=one["detail"],
                    writer=one["writer"],
                    at=from_micros(one["at"]),
                )
                for one in connection.execute(query.order_by(table.version, table.place)).mappings()
            ]

    def snapshot_at(self, key: SessionKey, version: int, *, moment: datetime | None = None) -> Snapshot | None:
        """See `Store.snapshot_at`."""
        messages, summaries = schema.messages.c, schema.summaries.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return None if version else Snapshot(head=EMPTY_HEAD, generation=(0, 0), constraints=(), summary=None)
            if not 0 <= version <= row["version"]:
                return None
            session_id = row["id"]
            micros = _made_at(connection, session_id, version) if moment is None else to_micros(moment)
            mine = (messages.session_id == session_id) & (messages.version <= version)
            last = connection.scalar(select(func.max(messages.seq)).where(mine)) or 0
            query = (
                select(schema.summaries)
                .where(summaries.session_id == session_id, summaries.version <= version)
                .order_by(summaries.upto_seq.desc(), summaries.id.desc())
                .limit(1)
            )
            shown = connection.execute(query).mappings().first()
            summary = None if shown is None else summary_of(shown, seal_of(connection, row))
            return Snapshot(
                head=Head(version=version, last_seq=last, history_tokens=0, erased=row["erased_version"]),
                generation=(session_id, row["erased_version"]),
                constraints=constraints_at(connection, key, session_id, version, micros),
                summary=summary,
                entries=tuple(read_entries(connection, row, after=summary.upto_seq if summary else 0, upto=last)),
                moment=from_micros(micros),
            )

    def keyword_stats_at(self, key: SessionKey, last_seq: int) -> KeywordStats:
        """The keyword index's figures when the log ended there."""
        table = schema.postings.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return KeywordStats(0, 0)
            query = select(func.sum(table.count)).where(table.session_id == row["id"], table.seq <= last_seq)
            length = int(connection.scalar(query) or 0)
            return KeywordStats(last_seq, length, (row["id"], row["erased_version"]))


def constraints_at(
    connection: Connection, key: SessionKey, session_id: int, version: int, micros: int
) -> tuple[Constraint, ...]:
    """The constraints in force at a version of the session; those of the owner's other sessions by time."""
    table, events = schema.constraints.c, schema.events.c
    query = (
        select(schema.constraints, schema.sessions.c.id.label("said_in"))
        .outerjoin(
            schema.sessions,
            (schema.sessions.c.owner == table.owner) & (schema.sessions.c.session == table.session),
        )
        .where(table.owner == key.owner, or_(table.session == key.session, table.scope == "owner"))
        .order_by(table.position)
    )
    rows = connection.execute(query).mappings().all()
    states: dict[str, str] = {}
    known: set[str] = set()
    trail = (
        select(events.session_id, events.version, events.at, events.ref, events.detail, events.kind)
        .join(schema.sessions, schema.sessions.c.id == events.session_id)
        .where(schema.sessions.c.owner == key.owner, events.kind.in_(("constraint", "sharing")))
        .order_by(events.at, events.version, events.place)
    )
    shared = True
    for where, made, at, ref, state, kind in connection.execute(trail):
        if kind == "sharing":
            if where == session_id and made <= version:
                shared = state == "1"
            continue
        known.add(ref)
        if made <= version if where == session_id else at <= micros:
            states[ref] = state
    found = []
    sealing = sealing_of(connection)
    for row in rows:
        constraint = constraint_of(row, sealing)
        if constraint.session != key.session and not shared:
            continue
        if constraint.id in known:
            active = states.get(constraint.id) == ConstraintState.ACTIVE
        elif row["said_in"] == session_id:  # written before there was a trail
            ended = constraint.ended_version
            active = constraint.created_version <= version and (ended is None or ended > version)
        else:
            active = to_micros(constraint.created_at) <= micros and constraint.state is ConstraintState.ACTIVE
        expires = row["expires_at"]
        if active and (expires is None or expires > micros or constraint.pinned):
            found.append(replace(constraint, state=ConstraintState.ACTIVE, ended_version=None, superseded_by=None))
    return tuple(found)


def _made_at(connection: Connection, session_id: int, version: int) -> int:
    """When a version was made, in microseconds; 0 for version 0."""
    events, turns = schema.events.c, schema.turns.c
    found = connection.scalar(
        select(func.max(events.at)).where(
            events.session_id == session_id, events.version <= version, events.kind != "summary"
        )
    )
    if found is None:
        found = connection.scalar(
            select(func.max(turns.ended_at)).where(turns.session_id == session_id, turns.version <= version)
        )
    return int(found or 0)
