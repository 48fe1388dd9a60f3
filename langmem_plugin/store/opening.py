"""Which backend an address names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from langmem_plugin.keyring import KeyRing
from langmem_plugin.store.protocol import Store
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sql import SqlStore


def open_store(
    url: str,
    *,
    writer: str = "",
    clock: Callable[[], datetime] = utc_now,
    ttl: timedelta | None = None,
    ring: KeyRing | None = None,
) -> Store:
    """The store at an address: `sqlite://...`, `postgresql://...` or `redis://...`.

    Args:
        url: The address.
        writer: Who changes sessions through it, for the audit trail.
        clock: The present moment, by which sessions end.
        ttl: What a session that begins here lives on after each write; None: no end.
        ring: The keys that seal what is written; None: it is kept as it is.

    Raises:
        KeyUnavailable: The database was written with a ring, and none is given.
    """
    store: Store
    scheme = url.partition(":")[0].partition("+")[0] if isinstance(url, str) else ""
    if scheme in ("redis", "rediss"):
        from langmem_plugin.store.redis_store import RedisStore

        store = RedisStore(url, writer=writer, clock=clock, ttl=ttl, ring=ring)
    elif scheme in ("postgresql", "postgres"):
        from langmem_plugin.store.postgres import PostgresStore

        address = url.replace("postgres://", "postgresql://", 1)
        store = PostgresStore(address, writer=writer, clock=clock, ttl=ttl, ring=ring)
    else:
        store = SqlStore(url, writer=writer, clock=clock, ttl=ttl, ring=ring)
    if ring is None and store.sealing.required:
        store.close()
        raise store.sealing.closed()
    return store
