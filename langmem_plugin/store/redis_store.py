"""The Redis backend: one hash a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial

from langmem_plugin.keyring import KeyRing
from langmem_plugin.records import SessionKey
from langmem_plugin.store.protocol import Snapshot
from langmem_plugin.store.redis_access import RedisAccess
from langmem_plugin.store.redis_constraints import Constraints, RedisConstraints, in_force
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_derived import RedisDerived, newest
from langmem_plugin.store.redis_erase import RedisErasure
from langmem_plugin.store.redis_history import RedisHistory
from langmem_plugin.store.redis_keeping import RedisKeeping
from langmem_plugin.store.redis_log import RedisLog
from langmem_plugin.store.redis_rebuild import RedisRebuild
from langmem_plugin.store.redis_rows import entries_of
from langmem_plugin.store.redis_seals import RedisSeals, seal_again
from langmem_plugin.store.redis_spending import RedisSpending, reported_in
from langmem_plugin.store.redis_transaction import Transaction
from langmem_plugin.store.redis_work import RedisWork
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.spending import Reported


class RedisStore(
    RedisLog,
    RedisConstraints,
    RedisDerived,
    RedisErasure,
    RedisHistory,
    RedisKeeping,
    RedisAccess,
    RedisRebuild,
    RedisSeals,
    RedisSpending,
    RedisWork,
):
    """A `Store` on a Redis server.

    Each call reads the hashes it needs, makes its changes here, and has one script write them if
    nobody wrote meanwhile; otherwise it begins again. Messages are numbered by the session's
    own count, never by a clock.
    """

    def __init__(
        self,
        url: str,
        *,
        writer: str = "",
        clock: Callable[[], datetime] = utc_now,
        ttl: timedelta | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        database = RedisDatabase(url, clock=clock, ttl=ttl, ring=ring)
        database.changed_key = partial(seal_again, database)
        RedisLog.__init__(self, database, writer=writer)
        RedisDerived.__init__(self)

    @property
    def database(self) -> RedisDatabase:
        """The database below."""
        return self._database

    def reading(self) -> AbstractContextManager[None]:
        """See `Store.reading`."""
        return self._database.reading()

    def reported(self, owner: str, *, session: str | None = None, since: datetime | None = None) -> list[Reported]:
        """See `SpendStore.reported`."""
        return reported_in(self, [key for key in self.keys(owner=owner) if session in (None, key.session)], since=since)

    def alone(self, key: SessionKey) -> AbstractContextManager[bool]:
        """True inside if no other process works behind on that session, as far as this backend can tell."""
        return self._database.alone(key)

    def holding(self, *, owner: str, terms: Sequence[str]) -> list[SessionKey]:
        """See `Store.holding`."""
        return [key for key in self.keys(owner=owner) if self.postings(key, terms)]

    def snapshot(self, key: SessionKey, *, after: int = 0, now: datetime) -> Snapshot:
        """See `Store.snapshot`."""

        def read(transaction: Transaction) -> Snapshot:
            session = transaction.session
            held = in_force(Constraints(transaction), now)
            if session.head is None:
                return Snapshot(head=session.as_head(), generation=(0, 0), constraints=held, summary=None)
            summary = newest(session)
            start = max(after, summary.upto_seq if summary else 0)
            return Snapshot(
                head=session.as_head(),
                generation=session.generation,
                constraints=held,
                summary=summary,
                entries=tuple(entries_of(session.rows(range(start + 1, session.head["last_seq"] + 1)))),
            )

        return self._database.read(key, read, "constraints")

    def close(self) -> None:
        """See `Store.close`."""
        self._database.close()
