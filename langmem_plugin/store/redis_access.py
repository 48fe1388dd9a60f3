"""Keys that applications hand out, in Redis: in the owner's hash, found by the directory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langmem_plugin.messages import load_json
from langmem_plugin.records import AccessKey, SessionKey
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_transaction import Transaction
from langmem_plugin.store.rows import from_micros, to_micros

_NOBODY = "-"
"""A session that is not written to, where only the owner's hash is."""


class RedisAccess:
    """Who may open what."""

    _database: RedisDatabase

    def add_key(self, access: AccessKey) -> None:
        """See `Store.add_key`."""

        def change(transaction: Transaction) -> None:
            if transaction.owner.get(f"a:{access.id}") is None:
                row = {
                    "session": access.session,
                    "digest": access.digest,
                    "created_at": to_micros(access.created_at),
                    "expires_at": None if access.expires_at is None else to_micros(access.expires_at),
                }
                transaction.put_key(access.id, row)

        self._database.change(SessionKey(access.owner, _NOBODY), change)

    def key_of(self, id: str) -> AccessKey | None:
        """See `Store.key_of`."""
        database = self._database
        name = f"k:{id}".encode("utf-8", "replace")
        owner = database.patiently(lambda: database.client.hget(database.directory, name))
        if owner is None:
            return None
        key = SessionKey(owner.decode(), _NOBODY)
        row = database.read(key, lambda transaction: transaction.owner.get(f"a:{id}"))
        return None if row is None else _access(key.owner, id, row)

    def access_keys(self, *, owner: str, session: str | None = None) -> list[AccessKey]:
        """See `Store.access_keys`."""
        database = self._database
        database.read(SessionKey(owner, _NOBODY), lambda _: None)  # says what is lost
        held = database.patiently(lambda: database.client.hgetall(database.owner_key(owner)))
        found = [
            _access(owner, name[2:].decode(), load_json(value.decode()))
            for name, value in held.items()
            if name.startswith(b"a:")
        ]
        found = [one for one in found if session is None or one.session == session]
        return sorted(found, key=lambda one: (one.created_at, one.id))

    def end_keys(self, *, owner: str, session: str | None = None, id: str | None = None) -> int:
        """See `Store.end_keys`."""

        def meant(name: str, row: dict[str, Any]) -> bool:
            return session in (None, row["session"]) and id in (None, name)

        return self._database.change(
            SessionKey(owner, _NOBODY), lambda transaction: take_keys(transaction, meant), whole=True
        )


def take_keys(transaction: Transaction, meant: Callable[[str, dict[str, Any]], bool]) -> int:
    """Take out the keys that are meant, by public part and row; the owner was read as a whole. Gives how many."""
    names = [name[2:] for name in transaction.owner.names() if name.startswith("a:")]
    gone = [name for name in names if meant(name, transaction.owner.get(f"a:{name}"))]
    transaction.remove_keys(gone)
    return len(gone)


def _access(owner: str, id: str, row: dict[str, Any]) -> AccessKey:
    return AccessKey(
        id=id,
        owner=owner,
        session=row["session"],
        digest=row["digest"],
        created_at=from_micros(row["created_at"]),
        expires_at=None if row["expires_at"] is None else from_micros(row["expires_at"]),
    )
