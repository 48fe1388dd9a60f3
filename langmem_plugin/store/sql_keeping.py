"""Time to live and lists of sessions and owners, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, not_, or_, select, update

from langmem_plugin.records import ConstraintState, OwnerInfo, SessionInfo, SessionKey, SessionQuery
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import Row, from_micros, micros_of, to_micros
from langmem_plugin.store.sql_sessions import LIVING, as_owner, begin_session, moment, prolonged

_SESSIONS, _CONSTRAINTS = schema.sessions.c, schema.constraints.c
_IN_FORCE = and_(
    _CONSTRAINTS.state == ConstraintState.ACTIVE.value,
    or_(_CONSTRAINTS.expires_at.is_(None), _CONSTRAINTS.expires_at > bindparam("moment"), _CONSTRAINTS.pinned != 0),
)
_STATED_HERE = (
    select(func.count())
    .where(_CONSTRAINTS.owner == _SESSIONS.owner, _CONSTRAINTS.session == _SESSIONS.session, _IN_FORCE)
    .correlate(schema.sessions)
    .scalar_subquery()
)
_COLUMNS = (
    _SESSIONS.owner,
    _SESSIONS.session,
    _SESSIONS.version,
    _SESSIONS.last_seq,
    _SESSIONS.tokens,
    _SESSIONS.created_at,
    _SESSIONS.updated_at,
    _SESSIONS.ttl,
    _SESSIONS.expires_at,
    _STATED_HERE.label("constraints"),
)
_ENDED = (
    select(_SESSIONS.id)
    .where(_SESSIONS.owner == _CONSTRAINTS.owner, _SESSIONS.session == _CONSTRAINTS.session, not_(LIVING))
    .correlate(schema.constraints)
    .exists()
)
_HOLDING = (
    select(_SESSIONS.session)
    .where(
        _SESSIONS.owner == bindparam("owner"),
        LIVING,
        select(schema.postings.c.seq)
        .where(
            schema.postings.c.session_id == _SESSIONS.id,
            schema.postings.c.term.in_(bindparam("terms", expanding=True)),
        )
        .correlate(schema.sessions)
        .exists(),
    )
    .order_by(_SESSIONS.id)
)
_NO_LIMIT = 2**31


class SqlKeeping:
    """What is kept, for whom, and until when."""

    _database: SqlDatabase

    def set_ttl(self, key: SessionKey, ttl: timedelta | None, *, now: datetime) -> None:
        """See `Store.set_ttl`."""
        with self._database.write() as connection:
            row = begin_session(connection, key, now)
            values = {"ttl": None if ttl is None else micros_of(ttl)}
            lives = prolonged(connection, {**row, **values}, now)
            lives["updated_at"] = row["updated_at"]
            connection.execute(
                update(schema.sessions).where(schema.sessions.c.id == row["id"]).values(**values, **lives)
            )

    def session_infos(self, query: SessionQuery) -> list[SessionInfo]:
        """See `Store.session_infos`."""
        order: ColumnElement[Any] = {
            "created": _SESSIONS.created_at,
            "updated": _SESSIONS.updated_at,
            "name": self._database.by_bytes(_SESSIONS.session),
        }[query.order]
        wanted = select(*_COLUMNS).where(_SESSIONS.expires_at <= bindparam("moment") if query.expired else LIVING)
        if query.owner is not None:
            wanted = wanted.where(_SESSIONS.owner == query.owner)
        if query.session is not None:
            wanted = wanted.where(_SESSIONS.session == query.session)
        if query.prefix:
            wanted = wanted.where(_begins(_SESSIONS.session, query.prefix))
        if query.since is not None:
            wanted = wanted.where(_SESSIONS.updated_at >= to_micros(query.since))
        if query.until is not None:
            wanted = wanted.where(_SESSIONS.updated_at < to_micros(query.until))
        wanted = wanted.order_by(order.desc() if query.newest_first else order, _SESSIONS.id)
        wanted = wanted.limit(_NO_LIMIT if query.limit is None else query.limit).offset(query.offset)
        with self._database.read() as connection:
            as_owner(connection, query.owner)
            rows = connection.execute(wanted, {"moment": moment(connection)}).mappings()
            return [_info(row) for row in rows]

    def holding(self, *, owner: str, terms: Sequence[str]) -> list[SessionKey]:
        """See `Store.holding`."""
        with self._database.read() as connection:
            as_owner(connection, owner)
            values = {"owner": owner, "terms": list(terms), "moment": moment(connection)}
            return [SessionKey(owner, session) for session in connection.scalars(_HOLDING, values)]

    def owner_infos(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> list[OwnerInfo]:
        """See `Store.owner_infos`."""
        in_sessions = (
            select(
                _SESSIONS.owner.label("owner"),
                func.count().label("sessions"),
                func.sum(_SESSIONS.last_seq).label("messages"),
                func.sum(_SESSIONS.tokens).label("tokens"),
                func.max(_SESSIONS.updated_at).label("updated_at"),
            )
            .where(LIVING)
            .group_by(_SESSIONS.owner)
            .subquery()
        )
        stated = (
            select(_CONSTRAINTS.owner.label("owner"), func.count().label("constraints"))
            .where(_IN_FORCE, or_(_CONSTRAINTS.scope == "owner", not_(_ENDED)))
            .group_by(_CONSTRAINTS.owner)
            .subquery()
        )
        names = select(in_sessions.c.owner).union(select(stated.c.owner)).subquery()
        wanted = (
            select(
                names.c.owner,
                in_sessions.c.sessions,
                in_sessions.c.messages,
                in_sessions.c.tokens,
                in_sessions.c.updated_at,
                stated.c.constraints,
            )
            .outerjoin(in_sessions, in_sessions.c.owner == names.c.owner)
            .outerjoin(stated, stated.c.owner == names.c.owner)
            .order_by(self._database.by_bytes(names.c.owner))
            .limit(_NO_LIMIT if limit is None else limit)
            .offset(offset)
        )
        if prefix:
            wanted = wanted.where(_begins(names.c.owner, prefix))
        with self._database.read() as connection:
            as_owner(connection, None)
            return [
                OwnerInfo(
                    owner=row["owner"],
                    sessions=row["sessions"] or 0,
                    messages=int(row["messages"] or 0),
                    tokens=int(row["tokens"] or 0),
                    constraints=row["constraints"] or 0,
                    updated_at=None if row["updated_at"] is None else from_micros(row["updated_at"]),
                )
                for row in connection.execute(wanted, {"moment": moment(connection)}).mappings()
            ]


def _begins(column: ColumnElement[str], prefix: str) -> ColumnElement[bool]:
    return func.substr(column, 1, len(prefix)) == prefix


def _info(row: Row) -> SessionInfo:
    ttl, expires = row["ttl"], row["expires_at"]
    return SessionInfo(
        owner=row["owner"],
        session=row["session"],
        version=row["version"],
        messages=row["last_seq"],
        tokens=row["tokens"],
        constraints=row["constraints"],
        created_at=from_micros(row["created_at"]),
        updated_at=from_micros(row["updated_at"]),
        ttl=None if ttl is None else timedelta(microseconds=ttl),
        expires_at=None if expires is None else from_micros(expires),
    )
