"""Constraints in SQL: a table that no compression touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, insert, not_, or_, select, update

from langmem_plugin.errors import ConstraintNotFound
from langmem_plugin.messages import dump_json
from langmem_plugin.records import Constraint, ConstraintState, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import constraint_of, constraint_row, seal_of_constraints, to_micros
from langmem_plugin.store.sql_sessions import LIVING, Change, as_owner, moment, new_version, sealing_of, session_row

_TABLE, _SESSIONS = schema.constraints.c, schema.sessions.c
_KEPT_OUT = (
    select(_SESSIONS.id)
    .where(
        _SESSIONS.owner == bindparam("owner"),
        _SESSIONS.session == bindparam("session"),
        _SESSIONS.shares_constraints == 0,
        LIVING,
    )
    .exists()
)
_OVER = (
    select(_SESSIONS.id)
    .where(
        _SESSIONS.owner == bindparam("owner"),
        _SESSIONS.session == bindparam("session"),
        _SESSIONS.expires_at <= bindparam("moment"),
    )
    .exists()
)
# Those of the session, and the owner's unless the session keeps them out (guarantee G7). Made once.
_EVERY = (
    select(schema.constraints)
    .where(
        _TABLE.owner == bindparam("owner"),
        or_(
            and_(_TABLE.session == bindparam("session"), or_(_TABLE.scope == "owner", not_(_OVER))),
            and_(_TABLE.scope == "owner", not_(_KEPT_OUT)),
        ),
    )
    .order_by(_TABLE.position)
)
_ONE = _EVERY.where(_TABLE.id == bindparam("id"))
_ACTIVE = _EVERY.where(_TABLE.state == ConstraintState.ACTIVE.value)
_IN_FORCE = _ACTIVE.where(
    or_(_TABLE.expires_at.is_(None), _TABLE.expires_at > bindparam("now"), _TABLE.pinned != 0),
)
_OPEN = (ConstraintState.ACTIVE, ConstraintState.PROPOSED)


class SqlConstraints:
    """What the user said to hold, in every state."""

    _database: SqlDatabase
    _writer: str

    def constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """See `Store.constraints`."""
        with self._database.read() as connection:
            return _read(connection, key)

    def active_constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """See `Store.active_constraints`."""
        with self._database.read() as connection:
            return _read(connection, key, _ACTIVE)

    def add_constraint(self, key: SessionKey, constraint: Constraint) -> Constraint:
        """See `Store.add_constraint`."""
        with self._database.write() as connection:
            session_row(connection, key)
            for held in _read(connection, key):
                if held.id == constraint.id:  # a call that was tried again
                    return held
            changes = [_change(constraint)]
            _, version = new_version(connection, key, constraint.created_at, changes, self._writer)
            return _insert(connection, key, constraint, version)

    def end_constraint(
        self,
        key: SessionKey,
        constraint_id: str,
        state: ConstraintState,
        *,
        by: str | None = None,
        now: datetime | None = None,
    ) -> Constraint:
        """See `Store.end_constraint`."""
        with self._database.write() as connection:
            constraint = _one(connection, key, constraint_id)
            if constraint.state is state:
                return constraint
            changes = [("constraint", constraint_id, state.value)]
            _, version = new_version(connection, key, now or datetime.now(UTC), changes, self._writer)
            return _end(connection, constraint, state, version, by=by)

    def replace_constraint(self, key: SessionKey, constraint_id: str, new: Constraint) -> tuple[Constraint, Constraint]:
        """See `Store.replace_constraint`."""
        with self._database.write() as connection:
            session_row(connection, key)
            old = _one(connection, key, constraint_id)
            for held in _read(connection, key):
                if held.id == new.id:  # a call that was tried again
                    return old, held
            changes = [_change(new), ("constraint", old.id, ConstraintState.SUPERSEDED.value)]
            _, version = new_version(connection, key, new.created_at, changes, self._writer)
            kept = _insert(connection, key, new, version)
            return _end(connection, old, ConstraintState.SUPERSEDED, version, by=kept.id), kept

    def mark_constraint(
        self, key: SessionKey, constraint_id: str, *, pinned: bool | None = None, display: str | None = None
    ) -> Constraint:
        """See `Store.mark_constraint`."""
        with self._database.write() as connection:
            constraint = _one(connection, key, constraint_id)
            marked = replace(
                constraint,
                pinned=constraint.pinned if pinned is None else pinned,
                display=constraint.display if display is None else display,
            )
            if marked == constraint:
                return constraint
            changes = [("constraint", constraint_id, constraint.state.value)]
            new_version(connection, key, datetime.now(UTC), changes, self._writer)
            seal = seal_of_constraints(sealing_of(connection), key.owner, marked.session)
            kept = seal.seal(dump_json(marked.display), "constraints", constraint_id, "display")
            connection.execute(
                update(schema.constraints)
                .where(schema.constraints.c.id == constraint_id)
                .values(pinned=int(marked.pinned), display=kept)
            )
        return marked

    def shares_constraints(self, key: SessionKey) -> bool:
        """See `Store.shares_constraints`."""
        with self._database.read() as connection:
            return _shares(connection, key)

    def share_constraints(self, key: SessionKey, *, shared: bool, now: datetime) -> None:
        """See `Store.share_constraints`."""
        with self._database.write() as connection:
            if _shares(connection, key) is shared:
                return
            changes = [("sharing", "owner", str(int(shared)))]
            session_id, _ = new_version(connection, key, now, changes, self._writer)
            sessions = schema.sessions
            connection.execute(
                update(sessions).where(sessions.c.id == session_id).values(shares_constraints=int(shared))
            )

    def refined_upto(self, key: SessionKey) -> int:
        """See `Store.refined_upto`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
            return 0 if row is None else int(row["refined_seq"])

    def save_refined(
        self, key: SessionKey, *, after: int, upto: int, new: Sequence[Constraint], read_at: int
    ) -> tuple[Constraint, ...] | None:
        """See `Store.save_refined`."""
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None or row["refined_seq"] != after or upto > row["last_seq"]:
                return None
            if row["erased_version"] > read_at:
                return None
            held = {constraint.id for constraint in _read(connection, key)}
            fresh = [constraint for constraint in new if constraint.id not in held]
            sessions = schema.sessions
            connection.execute(update(sessions).where(sessions.c.id == row["id"]).values(refined_seq=upto))
            if not fresh:
                return ()
            _, version = new_version(
                connection, key, fresh[0].created_at, list(map(_change, fresh)), self._writer, prolongs=False
            )
            return tuple(_insert(connection, key, constraint, version) for constraint in fresh)


def constraints_in_force(connection: Connection, key: SessionKey, now: datetime) -> tuple[Constraint, ...]:
    """The active constraints at this moment, in creation order; what expired is left out."""
    values = _values(connection, key, now=to_micros(now))
    return _opened(connection, _IN_FORCE, values)


def _read(connection: Connection, key: SessionKey, query: Select[Any] = _EVERY) -> tuple[Constraint, ...]:
    values = _values(connection, key)
    return _opened(connection, query, values)


def _opened(connection: Connection, query: Select[Any], values: dict[str, object]) -> tuple[Constraint, ...]:
    sealing = sealing_of(connection)
    return tuple(constraint_of(row, sealing) for row in connection.execute(query, values).mappings())


def _values(connection: Connection, key: SessionKey, **more: object) -> dict[str, object]:
    as_owner(connection, key.owner)
    return {"owner": key.owner, "session": key.session, "moment": moment(connection), **more}


def _one(connection: Connection, key: SessionKey, constraint_id: str) -> Constraint:
    values = _values(connection, key, id=constraint_id)
    row = connection.execute(_ONE, values).mappings().first()
    if row is None:
        raise ConstraintNotFound(constraint_id)
    return constraint_of(row, sealing_of(connection))


def _insert(connection: Connection, key: SessionKey, constraint: Constraint, version: int) -> Constraint:
    kept = replace(constraint, created_version=version, session=key.session)
    values = constraint_row(kept, owner=key.owner, session=key.session, sealing=sealing_of(connection))
    connection.execute(insert(schema.constraints).values(**values))
    return kept


def _end(
    connection: Connection, constraint: Constraint, state: ConstraintState, version: int, *, by: str | None
) -> Constraint:
    ended = None if state in _OPEN else version
    table = schema.constraints
    connection.execute(
        update(table)
        .where(table.c.id == constraint.id)
        .values(state=state.value, ended_version=ended, superseded_by=by)
    )
    return replace(constraint, state=state, ended_version=ended, superseded_by=by)


def _change(constraint: Constraint) -> Change:
    return ("constraint", constraint.id, constraint.state.value)


def _shares(connection: Connection, key: SessionKey) -> bool:
    row = session_row(connection, key)
    return row is None or bool(row["shares_constraints"])
