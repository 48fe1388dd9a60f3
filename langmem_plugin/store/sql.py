"""The SQL backend: one database for the log and all that is derived from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from sqlalchemy import select

from langmem_plugin.keyring import KeyRing
from langmem_plugin.records import SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.posting_cache import PostingCache
from langmem_plugin.store.protocol import Commit, Past, Snapshot
from langmem_plugin.store.rows import from_micros, summary_of, utc_now
from langmem_plugin.store.sql_constraints import SqlConstraints, constraints_in_force
from langmem_plugin.store.sql_derived import SqlDerived, newest_summary
from langmem_plugin.store.sql_erase import SqlErasure
from langmem_plugin.store.sql_events import SqlEvents
from langmem_plugin.store.sql_fork import SqlFork
from langmem_plugin.store.sql_keeping import SqlKeeping
from langmem_plugin.store.sql_keys import SqlKeys
from langmem_plugin.store.sql_log import SqlLog, read_entries
from langmem_plugin.store.sql_rebuild import SqlRebuild
from langmem_plugin.store.sql_seals import SqlSeals
from langmem_plugin.store.sql_sessions import EMPTY_HEAD, head_of, seal_of, session_row
from langmem_plugin.store.sql_spending import SqlSpending
from langmem_plugin.store.sql_work import SqlWork


class SqlStore(
    SqlLog,
    SqlConstraints,
    SqlDerived,
    SqlErasure,
    SqlEvents,
    SqlFork,
    SqlKeeping,
    SqlKeys,
    SqlRebuild,
    SqlSeals,
    SqlSpending,
    SqlWork,
):
    """A `Store` on a SQL database; this one opens SQLite."""

    def __init__(
        self,
        url: str,
        *,
        writer: str = "",
        clock: Callable[[], datetime] = utc_now,
        ttl: timedelta | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        database, postings = self._open(url, clock=clock, ttl=ttl, ring=ring), PostingCache()
        SqlLog.__init__(self, database, postings, writer=writer)
        SqlDerived.__init__(self, database, postings, writer=writer)

    def _open(
        self, url: str, *, clock: Callable[[], datetime], ttl: timedelta | None, ring: KeyRing | None
    ) -> SqlDatabase:
        return SqlDatabase(url, clock=clock, ttl=ttl, ring=ring)

    @property
    def database(self) -> SqlDatabase:
        """The database below; for its place and its checkpoints."""
        return self._database

    def reading(self) -> AbstractContextManager[None]:
        """See `Store.reading`."""
        return self._database.reading()

    def alone(self, key: SessionKey) -> AbstractContextManager[bool]:
        """True inside if no other process works behind on that session, as far as this backend can tell."""
        return self._database.alone(f"{key.owner}\0{key.session}")

    def snapshot(self, key: SessionKey, *, after: int = 0, now: datetime) -> Snapshot:
        """See `Store.snapshot`."""
        with self._database.read() as connection:
            in_force = constraints_in_force(connection, key, now)
            row = session_row(connection, key)
            if row is None:
                return Snapshot(head=EMPTY_HEAD, generation=(0, 0), constraints=in_force, summary=None)
            summary = newest_summary(connection, row)
            start = max(after, summary.upto_seq if summary else 0)
            fresh = read_entries(connection, row, after=start) if row["last_seq"] > start else ()
            return Snapshot(
                head=head_of(row),
                generation=(row["id"], row["erased_version"]),
                constraints=in_force,
                summary=summary,
                entries=tuple(fresh),
            )

    def past(self, key: SessionKey) -> Past:
        """See `Store.past`."""
        turns, summaries = schema.turns.c, schema.summaries
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return Past()
            commits = connection.execute(
                select(turns.version, turns.turn_id, turns.first_seq, turns.ended_at)
                .where(turns.session_id == row["id"], turns.state == "committed")
                .order_by(turns.version)
            ).all()
            saved = connection.execute(
                select(summaries).where(summaries.c.session_id == row["id"]).order_by(summaries.c.version)
            ).mappings()
            seal = seal_of(connection, row)
            return Past(
                commits=tuple(
                    Commit(version=version, turn=turn, first_seq=first, at=from_micros(ended))
                    for version, turn, first, ended in commits
                ),
                summaries=tuple(summary_of(one, seal) for one in saved),
            )

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()
