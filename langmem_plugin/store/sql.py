"""The SQL backend: one database for the log and all that is derived from it."""

from __future__ import annotations

from datetime import datetime

from langmem_plugin.records import SessionKey
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.protocol import Snapshot
from langmem_plugin.store.sql_constraints import SqlConstraints, constraints_in_force
from langmem_plugin.store.sql_derived import SqlDerived, newest_summary
from langmem_plugin.store.sql_erase import SqlErasure
from langmem_plugin.store.sql_log import EMPTY_HEAD, SqlLog, head_of, read_entries, session_row


class SqlStore(SqlLog, SqlConstraints, SqlDerived, SqlErasure):
    """A `Store` on SQLite."""

    def __init__(self, url: str) -> None:
        database = SqlDatabase(url)
        SqlLog.__init__(self, database)
        SqlDerived.__init__(self, database)

    @property
    def database(self) -> SqlDatabase:
        """The database below; for its place and its checkpoints."""
        return self._database

    def snapshot(self, key: SessionKey, *, after: int = 0, now: datetime) -> Snapshot:
        """See `Store.snapshot`."""
        with self._database.read() as connection:
            in_force = constraints_in_force(connection, key, now)
            row = session_row(connection, key)
            if row is None:
                return Snapshot(head=EMPTY_HEAD, generation=(0, 0), constraints=in_force, summary=None)
            summary = newest_summary(connection, row["id"])
            start = max(after, summary.upto_seq if summary else 0)
            return Snapshot(
                head=head_of(row),
                generation=(row["id"], row["erased_version"]),
                constraints=in_force,
                summary=summary,
                entries=tuple(read_entries(connection, row["id"], after=start)),
            )

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()
