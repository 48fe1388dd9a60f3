"""Which sessions there are, as the directory and the owners' hashes name them."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from langmem_plugin.messages import load_json
from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_database import RedisDatabase

_log = logging.getLogger(__name__)

_OWNERS = 200
"""Owners that are read at a time."""


def list_keys(database: RedisDatabase, owner: str | None = None) -> list[SessionKey]:
    """Every session, or every one of an owner, oldest first; those whose time is over are left out.

    Raises:
        StoreLost: The server lost the hash that names this owner's sessions.
    """
    return database.patiently(lambda: _read(database, owner))


def _read(database: RedisDatabase, owner: str | None) -> list[SessionKey]:
    client = database.client
    with database.translated():
        named = client.hkeys(database.directory)
        if not named:
            raise database.lost_directory()
        owners = [name.decode()[2:] for name in named if name.startswith(b"o:")]
        owners = owners if owner is None else [one for one in owners if one == owner]
        found: list[tuple[int, SessionKey]] = []
        for start in range(0, len(owners), _OWNERS):
            part = owners[start : start + _OWNERS]
            pipeline = client.pipeline(transaction=True)
            pipeline.time()
            for one in part:
                pipeline.hgetall(database.owner_key(one))
            (seconds, micros), *held = pipeline.execute()
            for name, fields in zip(part, held, strict=True):
                if not fields and owner is not None:
                    database.read(SessionKey(name, "-"), lambda _: None)  # says what is lost
                if not fields:
                    _log.warning("Redis lost what an owner's sessions share; they are not listed")
                found += _sessions(name, fields, seconds * 1000 + micros // 1000)
    return [key for _, key in sorted(found, key=lambda one: one[0])]


def _sessions(owner: str, fields: Mapping[bytes, bytes], now_ms: int) -> list[tuple[int, SessionKey]]:
    found = []
    for name, value in fields.items():
        if not name.startswith(b"s:"):
            continue
        entry = load_json(value.decode())
        deadline = fields.get(b"d:" + name[2:])
        if not entry.get("ended") and (deadline is None or now_ms < int(deadline)):
            found.append((int(entry["id"]), SessionKey(owner, name[2:].decode())))
    return found
