"""Deriving again in SQL: keywords are replaced, constraints restored, summaries dropped (guarantee G10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, func, insert, select, update

from langmem_plugin.records import Constraint, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.bulk import insert_many
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.posting_cache import PostingCache
from langmem_plugin.store.rows import constraint_row
from langmem_plugin.store.sql_commit import posting_rows
from langmem_plugin.store.sql_log import chunks
from langmem_plugin.store.sql_sessions import Change, new_version, sealing_of, session_row


class SqlRebuild:
    """What a rebuild needs beside reading the log."""

    _database: SqlDatabase
    _postings: PostingCache
    _writer: str

    def keywords(self, key: SessionKey, *, after: int, upto: int) -> dict[int, dict[str, int]]:
        """See `Store.keywords`."""
        table = schema.postings.c
        found: dict[int, dict[str, int]] = {}
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is not None:
                mine = (table.session_id == row["id"]) & (table.seq > after) & (table.seq <= upto)
                for seq, term, count in connection.execute(select(table.seq, table.term, table.count).where(mine)):
                    found.setdefault(seq, {})[term] = count
        return found

    def replace_keywords(self, key: SessionKey, terms: Mapping[int, Mapping[str, int]]) -> None:
        """See `Store.replace_keywords`."""
        table, sessions = schema.postings, schema.sessions
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None:
                return
            mine = table.c.session_id == row["id"]
            for chunk in chunks(list(terms)):
                connection.execute(delete(table).where(mine, table.c.seq.in_(chunk)))
            rows = [one for seq, counts in terms.items() for one in posting_rows(row["id"], [counts], seq)]
            insert_many(connection, table, rows)
            total = connection.scalar(select(func.sum(table.c.count)).where(mine)) or 0
            connection.execute(
                update(sessions).where(sessions.c.id == row["id"]).values(terms=total, documents=row["last_seq"])
            )
        self._postings.forget(row["id"])

    def restore_constraints(self, key: SessionKey, constraints: Sequence[Constraint], *, now: datetime) -> int:
        """See `Store.restore_constraints`."""
        table = schema.constraints
        with self._database.write() as connection:
            session_row(connection, key)
            ids = [one.id for one in constraints]
            held: set[str] = set()
            for chunk in chunks(ids):
                held |= set(connection.scalars(select(table.c.id).where(table.c.id.in_(chunk))))
            lost = [one for one in constraints if one.id not in held]
            if lost:
                changes: list[Change] = [("constraint", one.id, one.state.value) for one in lost]
                new_version(connection, key, now, changes, self._writer)
                sealing = sealing_of(connection)
                rows = [constraint_row(one, owner=key.owner, session=key.session, sealing=sealing) for one in lost]
                connection.execute(insert(table), rows)
            return len(lost)

    def drop_summaries(self, key: SessionKey, *, now: datetime) -> int:
        """See `Store.drop_summaries`."""
        table = schema.summaries
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None:
                return 0
            dropped = connection.execute(delete(table).where(table.c.session_id == row["id"])).rowcount
            if dropped:
                session_id, version = new_version(connection, key, now, [("summary", "0", "dropped")], self._writer)
                # What anybody holds in memory, or is writing, of what was dropped is void from here on.
                mine = schema.sessions.c.id == session_id
                connection.execute(update(schema.sessions).where(mine).values(erased_version=version))
            return dropped
