"""Which backend an address names."""

from __future__ import annotations

from langmem_plugin.store.protocol import Store
from langmem_plugin.store.sql import SqlStore


def open_store(url: str, *, writer: str = "") -> Store:
    """The store at an address: `sqlite://...`, `postgresql://...` or `redis://...`."""
    scheme = url.partition(":")[0].partition("+")[0] if isinstance(url, str) else ""
    if scheme in ("redis", "rediss"):
        from langmem_plugin.store.redis_store import RedisStore

        return RedisStore(url, writer=writer)
    if scheme in ("postgresql", "postgres"):
        from langmem_plugin.store.postgres import PostgresStore

        return PostgresStore(url.replace("postgres://", "postgresql://", 1), writer=writer)
    return SqlStore(url, writer=writer)
