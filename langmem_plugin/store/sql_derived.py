"""What is derived from the log, in SQL: keyword index, summaries, vectors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Text, and_, bindparam, cast, func, insert, select, update

from langmem_plugin.messages import dump_json
from langmem_plugin.records import Entry, SessionKey, Summary, Uncovered
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.posting_cache import PostingCache, Rows, by_what_was_read, extended
from langmem_plugin.store.protocol import KeywordStats, Postings
from langmem_plugin.store.rows import ENTRY_COLUMNS, Row, summary_of, to_micros
from langmem_plugin.store.sql_log import chunks, fetch_entries
from langmem_plugin.store.sql_sessions import as_owner, head_of, note_events, seal_of, session_row

_NO_ROWS = np.empty((0, 3), np.int64)
_VECTOR = np.dtype("<f4")


# Made once: to make a statement takes longer than SQLite takes to answer it.
# A term's columns come as three texts of numbers: a third of the time that a row for each message takes.
_COLUMNS = (schema.postings.c.seq, schema.postings.c.count, schema.postings.c.length)
_POSTINGS = (
    select(schema.postings.c.term, *(func.aggregate_strings(cast(column, Text), " ") for column in _COLUMNS))
    .where(
        schema.postings.c.session_id == bindparam("session_id"),
        schema.postings.c.term.in_(bindparam("terms", expanding=True)),
        schema.postings.c.seq > bindparam("after"),
    )
    .group_by(schema.postings.c.term)
)
_NEWEST = (
    select(schema.summaries)
    .where(schema.summaries.c.session_id == bindparam("session_id"))
    .order_by(schema.summaries.c.upto_seq.desc(), schema.summaries.c.id.desc())
    .limit(1)
)
_UNCOVERED = select(func.coalesce(func.sum(schema.messages.c.tokens), 0)).where(
    schema.messages.c.session_id == bindparam("session_id"), schema.messages.c.seq > bindparam("after")
)
_NEWEST_BY = _NEWEST.where(schema.summaries.c.method == bindparam("method"))


class SqlDerived:
    """Everything that a rebuild from the log gives back (guarantee G10)."""

    def __init__(self, database: SqlDatabase, postings: PostingCache, *, writer: str = "") -> None:
        self._database = database
        self._writer = writer
        self._postings = postings

    # Keyword index

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        """See `Store.keyword_stats`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
        return (
            KeywordStats(0, 0)
            if row is None
            else KeywordStats(row["documents"], row["terms"], (row["id"], row["erased_version"]))
        )

    def postings(self, key: SessionKey, terms: Sequence[str]) -> dict[str, Postings]:
        """See `Store.postings`."""
        wanted = list(dict.fromkeys(terms))
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return {}
            session_id, upto = row["id"], row["last_seq"]
            generation = (session_id, row["erased_version"])
            found = self._postings.get(generation, wanted)
            missing = [term for term in wanted if term not in found]
            stale = {term: read_to for term, (read_to, _) in found.items() if read_to < upto}
            later = self._postings.newer(generation, stale, upto)
            unread = {term: found[term] for term in stale if term not in later}
            fresh = _read_postings(connection, session_id, missing, after=0)
            for after, together in by_what_was_read(unread).items():
                later |= _read_postings(connection, session_id, together, after=after)
        out = {term: postings for term, (_, postings) in found.items()}
        read = {term: extended(None, fresh.get(term, _NO_ROWS)) for term in missing}
        for term, read_to in stale.items():
            rows = later.get(term, _NO_ROWS)
            read[term] = extended(out[term], rows[rows[:, 0] > read_to])
        self._postings.put(generation, upto, read)
        out.update(read)
        return {term: out[term] for term in wanted if len(out[term].seqs)}

    # Summaries

    def summaries(self, key: SessionKey) -> tuple[Summary | None, Summary | None]:
        """See `Store.summaries`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return None, None
            return (
                newest_summary(connection, row, method="model"),
                newest_summary(connection, row),
            )

    def uncovered(self, key: SessionKey) -> Uncovered | None:
        """See `Store.uncovered`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return None
            shown = connection.execute(_NEWEST, {"session_id": row["id"]}).mappings().first()
            after = 0 if shown is None else shown["upto_seq"]
            tokens: int = connection.execute(_UNCOVERED, {"session_id": row["id"], "after": after}).scalar_one()
        return Uncovered(head_of(row), tokens, None if shown is None else shown["method"] == "model")

    def save_summary(
        self, key: SessionKey, summary: Summary, *, expected: Summary | None, now: datetime | None = None
    ) -> bool:
        """See `Store.save_summary`."""
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None or newest_summary(connection, row) != expected:
                return False
            if summary.upto_seq > row["last_seq"] or row["erased_version"] > summary.created_version:
                return False  # it was begun before something was forgotten that it may hold
            version = row["version"] + 1
            connection.execute(update(schema.sessions).where(schema.sessions.c.id == row["id"]).values(version=version))
            text = seal_of(connection, row).seal(dump_json(summary.text), "summaries", summary.upto_seq, version)
            connection.execute(
                insert(schema.summaries).values(
                    session_id=row["id"],
                    upto_seq=summary.upto_seq,
                    method=summary.method,
                    text=text,
                    tokens=summary.tokens,
                    model=summary.model,
                    prompt_version=summary.prompt_version,
                    quality=summary.quality,
                    judged=summary.judged,
                    version=version,
                )
            )
            at = to_micros(now or datetime.now(UTC))
            change = ("summary", str(summary.upto_seq), summary.method)
            note_events(connection, row["id"], version, [change], writer="", at=at)
        return True

    # Vectors

    def unembedded(self, key: SessionKey, model: str, *, limit: int) -> list[Entry]:
        """See `Store.unembedded`."""
        messages, embeddings = schema.messages, schema.embeddings
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return []
            query = (
                select(*ENTRY_COLUMNS)
                .join(
                    schema.turns,
                    and_(
                        schema.turns.c.session_id == messages.c.session_id, schema.turns.c.turn_id == messages.c.turn_id
                    ),
                )
                .outerjoin(
                    embeddings,
                    and_(
                        embeddings.c.session_id == messages.c.session_id,
                        embeddings.c.seq == messages.c.seq,
                        embeddings.c.model == model,
                    ),
                )
                .where(
                    messages.c.session_id == row["id"],
                    messages.c.forgotten_version.is_(None),
                    embeddings.c.seq.is_(None),
                )
                .order_by(messages.c.seq)
                .limit(limit)
            )
            return fetch_entries(connection, row, query)

    def save_vectors(self, key: SessionKey, model: str, seqs: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
        """See `Store.save_vectors`."""
        blobs = [np.ascontiguousarray(vector, dtype=_VECTOR).tobytes() for vector in vectors]
        self._save_blobs(key, model, seqs, blobs)

    def skip_vectors(self, key: SessionKey, model: str, seqs: Sequence[int]) -> None:
        """See `Store.skip_vectors`."""
        self._save_blobs(key, model, seqs, [b""] * len(seqs))

    def vectors(
        self, key: SessionKey, model: str, *, after: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `Store.vectors`."""
        table = schema.embeddings.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return _matrix(())
            return _matrix(connection.execute(_vectors(row["id"], model).where(table.seq > after)).all())

    def vectors_of(
        self, key: SessionKey, model: str, seqs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `Store.vectors_of`."""
        table = schema.embeddings.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return _matrix(())
            rows: list[Any] = []
            for chunk in chunks(sorted({int(seq) for seq in seqs})):
                rows += connection.execute(_vectors(row["id"], model).where(table.seq.in_(chunk))).all()
        return _matrix(rows)

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """See `Store.count_vectors`."""
        table = schema.embeddings.c
        query = select(func.count()).where(table.model == model, func.length(table.vector) > 0)
        with self._database.read() as connection:
            if key is None:
                as_owner(connection, None)
            else:
                row = session_row(connection, key)
                query = query.where(table.session_id == (-1 if row is None else row["id"]))
            return connection.scalar(query.select_from(schema.embeddings)) or 0

    def vector_keys(self, model: str) -> list[SessionKey]:
        """See `Store.vector_keys`."""
        sessions, embeddings = schema.sessions, schema.embeddings
        query = (
            select(sessions.c.owner, sessions.c.session)
            .where(sessions.c.id.in_(select(embeddings.c.session_id).where(embeddings.c.model == model)))
            .order_by(sessions.c.id)
        )
        with self._database.read() as connection:
            as_owner(connection, None)
            return [SessionKey(*row) for row in connection.execute(query)]

    def _save_blobs(self, key: SessionKey, model: str, seqs: Sequence[int], blobs: Sequence[bytes]) -> None:
        table = schema.embeddings
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None or not seqs:  # forgotten meanwhile
                return
            messages = schema.messages.c
            between = (int(min(seqs)), int(max(seqs)))
            wanted = set(
                connection.scalars(
                    select(messages.seq).where(
                        messages.session_id == row["id"],
                        messages.seq.between(*between),
                        messages.forgotten_version.is_(None),
                    )
                )
            ) - set(
                connection.scalars(
                    select(table.c.seq).where(
                        table.c.session_id == row["id"], table.c.model == model, table.c.seq.between(*between)
                    )
                )
            )
            pairs = [(int(seq), blob) for seq, blob in zip(seqs, blobs, strict=True) if int(seq) in wanted]
            if pairs:
                connection.execute(
                    insert(table),
                    [{"session_id": row["id"], "model": model, "seq": seq, "vector": blob} for seq, blob in pairs],
                )


def _read_postings(connection: Connection, session_id: int, terms: Sequence[str], *, after: int) -> dict[str, Rows]:
    """Rows of (seq, count, length) by term, ascending."""
    found: dict[str, Rows] = {}
    for chunk in chunks(terms):
        result = connection.execute(_POSTINGS, {"session_id": session_id, "terms": chunk, "after": after})
        for term, *columns in result.cursor.fetchall() if result.cursor else ():  # the driver's tuples: much faster
            rows = np.fromstring(" ".join(columns), np.int64, sep=" ").reshape(len(columns), -1).T
            seqs = rows[:, 0]  # no aggregate promises an order, but all three have the same
            found[term] = rows if (seqs[1:] > seqs[:-1]).all() else rows[np.argsort(seqs)]
    return found


def _vectors(session_id: int, model: str) -> Any:
    table = schema.embeddings.c
    return (
        select(table.seq, table.vector)
        .where(table.session_id == session_id, table.model == model, func.length(table.vector) > 0)
        .order_by(table.seq)
    )


def _matrix(rows: Sequence[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    if not rows:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    matrix = np.frombuffer(b"".join(blob for _, blob in rows), dtype=_VECTOR).reshape(len(rows), -1)
    return np.array([seq for seq, _ in rows], np.int64), matrix.astype(np.float32, copy=True)


def newest_summary(connection: Connection, session: Row, *, method: str | None = None) -> Summary | None:
    """The summary that reaches furthest; of two that reach as far, the later one."""
    values = {"session_id": session["id"], "method": method}
    row = connection.execute(_NEWEST if method is None else _NEWEST_BY, values).mappings().first()
    return None if row is None else summary_of(row, seal_of(connection, session))
