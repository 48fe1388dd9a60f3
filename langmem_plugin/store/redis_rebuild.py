"""Deriving again in Redis: keywords are replaced, constraints restored, summaries dropped (guarantee G10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from langmem_plugin.records import Constraint, SessionKey
from langmem_plugin.store.rank_index import RankIndexes
from langmem_plugin.store.redis_constraints import Constraints
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_transaction import Change, Transaction


class RedisRebuild:
    """What a rebuild needs beside reading the log."""

    _database: RedisDatabase
    _indexes: RankIndexes
    _writer: str

    def keywords(self, key: SessionKey, *, after: int, upto: int) -> dict[int, dict[str, int]]:
        """See `Store.keywords`."""

        def read(transaction: Transaction) -> dict[int, dict[str, int]]:
            head = transaction.session.head
            seqs = range(max(0, after) + 1, min(upto, head["last_seq"] if head else 0) + 1)
            held = transaction.session.hash.many(f"k{seq}" for seq in seqs)
            return {seq: counts for seq, counts in zip(seqs, held, strict=True) if counts}

        return self._database.read(key, read)

    def replace_keywords(self, key: SessionKey, terms: Mapping[int, Mapping[str, int]]) -> None:
        """See `Store.replace_keywords`."""

        def change(transaction: Transaction) -> int:
            session = transaction.session
            head = session.head
            if head is None:
                return 0
            for seq, counts in terms.items():
                session.hash.put(f"k{seq}", dict(counts))
            held = session.hash.many(f"k{seq}" for seq in range(1, head["last_seq"] + 1))
            head["terms"] = sum(sum(counts.values()) for counts in held if counts)
            head["documents"] = head["last_seq"]
            transaction.put_head()
            return int(head["id"])

        self._indexes.forget(self._database.change(key, change))

    def restore_constraints(self, key: SessionKey, constraints: Sequence[Constraint], *, now: datetime) -> int:
        """See `Store.restore_constraints`."""

        def change(transaction: Transaction) -> int:
            held = Constraints(transaction)
            lost = [one for one in constraints if held.find(one.id) is None]
            if lost:
                changes: list[Change] = [("constraint", one.id, one.state.value) for one in lost]
                transaction.new_version(now, changes, self._writer)
                for one in lost:
                    held.restore(one, now)
                held.put()
                transaction.put_head()
            return len(lost)

        return self._database.change(key, change, "constraints")

    def drop_summaries(self, key: SessionKey, *, now: datetime) -> int:
        """See `Store.drop_summaries`."""

        def change(transaction: Transaction) -> int:
            session = transaction.session
            if session.head is None or not session.head["summaries"]:
                return 0
            fields = [f"s{one['number']}" for one in session.head["summaries"]]
            session.hash.remove(fields)
            session.head["summaries"] = []
            # What anybody holds in memory, or is writing, of what was dropped is void from this version on.
            session.head["erased"] = transaction.new_version(now, [("summary", "0", "dropped")], self._writer)
            transaction.put_head()
            return len(fields)

        return self._database.change(key, change)
