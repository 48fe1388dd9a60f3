"""The audit trail in Redis, a session as it was at an earlier version, and branches (guarantee G12)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime
from typing import Any

from langmem_plugin.errors import VersionConflict
from langmem_plugin.records import Constraint, ConstraintState, Event, Head, SessionKey
from langmem_plugin.store.protocol import Commit, KeywordStats, Past, Snapshot
from langmem_plugin.store.ranges import Ranges, numbers, without
from langmem_plugin.store.redis_constraints import Constraints
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_derived import newest
from langmem_plugin.store.redis_rows import KeptConstraint, entries_of, summary_of
from langmem_plugin.store.redis_transaction import HeldSession, Transaction
from langmem_plugin.store.rows import from_micros, to_micros


class RedisHistory:
    """Who changed what, and what stood when."""

    _database: RedisDatabase
    _writer: str

    def events(self, key: SessionKey, *, after: int = 0) -> list[Event]:
        """See `Store.events`."""

        def read(transaction: Transaction) -> list[Event]:
            return [
                Event(
                    version=version,
                    kind=kind,
                    ref=ref,
                    detail=detail,
                    writer=record["writer"],
                    at=from_micros(record["at"]),
                )
                for version, record in _records(transaction.session, after=after)
                for kind, ref, detail in record["changes"]
            ]

        return self._database.read(key, read)

    def past(self, key: SessionKey) -> Past:
        """See `Store.past`."""

        def read(transaction: Transaction) -> Past:
            session = transaction.session
            if session.head is None:
                return Past()
            entries = sorted(session.head["summaries"], key=lambda one: int(one["version"]))
            return Past(
                commits=tuple(
                    Commit(
                        version=version, turn=record["turn"], first_seq=record["first"], at=from_micros(record["at"])
                    )
                    for version, record in _records(session)
                    if "turn" in record
                ),
                summaries=tuple(map(summary_of, session.hash.many(f"s{one['number']}" for one in entries))),
            )

        return self._database.read(key, read)

    def snapshot_at(self, key: SessionKey, version: int, *, moment: datetime | None = None) -> Snapshot | None:
        """See `Store.snapshot_at`."""

        def read(transaction: Transaction) -> Snapshot | None:
            session = transaction.session
            head = session.head
            if head is None:
                return (
                    None
                    if version
                    else Snapshot(head=session.as_head(), generation=(0, 0), constraints=(), summary=None)
                )
            if not 0 <= version <= head["version"]:
                return None
            record = session.hash.get(f"v{version}") or {}
            micros = record.get("moment", 0) if moment is None else to_micros(moment)
            last = record.get("last_seq", 0)
            summary = newest(session, version=version)
            start = summary.upto_seq if summary else 0
            return Snapshot(
                head=Head(version=version, last_seq=last, history_tokens=0, erased=head["erased"]),
                generation=session.generation,
                constraints=_constraints_at(transaction, session, version, micros),
                summary=summary,
                entries=tuple(entries_of(session.rows(range(start + 1, last + 1)))),
                moment=from_micros(micros),
            )

        return self._database.read(key, read, f"v{version}", "constraints")

    def keyword_stats_at(self, key: SessionKey, last_seq: int) -> KeywordStats:
        """See `Store.keyword_stats_at`."""

        def read(transaction: Transaction) -> KeywordStats:
            session = transaction.session
            if session.head is None:
                return KeywordStats(0, 0)
            last = min(last_seq, session.head["last_seq"])
            counted = session.hash.many(f"k{seq}" for seq in range(1, last + 1))
            return KeywordStats(last_seq, sum(sum(one.values()) for one in counted if one), session.generation)

        return self._database.read(key, read)

    def fork(self, key: SessionKey, to: SessionKey, version: int, *, now: datetime) -> Head:
        """See `Store.fork`."""

        def change(transaction: Transaction) -> Head:
            parent, child = transaction.session, transaction.sessions[to.session]
            if parent.head is None or not 0 <= version <= parent.head["version"]:
                raise VersionConflict(expected=version, actual=0 if parent.head is None else parent.head["version"])
            there = child.begins_at if child.head is None else child.head["version"]
            if there:
                raise VersionConflict(expected=0, actual=there)
            head = transaction.begin_session(now, child)
            last = (parent.hash.get(f"v{version}") or {}).get("last_seq", 0)
            _copy_log(parent, child, version, last)
            _copy_constraints(transaction, parent, child, version, to_micros(now))
            moment = (parent.hash.get(f"v{version}") or {}).get("moment", 0)
            head |= {
                "version": version, "last_seq": last, "documents": last, "moment": moment, "ttl": parent.head["ttl"],
                "history_tokens": parent.head["history_tokens"], "erased": min(parent.head["erased"], version),
                "sharing": [one for one in parent.head["sharing"] if one[0] <= version],
                "summaries": [one for one in parent.head["summaries"] if one["version"] <= version],
            }  # fmt: skip
            head["version"] += 1
            transaction.prolong(now, child)
            transaction.note(child, now, [("forked", str(version), "")], self._writer)
            transaction.put_head(child)
            return child.as_head()

        return self._database.change(key, change, others=(to.session,), whole=True)


def _records(session: HeldSession, *, after: int = 0, upto: int | None = None) -> list[tuple[int, dict[str, Any]]]:
    """What made each version, ascending."""
    if session.head is None:
        return []
    versions = range(max(0, after) + 1, (session.head["version"] if upto is None else upto) + 1)
    held = session.hash.many(f"v{version}" for version in versions)
    return [(version, record) for version, record in zip(versions, held, strict=True) if record is not None]


def _constraints_at(
    transaction: Transaction, session: HeldSession, version: int, micros: int
) -> tuple[Constraint, ...]:
    """Those in force at a version of the session; what other sessions of the owner changed, by time."""
    head = session.head or {}
    shared = True
    for made, value in head["sharing"]:
        shared = value if made <= version else shared
    rows = [*(session.hash.get("constraints") or ()), *(transaction.owner.get("constraints") or ())]
    found = []
    for one in sorted(map(KeptConstraint.of, rows), key=lambda kept: kept.place):
        constraint = one.constraint
        if constraint.session != session.key.session and not shared:
            continue
        state = ""
        for where, made, at, became in sorted(one.trail, key=lambda change: int(change[2])):
            if made <= version if where == head["id"] else at <= micros:
                state = became
        expires = None if constraint.expires_at is None else to_micros(constraint.expires_at)
        if state == ConstraintState.ACTIVE and (expires is None or expires > micros or constraint.pinned):
            found.append(replace(constraint, state=ConstraintState.ACTIVE, ended_version=None, superseded_by=None))
    return tuple(found)


def _copy_log(parent: HeldSession, child: HeldSession, version: int, last: int) -> None:
    """The fields of the parent as they were at the version."""
    head = child.head or {}
    for seq, row in parent.rows(range(1, last + 1)):
        child.hash.put(f"m{seq}", row)
        head["tokens"] += row["tokens"]
        if row["id"] is not None:
            turns = child.hash.get(f"i:{row['id']}") or []
            child.hash.put(f"i:{row['id']}", [*(one for one in turns if one != row["turn"]), row["turn"]])
    for seq, counts in enumerate(parent.hash.many(f"k{seq}" for seq in range(1, last + 1)), start=1):
        if counts is not None:
            child.hash.put(f"k{seq}", counts)
            head["terms"] += sum(counts.values())
    for number, record in _records(parent, upto=version):
        child.hash.put(f"v{number}", record)
        if "turn" in record:
            child.hash.put(f"t:{record['turn']}", parent.hash.get(f"t:{record['turn']}"))
    for one in (parent.head or {})["summaries"]:
        if one["version"] <= version:
            child.hash.put(f"s{one['number']}", parent.hash.get(f"s{one['number']}"))
    _copy_vectors(parent, child, last)


def _copy_vectors(parent: HeldSession, child: HeldSession, last: int) -> None:
    models = parent.hash.get("models") or {}
    later: Ranges = [[last + 1, parent.head["last_seq"]]] if parent.head else []
    for held in models.values():
        held["done"], held["kept"] = without(held["done"], later), without(held["kept"], later)
        fields = [f"e{held['number']}:{seq}" for seq in numbers(held["kept"])]
        for field, blob in zip(fields, parent.hash.raw(fields), strict=True):
            child.hash.put_raw(field, blob or b"")
    if models:
        child.hash.put("models", models)


def _copy_constraints(
    transaction: Transaction, parent: HeldSession, child: HeldSession, version: int, micros: int
) -> None:
    held = Constraints(transaction, child)
    for constraint in _constraints_at(transaction, parent, version, micros):
        if constraint.scope == "session":
            held.copy(replace(constraint, id=_new_id(constraint.id, child.key)))
    held.put()


def _new_id(constraint_id: str, to: SessionKey) -> str:
    seed = f"{constraint_id}\0{to.owner}\0{to.session}"
    return "c" + hashlib.sha256(seed.encode()).hexdigest()[:10]
