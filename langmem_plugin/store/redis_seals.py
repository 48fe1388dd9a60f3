"""Sealing hashes anew in Redis: all of an owner's when the key changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.sealing import Resealed, Sealing

_NOBODY = "-"
"""A session that is not written to, where only the owner's hash is."""
_TIMES = 10
"""A step reads a session as a whole: it seals more at a time than a step over rows."""


class RedisSeals:
    """Who reads what is stored: whoever has the owner's key."""

    _database: RedisDatabase

    @property
    def sealing(self) -> Sealing:
        """See `Seals.sealing`."""
        return self._database.sealing

    def reseal(self, owner: str, *, after: Sequence[Any] = (), limit: int) -> Resealed:
        """See `Seals.reseal`."""
        return reseal(self._database, owner, after=after, limit=limit)

    def drop_keys(self, owner: str) -> int | None:
        """See `Seals.drop_keys`; a writer that had begun notices that its key is gone, and seals anew."""
        key = SessionKey(owner, _NOBODY)
        if self._database.read(key, lambda transaction: transaction.owner.exists, lost=True):
            return None
        return 0 if self.sealing.ring is None else self.sealing.ring.destroy(owner)

    def settle(self, *, clean: bool = False) -> None:
        """See `Seals.settle`; the server writes its files anew, behind."""
        if clean:
            self._database.vacuum()


def reseal(database: RedisDatabase, owner: str, *, after: Sequence[Any] = (), limit: int) -> Resealed:
    """See `Seals.reseal`."""
    most = limit * _TIMES
    database.sealing.current(owner)
    if not after:
        key = SessionKey(owner, _NOBODY)
        done = database.change(key, lambda transaction: transaction.owner.reseal(limit=most), lost=True, whole=True)
        return Resealed(done, ("", False))
    last, within = after
    fields = database.patiently(lambda: database.client.hkeys(database.owner_key(owner)))
    names = sorted(field.decode()[2:] for field in fields if field.startswith(b"s:"))
    name = next((one for one in names if one > last or (within and one == last)), None)
    if name is None:
        return Resealed(0, None)
    key = SessionKey(owner, name)
    done = database.change(key, lambda transaction: transaction.session.hash.reseal(limit=most), lost=True, whole=True)
    return Resealed(done, (name, done == most))


def seal_again(database: RedisDatabase, owner: str) -> None:
    """Seal what was written with a key that changed meanwhile."""
    after: Sequence[Any] | None = ()
    while after is not None:
        after = reseal(database, owner, after=after, limit=100).after
