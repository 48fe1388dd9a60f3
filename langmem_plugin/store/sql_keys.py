"""Keys that applications hand out, in SQL."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, insert, select

from langmem_plugin.records import AccessKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import Row, from_micros, to_micros

_TABLE = schema.access_keys


class SqlKeys:
    """Who may open what."""

    _database: SqlDatabase

    def add_key(self, access: AccessKey) -> None:
        """See `Store.add_key`."""
        values = {
            "id": access.id,
            "owner": access.owner,
            "session": access.session,
            "digest": access.digest,
            "created_at": to_micros(access.created_at),
            "expires_at": None if access.expires_at is None else to_micros(access.expires_at),
        }
        with self._database.write() as connection:
            if connection.scalar(select(_TABLE.c.id).where(_TABLE.c.id == access.id)) is None:
                connection.execute(insert(_TABLE).values(**values))

    def key_of(self, id: str) -> AccessKey | None:
        """See `Store.key_of`."""
        with self._database.read() as connection:
            row = connection.execute(select(_TABLE).where(_TABLE.c.id == id)).mappings().first()
        return None if row is None else _access(row)

    def access_keys(self, *, owner: str, session: str | None = None) -> list[AccessKey]:
        """See `Store.access_keys`."""
        query = select(_TABLE).where(of_keys(owner, session)).order_by(_TABLE.c.created_at, _TABLE.c.id)
        with self._database.read() as connection:
            return [_access(row) for row in connection.execute(query).mappings()]

    def end_keys(self, *, owner: str, session: str | None = None, id: str | None = None) -> int:
        """See `Store.end_keys`."""
        which = of_keys(owner, session)
        if id is not None:
            which &= _TABLE.c.id == id
        with self._database.write() as connection:
            return connection.execute(delete(_TABLE).where(which)).rowcount


def of_keys(owner: str, session: str | None) -> ColumnElement[bool]:
    """The keys of an owner, or of one session of theirs."""
    mine = _TABLE.c.owner == owner
    return mine if session is None else mine & (_TABLE.c.session == session)


def _access(row: Row) -> AccessKey:
    expires = row["expires_at"]
    return AccessKey(
        id=row["id"],
        owner=row["owner"],
        session=row["session"],
        digest=row["digest"],
        created_at=from_micros(row["created_at"]),
        expires_at=None if expires is None else from_micros(expires),
    )
