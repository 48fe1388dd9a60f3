"""Keys that applications hand out, in SQL."""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, insert, select, text

from langmem_plugin.records import AccessKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import Row, from_micros, to_micros
from langmem_plugin.store.sql_sessions import as_owner

_TABLE = schema.access_keys
_FOR_KEY = text("SELECT set_config('app.key', :id, true)")


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
            as_owner(connection, access.owner)
            if connection.scalar(select(_TABLE.c.id).where(_TABLE.c.id == access.id)) is None:
                connection.execute(insert(_TABLE).values(**values))

    def key_of(self, id: str) -> AccessKey | None:
        """See `Store.key_of`."""
        with self._database.read() as connection:
            if connection.get_execution_options().get("langmem_by_owner", False):
                connection.execute(_FOR_KEY, {"id": id})
            row = connection.execute(select(_TABLE).where(_TABLE.c.id == id)).mappings().first()
        return None if row is None else _access(row)

    def access_keys(self, *, owner: str, session: str | None = None) -> list[AccessKey]:
        """See `Store.access_keys`."""
        query = select(_TABLE).where(of_keys(owner, session)).order_by(_TABLE.c.created_at, _TABLE.c.id)
        with self._database.read() as connection:
            as_owner(connection, owner)
            return [_access(row) for row in connection.execute(query).mappings()]

    def end_keys(self, *, owner: str, session: str | None = None, id: str | None = None) -> int:
        """See `Store.end_keys`."""
        which = of_keys(owner, session)
        if id is not None:
            which &= _TABLE.c.id == id
        with self._database.write() as connection:
            as_owner(connection, owner)
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
