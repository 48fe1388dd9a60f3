"""What providers reported, read back from the log, and what was learned of their counting."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from sqlalchemy import insert, literal, or_, select, union_all, update

from langmem_plugin.messages import Message, load_json
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import from_micros, to_micros
from langmem_plugin.store.sealing import MARK, SessionSeal
from langmem_plugin.store.spending import Learned, Reported, model_of

_LEARNED = "correction:"
_REPORTS = '%"usage"%'


class SqlSpending:
    """Usage stands in the messages; only corrections have a row of their own."""

    _database: SqlDatabase

    def reported(self, owner: str, *, session: str | None = None, since: datetime | None = None) -> list[Reported]:
        """See `SpendStore.reported`."""
        sessions = schema.sessions.c
        found: list[Reported] = []
        parts = []
        for table in (schema.messages, schema.staged):
            columns, first = table.c, table is schema.messages
            row = (columns.seq, literal("")) if first else (columns.position, columns.turn_id)
            query = (
                select(sessions.id, sessions.session, columns.created_at, columns.body, *row)
                .join(schema.sessions, sessions.id == columns.session_id)
                .where(sessions.owner == owner, or_(columns.body.like(_REPORTS), columns.body.like(f"{MARK}%")))
            )
            if first:
                query = query.where(columns.role == "assistant", columns.forgotten_version.is_(None))
            if session is not None:
                query = query.where(sessions.session == session)
            if since is not None:
                query = query.where(columns.created_at > to_micros(since))
            parts.append(query)
        with self._database.read() as connection:
            rows = connection.execute(union_all(*parts)).all()
        sealing = self._database.sealing
        for number, name, at, body, place, turn_id in rows:
            seal = SessionSeal(sealing, owner, name, number)
            text = seal.open(body, "staged", turn_id, place) if turn_id else seal.open(body, "messages", place)
            if '"usage"' not in text:
                continue
            message = Message.from_json(load_json(text))
            if message.usage is not None:
                found.append(Reported(session=name, at=from_micros(at), model=model_of(message), usage=message.usage))
        return sorted(found, key=lambda one: one.at)

    def learned(self, counter: str) -> list[Learned]:
        """See `SpendStore.learned`."""
        meta = schema.meta.c
        with self._database.read() as connection:
            texts = connection.scalars(select(meta.value).where(meta.key.like(f"{_LEARNED}%"))).all()
        rows = [json.loads(text) for text in texts]
        return [
            Learned(model=row["model"], ratio=row["ratio"], extra=row["extra"])
            for row in rows
            if row["counter"] == counter
        ]

    def save_learned(self, counter: str, learned: Learned) -> None:
        """See `SpendStore.save_learned`."""
        meta = schema.meta
        key = _LEARNED + hashlib.sha256(f"{counter}\0{learned.model}".encode()).hexdigest()[:40]
        value = json.dumps({"counter": counter, "model": learned.model, "ratio": learned.ratio, "extra": learned.extra})
        with self._database.write() as connection:
            found = connection.scalar(select(meta.c.value).where(meta.c.key == key).with_for_update())
            if found is None:
                connection.execute(insert(meta).values(key=key, value=value))
                return
            known = json.loads(found)
            if learned.ratio > known["ratio"] or learned.extra > known["extra"]:
                connection.execute(update(meta).where(meta.c.key == key).values(value=value))
