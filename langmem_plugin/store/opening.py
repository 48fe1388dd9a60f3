"""Which backend an address names."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sql import SqlStore


def open_store(
    url: str,
    *,
    writer: str = "",
    clock: Callable[[], datetime] = utc_now,
    ttl: timedelta | None = None,
) -> SqlStore:
    """The store at an address: `sqlite://...` or `postgresql://...`.

    Args:
        url: The address.
        writer: Who changes sessions through it, for the audit trail.
        clock: The present moment, by which sessions end.
        ttl: What a session that begins here lives on after each write; None: no end.
    """
    if isinstance(url, str) and url.partition(":")[0].partition("+")[0] in ("postgresql", "postgres"):
        from langmem_plugin.store.postgres import PostgresStore

        return PostgresStore(url.replace("postgres://", "postgresql://", 1), writer=writer, clock=clock, ttl=ttl)
    return SqlStore(url, writer=writer, clock=clock, ttl=ttl)
