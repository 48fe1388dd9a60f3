"""Forgetting in SQL: what is deleted, what stays in its place, and what to look for afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Table, bindparam, delete, func, select, tuple_, update

from langmem_plugin.errors import SealBroken
from langmem_plugin.messages import Message, Role, dump_json, forgotten, load_json
from langmem_plugin.records import SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.collected import Collected
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.keeping import Erased
from langmem_plugin.store.posting_cache import PostingCache
from langmem_plugin.store.rows import Row, seal_of_constraints, to_micros
from langmem_plugin.store.scan import SHORTEST, Needles
from langmem_plugin.store.sealing import SessionSeal
from langmem_plugin.store.sql_keys import of_keys
from langmem_plugin.store.sql_log import chunks
from langmem_plugin.store.sql_sessions import (
    VECTORS_LEFT,
    as_owner,
    drop_sessions,
    held_row,
    new_version,
    seal_of,
    sealing_of,
    session_row,
)

_TEXTS: tuple[tuple[Table, tuple[str, ...]], ...] = (
    (schema.messages, ("body", "message_id", "turn_id")),
    (schema.staged, ("body", "message_id", "turn_id")),
    (schema.turns, ("attachment",)),
    (schema.constraints, ("text", "display", "owner", "session")),
    (schema.summaries, ("text",)),
    (schema.sessions, ("owner", "session")),
    (schema.access_keys, ("owner", "session")),
)
"""Every column with what somebody said or is called, but for keywords and vectors."""
_BODIES = ((schema.messages, ("seq",)), (schema.staged, ("turn_id", "position")))


class SqlErasure:
    """Deletes; the bytes are then gone by `secure_delete` and a checkpoint, and a scan shows it."""

    _database: SqlDatabase
    _postings: PostingCache
    _writer: str

    def forget(self, key: SessionKey, *, keep_constraints: bool = False) -> None:
        """See `Store.forget`."""
        with self._database.write() as connection:
            as_owner(connection, key.owner)
            table = schema.constraints
            if not keep_constraints:
                mine = (table.c.owner == key.owner) & (table.c.session == key.session)
                connection.execute(delete(table).where(mine, table.c.scope == "session"))
            row = held_row(connection, key)
            if row is None:
                return
            self._drop(connection, [row], now=row["created_at"])
        self._database.checkpoint()

    def erase(self, *, owner: str, session: str | None = None, now: datetime) -> Erased:
        """See `Store.erase`."""
        seen = _Seen()
        constraints, sessions = schema.constraints.c, schema.sessions.c
        with self._database.write() as connection:
            as_owner(connection, owner)
            gone = constraints.owner == owner
            query = select(schema.sessions).where(sessions.owner == owner).order_by(sessions.id)
            if session is not None:
                gone &= (constraints.session == session) & (constraints.scope == "session")
                query = query.where(sessions.session == session)
            seen.constraints(connection, gone)
            seen.keys_of(connection, of_keys(owner, session))
            for rows in chunks(connection.execute(query.with_for_update()).mappings().all()):
                seen.sessions(connection, rows)
                self._drop(connection, rows, now=to_micros(now))
            erased = seen.done(connection)
        self._database.checkpoint()
        return erased

    def erase_expired(self, *, now: datetime, limit: int) -> Erased:
        """See `Store.erase_expired`."""
        seen = _Seen()
        constraints, sessions = schema.constraints.c, schema.sessions.c
        over, keys = sessions.expires_at <= to_micros(now), schema.access_keys
        with self._database.write() as connection:
            as_owner(connection, None)
            query = select(schema.sessions).where(over).order_by(sessions.expires_at, sessions.id).limit(limit)
            for rows in chunks(connection.execute(query.with_for_update()).mappings().all()):
                names = [(row["owner"], row["session"]) for row in rows]
                theirs = tuple_(constraints.owner, constraints.session).in_(names)
                seen.constraints(connection, theirs & (constraints.scope == "session"))
                seen.keys_of(connection, tuple_(keys.c.owner, keys.c.session).in_(names))
                seen.sessions(connection, rows)
                self._drop(connection, rows, now=to_micros(now))
            connection.execute(delete(keys).where(keys.c.expires_at <= to_micros(now)))
            left = connection.execute(delete(schema.meta).where(schema.meta.c.key == VECTORS_LEFT)).rowcount
            # Whose keywords others have as well is asked once for a whole sweep, by the scan.
            erased = replace(seen.done(connection, alone=False), vectors_left=bool(left))
        self._database.checkpoint()
        return erased

    def erase_messages(self, key: SessionKey, seqs: Sequence[int], *, now: datetime) -> Erased:
        """See `Store.erase_messages`."""
        seen = _Seen()
        messages = schema.messages
        with self._database.write() as connection:
            session = session_row(connection, key)
            if session is None:
                return Erased()
            mine = messages.c.session_id == session["id"]
            rows: list[RowMapping] = []
            for chunk in chunks(sorted({int(seq) for seq in seqs})):
                query = select(messages).where(mine, messages.c.seq.in_(chunk), messages.c.forgotten_version.is_(None))
                rows += connection.execute(query.order_by(messages.c.seq)).mappings().all()
            if not rows:
                return Erased()
            gone = [row["seq"] for row in rows]
            _, version = new_version(
                connection, key, now, [("forgotten", str(len(rows)), "")], self._writer, prolongs=False
            )
            seen.keys.append(key)
            seen.versions.append(version)
            seal = seal_of(connection, session)
            bodies = [_body_of(row, seal) for row in rows]
            for row, body in zip(rows, bodies, strict=True):
                seen.sealed("messages", row["body"], body)
            connection.execute(
                update(messages)
                .where(messages.c.session_id == session["id"], messages.c.seq == bindparam("at"))
                .values(body=bindparam("body"), tokens=bindparam("tokens"), counter="", forgotten_version=version),
                [
                    {
                        "at": row["seq"],
                        "body": seal.seal(
                            dump_json(forgotten(Message.from_json(body)).to_json()), "messages", row["seq"]
                        ),
                        "tokens": 0,
                    }
                    for row, body in zip(rows, bodies, strict=True)
                ],
            )
            terms = 0
            for chunk in chunks(gone):
                terms += seen.derived(connection, [session["id"]], chunk)
                seen.constraints(
                    connection,
                    (schema.constraints.c.owner == key.owner)
                    & (schema.constraints.c.session == key.session)
                    & schema.constraints.c.seq.in_(chunk),
                )
            seen.summaries(connection, [session], from_seq=gone[0])
            seen.attachments(connection, [session], set(gone))
            connection.execute(
                update(schema.sessions)
                .where(schema.sessions.c.id == session["id"])
                .values(
                    erased_version=version,
                    terms=session["terms"] - terms,
                    tokens=session["tokens"] - sum(row["tokens"] for row in rows),
                )
            )
            erased = seen.done(connection)
            self._postings.forget(session["id"])
        self._database.checkpoint()
        return erased

    def seqs_of(self, key: SessionKey, message: str | int, *, whole_turn: bool = False) -> list[int]:
        """The entries that a message's id or number means, with the others of its turn if wanted; [] if none."""
        table = schema.messages.c
        with self._database.read() as connection:
            session = session_row(connection, key)
            if session is None:
                return []
            mine = table.session_id == session["id"]
            it = mine & (table.message_id == message if isinstance(message, str) else table.seq == message)
            if whole_turn:
                it = mine & table.turn_id.in_(select(table.turn_id).where(it))
            return list(connection.scalars(select(table.seq).where(it).order_by(table.seq)))

    def said_in_rows(self, needles: Needles) -> set[bytes]:
        """Those of the byte strings that stand in what remains."""
        found: set[bytes] = set()
        with self._database.read() as connection:
            for block in _blocks(_remaining(connection)):
                found |= needles.found_in(block)
        return found

    def _drop(self, connection: Connection, rows: Sequence[RowMapping], *, now: int) -> None:
        """Delete sessions' rows; tombstones keep their versions, so that later ones go on from there."""
        drop_sessions(connection, rows, now=now)
        for row in rows:
            self._postings.forget(row["id"])


class _Seen(Collected):
    """Collects what goes, table by table, and deletes it."""

    def sessions(self, connection: Connection, rows: Sequence[RowMapping]) -> None:
        """What sessions hold; their rows are deleted by the caller."""
        numbers = [row["id"] for row in rows]
        self.keys += [SessionKey(row["owner"], row["session"]) for row in rows]
        self.versions += [row["version"] + 1 for row in rows]
        self._counts["sessions"] += len(rows)
        seals = {row["id"]: seal_of(connection, row) for row in rows}
        for table, place in _BODIES:
            columns = (table.c.session_id, table.c.body, *(table.c[name] for name in place))
            query = select(*columns).where(table.c.session_id.in_(numbers)).order_by(*table.primary_key)
            for number, body, *row in connection.execute(query):
                text = seals[number].readable(body, table.name, *row)
                self.sealed(table.name, body, None if text is None else load_json(text))
        self.derived(connection, numbers, None)
        self.summaries(connection, rows, from_seq=0)
        self.attachments(connection, rows, None)

    def derived(self, connection: Connection, numbers: Sequence[int], seqs: Sequence[int] | None) -> int:
        """Keywords and vectors of entries, all of the sessions' by default; gives the number of terms."""
        total = 0
        for table in (schema.postings, schema.embeddings):
            mine: ColumnElement[bool] = table.c.session_id.in_(numbers)
            if seqs is not None:
                mine &= table.c.seq.in_(seqs)
            if table is schema.postings:
                self._terms.update(dict.fromkeys(connection.scalars(select(table.c.term).where(mine).distinct())))
                total = connection.scalar(select(func.sum(table.c.count)).where(mine)) or 0
            else:
                self._vectors += [
                    bytes(blob) for blob in connection.scalars(select(table.c.vector).where(mine)) if blob
                ]
            self._counts[table.name] += connection.execute(delete(table).where(mine)).rowcount
        return int(total)

    def constraints(self, connection: Connection, gone: Any) -> None:
        table, sealing = schema.constraints, sealing_of(connection)
        for row in connection.execute(select(table).where(gone)).mappings():
            seal = seal_of_constraints(sealing, row["owner"], row["session"])
            self._text(row["text"], seal.readable(row["text"], "constraints", row["id"], "text"))
            self.kept(row["display"])
        self._counts[table.name] += connection.execute(delete(table).where(gone)).rowcount

    def keys_of(self, connection: Connection, which: ColumnElement[bool]) -> None:
        self._counts["access_keys"] += connection.execute(delete(schema.access_keys).where(which)).rowcount

    def summaries(self, connection: Connection, sessions: Sequence[Row], *, from_seq: int) -> None:
        """Those that saw the entry `from_seq`: each stands for everything up to its end."""
        table, seals = schema.summaries, {row["id"]: seal_of(connection, row) for row in sessions}
        gone = table.c.session_id.in_(seals) & (table.c.upto_seq >= from_seq)
        for row in connection.execute(select(table).where(gone)).mappings():
            seal = seals[row["session_id"]]
            self._text(row["text"], seal.readable(row["text"], "summaries", row["upto_seq"], row["version"]))
        self._counts[table.name] += connection.execute(delete(table).where(gone)).rowcount

    def attachments(self, connection: Connection, sessions: Sequence[Row], seqs: set[int] | None) -> None:
        """Recalled blocks that quote one of the entries; those that nothing opens, too."""
        table, seals = schema.turns, {row["id"]: seal_of(connection, row) for row in sessions}
        query = select(table.c.session_id, table.c.turn_id, table.c.attachment).where(
            table.c.session_id.in_(seals), table.c.attachment.is_not(None)
        )
        for session_id, turn_id, attachment in connection.execute(query).all():
            text = seals[session_id].readable(attachment, "turns", turn_id)
            held = None if text is None else load_json(text)
            if seqs is None or held is None or seqs & set(held["seqs"]):
                self._counts["recalled"] += 1
                self.kept(attachment)
                if held is not None:
                    self._strings[held["text"]] = None
                connection.execute(
                    update(table)
                    .where(table.c.session_id == session_id, table.c.turn_id == turn_id)
                    .values(attachment=None)
                )

    def done(self, connection: Connection, *, alone: bool = True) -> Erased:
        """All of it; unless `alone` is false, keywords that another message has as well are left out."""
        terms = [term for term in self._terms if alone and len(term.encode()) >= SHORTEST]
        for chunk in chunks(tuple(terms)):
            query = select(schema.postings.c.term).where(schema.postings.c.term.in_(chunk)).distinct()
            for term in connection.scalars(query):
                self._terms.pop(term)
        return self.erased()

    def _text(self, kept: str, text: str | None) -> None:
        self.kept(kept)
        if text is not None:
            self._strings[str(load_json(text))] = None


def _body_of(row: RowMapping, seal: SessionSeal) -> dict[str, Any]:
    """A message as its JSON; of one that was tampered with, what the columns beside say and a tombstone keeps."""
    try:
        body: dict[str, Any] = load_json(seal.open(row["body"], "messages", row["seq"]))
    except SealBroken:
        return Message(role=Role(row["role"]), id=row["message_id"]).to_json()
    return body


def _remaining(connection: Connection) -> Iterator[bytes]:
    for table, names in _TEXTS:
        for row in connection.execute(select(*(table.c[name] for name in names))):
            yield from (value.encode() for value in row if value)
    for term in connection.scalars(select(schema.postings.c.term).distinct()):
        yield term.encode()
    for blob in connection.scalars(select(schema.embeddings.c.vector)):
        yield bytes(blob)


def _blocks(parts: Iterator[bytes], size: int = 1 << 20) -> Iterator[bytes]:
    """The parts joined into larger ones, with a gap between two."""
    held: list[bytes] = []
    length = 0
    for part in parts:
        held.append(part)
        length += len(part)
        if length >= size:
            yield b"\0\0".join(held)
            held, length = [], 0
    yield b"\0\0".join(held)
