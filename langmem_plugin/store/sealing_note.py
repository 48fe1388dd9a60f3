"""A database's note that it is written with a key ring, so that nobody writes to it without by mistake."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from langmem_plugin.store import schema
from langmem_plugin.store.sealing import Sealing

_SEALED = "sealed"
_NOTE = text("INSERT INTO meta (key, value) VALUES (:key, '1') ON CONFLICT DO NOTHING")


def note_sealed(connection: Connection, sealing: Sealing) -> None:
    """Read the note, and write it if there is a ring for the first time."""
    meta = schema.meta.c
    sealing.required = connection.scalar(select(meta.value).where(meta.key == _SEALED)) is not None
    if sealing.ring is not None and not sealing.required:
        connection.execute(_NOTE, {"key": _SEALED})
        sealing.required = True
