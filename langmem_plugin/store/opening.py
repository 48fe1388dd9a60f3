"""Which backend an address names."""

from __future__ import annotations

from langmem_plugin.store.sql import SqlStore


def open_store(url: str, *, writer: str = "") -> SqlStore:
    """The store at an address: `sqlite://...` or `postgresql://...`."""
    if isinstance(url, str) and url.partition(":")[0].partition("+")[0] in ("postgresql", "postgres"):
        from langmem_plugin.store.postgres import PostgresStore

        return PostgresStore(url.replace("postgres://", "postgresql://", 1), writer=writer)
    return SqlStore(url, writer=writer)
