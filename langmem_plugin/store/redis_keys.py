"""Which sessions there are, as the directory and the owners' hashes name them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langmem_plugin.messages import load_json
from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.rows import to_micros
from langmem_plugin.store.sealing import HashSeal

_log = logging.getLogger(__name__)

_OWNERS = 200
"""Owners that are read at a time."""


@dataclass(frozen=True, slots=True)
class Named:
    """A session as its owner's hash names it."""

    key: SessionKey
    entry: Mapping[str, Any]
    over: bool
    """Its time is over, whether the server has dropped it or not."""
    forgotten: bool
    """Only its constraints were kept."""


@dataclass(frozen=True, slots=True)
class NamedOwner:
    """An owner's sessions, in the order in which they began, and the constraints that hold in all of them.

    Constraints that no key opens are left out.
    """

    owner: str
    sessions: tuple[Named, ...]
    constraints: tuple[Mapping[str, Any], ...]


def list_keys(database: RedisDatabase, owner: str | None = None) -> list[SessionKey]:
    """Every session, or every one of an owner, oldest first; those whose time is over are left out.

    Raises:
        StoreLost: The server lost the hash that names this owner's sessions.
    """
    found = [one for held in list_owners(database, owner) for one in held.sessions]
    living = [one for one in found if not one.over and not one.forgotten]
    return [one.key for one in sorted(living, key=lambda one: int(one.entry["id"]))]


def list_owners(database: RedisDatabase, owner: str | None = None) -> list[NamedOwner]:
    """Every owner that the directory names, or one.

    Raises:
        StoreLost: The server lost the hash that names this owner's sessions; of several, such
            owners are left out, and a warning says so.
    """
    return database.patiently(lambda: _read(database, owner))


def _read(database: RedisDatabase, owner: str | None) -> list[NamedOwner]:
    client = database.client
    named = client.hkeys(database.directory)
    if not named:
        raise database.lost_directory()
    owners = [name.decode()[2:] for name in named if name.startswith(b"o:")]
    owners = owners if owner is None else [one for one in owners if one == owner]
    moment = to_micros(database.clock())
    found: list[NamedOwner] = []
    for start in range(0, len(owners), _OWNERS):
        part = owners[start : start + _OWNERS]
        pipeline = client.pipeline(transaction=False)  # what is out of memory refuses MULTI
        pipeline.time()
        for one in part:
            pipeline.hgetall(database.owner_key(one))
        (seconds, micros), *held = pipeline.execute()
        for name, fields in zip(part, held, strict=True):
            if not fields and owner is not None:
                database.read(SessionKey(name, "-"), lambda _: None)  # says what is lost
            if not fields:
                _log.warning("Redis lost what an owner's sessions share; they are not listed")
            seal = HashSeal(database.sealing, name, "owner")
            found.append(_named(name, fields, moment, seconds * 1000 + micros // 1000, seal))
    return found


def _named(owner: str, fields: Mapping[bytes, bytes], moment: int, now_ms: int, seal: HashSeal) -> NamedOwner:
    sessions = []
    for name, value in fields.items():
        if not name.startswith(b"s:"):
            continue
        entry = load_json(value.decode())
        expires, deadline = entry.get("expires_at"), fields.get(b"d:" + name[2:])
        over = (expires is not None and expires <= moment) or (deadline is not None and int(deadline) <= now_ms)
        sessions.append(Named(SessionKey(owner, name[2:].decode()), entry, over, "ended" in entry))
    text = seal.readable("constraints", fields.get(b"constraints", b"[]"))
    constraints = load_json(text) if text else []
    return NamedOwner(owner, tuple(sorted(sessions, key=lambda one: int(one.entry.get("id", 0)))), tuple(constraints))
