"""What workers need of the store: which sessions are behind, and up to where each was worked off."""

from __future__ import annotations

from sqlalchemy import select, text, update

from langmem_plugin.records import SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.claims import Behind, Claims
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.sql_sessions import as_owner

_DONE_WITH = "worked_with"
_BATCH = 2_000
_NOTE = text("INSERT INTO meta (key, value) VALUES (:key, :value) ON CONFLICT DO NOTHING")
"""Two workers may begin at one moment."""


class SqlWork:
    """Sessions that changed since a worker last found nothing to do in them."""

    _database: SqlDatabase

    def behind(self, *, after: int = 0, limit: int = 64) -> list[Behind]:
        """See `WorkStore.behind`."""
        table = schema.sessions.c
        query = (
            select(table.id, table.owner, table.session, table.version)
            .where(table.id > after, table.version > table.worked_version)
            .order_by(table.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            as_owner(connection, None)
            return [
                Behind(number=number, key=SessionKey(owner, session), version=version)
                for number, owner, session, version in connection.execute(query)
            ]

    def save_worked(self, number: int, version: int) -> None:
        """See `WorkStore.save_worked`."""
        table = schema.sessions.c
        with self._database.write() as connection:
            connection.execute(
                update(schema.sessions)
                .where(table.id == number, table.worked_version < version, table.version >= version)
                .values(worked_version=version)
            )

    def begin_work(self, done_with: str) -> None:
        """See `WorkStore.begin_work`."""
        meta, table = schema.meta, schema.sessions.c
        with self._database.write() as connection:
            found = connection.scalar(select(meta.c.value).where(meta.c.key == _DONE_WITH).with_for_update())
            if found == done_with:
                return
        last = -1
        while True:
            with self._database.write() as connection:
                rows = connection.scalars(select(table.id).where(table.id > last).order_by(table.id).limit(_BATCH))
                numbers = list(rows)
                if not numbers:
                    break
                last = numbers[-1]
                connection.execute(
                    update(schema.sessions)
                    .where(table.id.between(numbers[0], last), table.worked_version > 0)
                    .values(worked_version=0)
                )
        with self._database.write() as connection:
            changed = connection.execute(update(meta).where(meta.c.key == _DONE_WITH).values(value=done_with))
            if not changed.rowcount:
                connection.execute(_NOTE, {"key": _DONE_WITH, "value": done_with})

    def claims(self) -> Claims:
        """See `WorkStore.claims`."""
        return self._database.claims()
