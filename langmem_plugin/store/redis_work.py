"""What workers need of a Redis store: which sessions are behind, and who has taken them on."""

from __future__ import annotations

import secrets
from datetime import timedelta

from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.records import SessionKey
from langmem_plugin.store.claims import Behind, Claims
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_keys import list_owners
from langmem_plugin.store.redis_transaction import Transaction

_LEASE = timedelta(seconds=120)
"""A claim of a worker that died ends after so long; one that is older while its worker lives may be taken, too.

What is then done twice takes effect once: effect and position are written together.
"""
_DONE_WITH = "worked_with"


class RedisWork:
    """Sessions that changed since a worker last found nothing to do in them."""

    _database: RedisDatabase

    def behind(self, *, after: int = 0, limit: int = 64) -> list[Behind]:
        """See `WorkStore.behind`."""
        found = [
            Behind(number=one.entry["id"], key=one.key, version=one.entry["version"])
            for held in list_owners(self._database)
            for one in held.sessions
            if not one.over and not one.forgotten and one.entry["id"] > after
            if one.entry["version"] > one.entry["worked"]
        ]
        found = sorted(found, key=lambda one: one.number)[:limit]
        self._database.numbered.update((one.number, one.key) for one in found)
        return found

    def save_worked(self, number: int, version: int) -> None:
        """See `WorkStore.save_worked`."""
        key = self._database.numbered.pop(number, None)
        if key is not None:
            self._set_worked(key, number, version)

    def begin_work(self, done_with: str) -> None:
        """See `WorkStore.begin_work`."""
        database = self._database
        found = database.patiently(lambda: database.client.hget(database.directory, _DONE_WITH))
        if found is not None and found.decode() == done_with:
            return
        for held in list_owners(database):
            for one in held.sessions:
                if not one.over and not one.forgotten and one.entry["worked"]:
                    self._set_worked(one.key, one.entry["id"], 0)
        database.patiently(lambda: database.client.hset(database.directory, _DONE_WITH, done_with))

    def claims(self) -> Claims:
        """See `WorkStore.claims`."""
        return RedisClaims(self._database)

    def _set_worked(self, key: SessionKey, number: int, version: int) -> None:
        def change(transaction: Transaction) -> None:
            head = transaction.session.head
            if head is None or head["id"] != number or version > head["version"]:
                return
            if not version or version > head["worked"]:
                head["worked"] = version
                transaction.put_head()

        self._database.change(key, change)


class RedisClaims:
    """A key for each session that a worker has taken on, which ends by itself if the worker dies."""

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database
        self._mark = secrets.token_hex(8).encode()
        self._held: set[int] = set()

    def claim(self, number: int) -> bool:
        """See `Claims.claim`; False too while the server is away."""
        try:
            with self._database.translated():
                taken = self._database.client.set(self._database.claim_key(number), self._mark, nx=True, px=_LEASE)
        except LangmemPluginError:
            return False
        if taken:
            self._held.add(number)
        return bool(taken)

    def release(self, number: int) -> None:
        """See `Claims.release`."""
        if number not in self._held:
            return
        self._held.discard(number)
        try:
            with self._database.translated():
                self._database.release(self._database.claim_key(number), self._mark)
        except LangmemPluginError:
            return  # it ends by itself

    def close(self) -> None:
        """See `Claims.close`."""
        for number in list(self._held):
            self.release(number)
