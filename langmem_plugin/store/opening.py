"""Which backend an address names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from langmem_plugin.store.protocol import Store
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sql import SqlStore


def open_store(
    url: str,
    *,
    writer: str = "",
    clock: Callable[[], datetime] = utc_now,
    ttl: timedelta | None = None,
) -> Store:
    """The store at an address: `sqlite://...`, `postgresql://...` or `redis://...`.

    Args:
        url: The address.
        writer: Who changes sessions through it, for the audit trail.
        clock: The present moment, by which sessions end.
        ttl: What a session that begins here lives on after each write; None: no end.
    """
    scheme = url.partition(":")[0].partition("+")[0] if isinstance(url, str) else ""
    if scheme in ("redis", "rediss"):
        from langmem_plugin.store.redis_store import RedisStore

        return RedisStore(url, writer=writer, clock=clock, ttl=ttl)
    if scheme in ("postgresql", "postgres"):
        from langmem_plugin.store.postgres import PostgresStore

        return PostgresStore(url.replace("postgres://", "postgresql://", 1), writer=writer, clock=clock, ttl=ttl)
    return SqlStore(url, writer=writer, clock=clock, ttl=ttl)
