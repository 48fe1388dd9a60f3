"""Sealing rows anew in SQL: copies of a branch, and all of an owner's when the key changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Table, bindparam, literal, not_, select, update

from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import Row, opened_constraint, seal_of_constraints
from langmem_plugin.store.sealing import MARK, Resealed, Sealing, SessionSeal
from langmem_plugin.store.sql_sessions import as_owner, seal_of, sealing_of

_CLEAN_MS = 100
"""Writers wait while the write-ahead log is emptied; if readers are in the way, it is emptied later."""
_PARTS: tuple[tuple[Table, str, tuple[str, ...]], ...] = (
    (schema.messages, "body", ("seq",)),
    (schema.staged, "body", ("turn_id", "position")),
    (schema.turns, "attachment", ("turn_id",)),
    (schema.summaries, "text", ("upto_seq", "version")),
)
"""Of a session: table, the column that is sealed, and what of a row the seal is bound to."""


class SqlSeals:
    """Who reads what is stored: whoever has the owner's key."""

    _database: SqlDatabase

    @property
    def sealing(self) -> Sealing:
        """See `Seals.sealing`."""
        return self._database.sealing

    def reseal(self, owner: str, *, after: Sequence[Any] = (), limit: int) -> Resealed:
        """See `Seals.reseal`."""
        sessions = schema.sessions.c
        with self._database.write() as connection:
            as_owner(connection, owner)
            now = self.sealing.current(owner)
            if not after:
                return Resealed(_constraints(connection, owner, now, limit=limit), (-1, 0))
            if after[0] == -1:
                done = _constraints(connection, owner, now, limit=limit)
                if done:
                    return Resealed(done, (-1, 0))
            session_id, part, *row = after
            query = select(schema.sessions).where(sessions.owner == owner, sessions.id >= session_id)
            session = connection.execute(query.order_by(sessions.id).limit(1).with_for_update()).mappings().first()
            if session is None:
                return Resealed(0, None)
            if session["id"] != session_id:
                part, row = 0, []
            done, last = _session_part(connection, session, part, now, from_row=row[0] if row else None, limit=limit)
            if last is not None:
                return Resealed(done, (session["id"], part, last))
            part += 1
            return Resealed(done, (session["id"], part) if part < len(_PARTS) else (session["id"] + 1, 0))

    def drop_keys(self, owner: str) -> int | None:
        """See `Seals.drop_keys`."""
        with self._database.write() as connection:
            as_owner(connection, owner)
            self._database.hold_sessions(connection)
            for table in (schema.sessions, schema.constraints):
                if connection.scalar(select(literal(1)).where(table.c.owner == owner).limit(1)):
                    return None
            return 0 if self.sealing.ring is None else self.sealing.ring.destroy(owner)

    def settle(self, *, clean: bool = False) -> None:
        """See `Seals.settle`."""
        self._database.settle()
        if clean:
            self._database.checkpoint(patience_ms=_CLEAN_MS)


def seal_copies(connection: Connection, parent: Row, child: Row) -> None:
    """Bind what a branch copied to the branch."""
    before, after = seal_of(connection, parent), seal_of(connection, child)
    for table, name, place in _PARTS:
        column = table.c[name]
        rows = connection.execute(
            select(table).where(table.c.session_id == child["id"], column.startswith(MARK, autoescape=True))
        )
        _put(connection, table, name, place, rows.mappings().all(), before, after)


def _session_part(
    connection: Connection, session: Row, part: int, now: str, *, from_row: Any, limit: int
) -> tuple[int, Any]:
    """How many rows of a table were sealed anew, and the last one's place; no place once there are no more."""
    table, name, place = _PARTS[part]
    column, order = table.c[name], _order(table)
    query = select(table).where(
        table.c.session_id == session["id"], column.is_not(None), not_(column.startswith(now, autoescape=True))
    )
    if from_row is not None:
        query = query.where(order >= from_row)
    rows = connection.execute(query.order_by(order).limit(limit)).mappings().all()
    seal = seal_of(connection, session)
    _put(connection, table, name, place, rows, seal, seal)
    return len(rows), rows[-1][order.name] if len(rows) == limit else None


def _constraints(connection: Connection, owner: str, now: str, *, limit: int) -> int:
    table = schema.constraints
    new = table.c.text.startswith(now, autoescape=True) & table.c.display.startswith(now, autoescape=True)
    query = select(table).where(table.c.owner == owner, not_(new)).order_by(table.c.position).limit(limit)
    sealing = sealing_of(connection)
    rows = connection.execute(query.with_for_update()).mappings().all()
    for row in rows:
        text, display = opened_constraint(row, sealing)
        seal = seal_of_constraints(sealing, owner, row["session"])
        values = {
            "text": seal.seal(text, "constraints", row["id"], "text"),
            "display": seal.seal(display, "constraints", row["id"], "display"),
        }
        connection.execute(update(table).where(table.c.position == row["position"]).values(**values))
    return len(rows)


def _put(
    connection: Connection,
    table: Table,
    name: str,
    place: Sequence[str],
    rows: Sequence[RowMapping],
    before: SessionSeal,
    after: SessionSeal,
) -> None:
    """Seal a column of rows anew."""
    if not rows:
        return
    mine = [column == bindparam(f"at_{column.name}") for column in table.primary_key]
    values = []
    for row in rows:
        where = [row[one] for one in place]
        text = after.seal(before.open(row[name], table.name, *where), table.name, *where)
        values.append({"sealed": text, **{f"at_{column.name}": row[column.name] for column in table.primary_key}})
    connection.execute(update(table).where(*mine).values({name: bindparam("sealed")}), values)


def _order(table: Table) -> Column[Any]:
    """What a table's rows of one session are gone through by."""
    return next(column for column in table.primary_key if column.name != "session_id")
