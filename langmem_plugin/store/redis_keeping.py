"""Time to live and lists of sessions and owners, in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from langmem_plugin.messages import load_json
from langmem_plugin.records import ConstraintState, OwnerInfo, SessionInfo, SessionKey, SessionQuery
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_keys import Named, list_owners
from langmem_plugin.store.redis_transaction import Transaction
from langmem_plugin.store.rows import from_micros, micros_of, to_micros
from langmem_plugin.store.sealing import HashSeal

_TOGETHER = 500
"""Sessions that are asked at a time."""


class RedisKeeping:
    """What is kept, for whom, and until when."""

    _database: RedisDatabase

    def set_ttl(self, key: SessionKey, ttl: timedelta | None, *, now: datetime) -> None:
        """See `Store.set_ttl`."""

        def change(transaction: Transaction) -> None:
            head = transaction.begin_session(now)
            head["ttl"] = None if ttl is None else micros_of(ttl)
            written = head["updated_at"]
            transaction.prolong(now)
            head["updated_at"] = written
            transaction.put_head()

        self._database.change(key, change)

    def session_infos(self, query: SessionQuery) -> list[SessionInfo]:
        """See `Store.session_infos`."""
        owners = list_owners(self._database, query.owner)
        found = [one for held in owners for one in held.sessions if not one.forgotten and _is_meant(one, query)]
        by = {"created": "created_at", "updated": "updated_at"}
        found.sort(key=lambda one: int(one.entry["id"]))
        found.sort(
            key=lambda one: one.key.session if query.order == "name" else one.entry[by[query.order]],
            reverse=query.newest_first,
        )
        page = found[query.offset :] if query.limit is None else found[query.offset : query.offset + query.limit]
        shared = {held.owner: held.constraints for held in owners}
        moment = to_micros(self._database.clock())
        infos = []
        for one, rows in zip(page, self._stated([one.key for one in page]), strict=True):
            stated_here = [row for row in shared[one.key.owner] if row["session"] == one.key.session]
            infos.append(_info(one, _in_force([*rows, *stated_here], moment)))
        return infos

    def owner_infos(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> list[OwnerInfo]:
        """See `Store.owner_infos`."""
        moment = to_micros(self._database.clock())
        found = []
        for held in sorted(list_owners(self._database), key=lambda one: one.owner):
            living = [one for one in held.sessions if not one.over and not one.forgotten]
            kept = [one.key for one in held.sessions if not one.over]
            if not held.owner.startswith(prefix) or not (kept or held.constraints):
                continue
            rows = [row for stated in self._stated(kept) for row in stated]
            count = _in_force([*rows, *held.constraints], moment)
            if living or count:
                found.append(_owner_info(held.owner, [one.entry for one in living], count))
        return found[offset:] if limit is None else found[offset : offset + limit]

    def _stated(self, keys: Sequence[SessionKey]) -> list[list[dict[str, Any]]]:
        """Each session's own constraints; none where no key opens them."""
        found: list[list[dict[str, Any]]] = []
        for start in range(0, len(keys), _TOGETHER):
            part = keys[start : start + _TOGETHER]

            def ask(part: Sequence[SessionKey] = part) -> list[bytes | None]:
                pipeline = self._database.client.pipeline(transaction=False)
                for key in part:
                    pipeline.hget(self._database.session_key(key), "constraints")
                return list(pipeline.execute())

            for key, one in zip(part, self._database.patiently(ask), strict=True):
                seal = HashSeal(self._database.sealing, key.owner, "session", key.session)
                text = seal.readable("constraints", one) if one else None
                found.append(load_json(text) if text else [])
        return found


def _is_meant(one: Named, query: SessionQuery) -> bool:
    written = one.entry["updated_at"]
    return (
        one.over == query.expired
        and query.session in (None, one.key.session)
        and one.key.session.startswith(query.prefix)
        and (query.since is None or written >= to_micros(query.since))
        and (query.until is None or written < to_micros(query.until))
    )


def _in_force(rows: Iterable[Mapping[str, Any]], moment: int) -> int:
    """How many of the constraints are active."""
    return sum(
        row["state"] == ConstraintState.ACTIVE.value
        and (row["expires_at"] is None or row["expires_at"] > moment or bool(row["pinned"]))
        for row in rows
    )


def _owner_info(owner: str, entries: Sequence[Mapping[str, Any]], constraints: int) -> OwnerInfo:
    written = max((int(one["updated_at"]) for one in entries), default=None)
    return OwnerInfo(
        owner=owner,
        sessions=len(entries),
        messages=sum(one["last_seq"] for one in entries),
        tokens=sum(one["tokens"] for one in entries),
        constraints=constraints,
        updated_at=None if written is None else from_micros(written),
    )


def _info(one: Named, constraints: int) -> SessionInfo:
    entry = one.entry
    return SessionInfo(
        owner=one.key.owner,
        session=one.key.session,
        version=entry["version"],
        messages=entry["last_seq"],
        tokens=entry["tokens"],
        constraints=constraints,
        created_at=from_micros(entry["created_at"]),
        updated_at=from_micros(entry["updated_at"]),
        ttl=None if entry["ttl"] is None else timedelta(microseconds=entry["ttl"]),
        expires_at=None if entry["expires_at"] is None else from_micros(entry["expires_at"]),
    )
