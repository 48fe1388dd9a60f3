"""Sessions, turns and the log in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update
from sqlalchemy import exc as sql_errors

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import dump_json
from langmem_plugin.records import Entry, Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.gathered import Gathered
from langmem_plugin.store.holder import HELD, this_process
from langmem_plugin.store.posting_cache import PostingCache
from langmem_plugin.store.protocol import PendingTurn, Staged, TurnState, TurnWrite
from langmem_plugin.store.rows import (
    ENTRY_COLUMNS,
    Row,
    can_be_kept,
    entry_of,
    from_micros,
    staged_of,
    to_micros,
)
from langmem_plugin.store.sealing import SessionSeal
from langmem_plugin.store.sql_commit import TurnCommit, TurnCommits, turn_state
from langmem_plugin.store.sql_sessions import (
    EMPTY_HEAD,
    LIVING,
    as_owner,
    begin_session,
    head_of,
    moment,
    prolonged,
    seal_of,
    session_row,
)

_BATCH = 500
"""Values in one IN list; SQLite of some builds takes no more than 999."""

# Made once: to make a statement takes longer than SQLite takes to answer it.
_ENTRIES = (
    select(*ENTRY_COLUMNS)
    .join(
        schema.turns,
        (schema.turns.c.session_id == schema.messages.c.session_id)
        & (schema.turns.c.turn_id == schema.messages.c.turn_id),
    )
    .where(schema.messages.c.session_id == bindparam("session_id"))
    .order_by(schema.messages.c.seq)
)
_ENTRIES_AFTER = _ENTRIES.where(schema.messages.c.seq > bindparam("after"))
_ENTRIES_AT = _ENTRIES.where(schema.messages.c.seq.in_(bindparam("seqs", expanding=True)))


class SqlLog:
    """What was said, turn by turn."""

    def __init__(self, database: SqlDatabase, postings: PostingCache, *, writer: str = "") -> None:
        self._database = database
        self._postings = postings
        self._writer = writer
        self._holder = this_process()
        self._commits: Gathered[TurnCommit, Head] = Gathered(
            self._commit,
            of=lambda turn: turn.key,
            apart=lambda turn: turn.key.owner if database.by_owner else "",
            patience_s=database.patience_s,
        )

    def head(self, key: SessionKey) -> Head:
        """See `Store.head`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
        return EMPTY_HEAD if row is None else head_of(row)

    def keys(self, *, owner: str | None = None) -> list[SessionKey]:
        """See `Store.keys`."""
        query = select(schema.sessions.c.owner, schema.sessions.c.session).where(LIVING).order_by(schema.sessions.c.id)
        if owner is not None:
            query = query.where(schema.sessions.c.owner == owner)
        with self._database.read() as connection:
            as_owner(connection, owner)
            return [SessionKey(*row) for row in connection.execute(query, {"moment": moment(connection)})]

    # Turns

    def stage(self, key: SessionKey, turn_id: str, staged: Sequence[Staged], *, position: int, now: datetime) -> None:
        """See `Store.stage`."""
        with self._database.write() as connection:
            session = begin_session(connection, key, now)
            session_id = session["id"]
            state = turn_state(connection, session_id, turn_id)
            if state == "committed":
                raise TurnClosed(turn_id, state)
            seal = seal_of(connection, session)
            if staged and _is_staged(connection, session_id, turn_id, staged, position, seal):
                return
            if session["ttl"] is not None:
                _set_session(connection, session_id, **prolonged(connection, session, now))
            held = {"holder": self._holder, "held_until": to_micros(now + HELD)}
            if state is None:
                connection.execute(
                    insert(schema.turns).values(
                        session_id=session_id, turn_id=turn_id, state="pending", started_at=to_micros(now), **held
                    )
                )
            else:
                _set_turn(connection, session_id, turn_id, state="pending", ended_at=None, **held)
            try:
                if staged:
                    connection.execute(insert(schema.staged), _staged_rows(session_id, turn_id, staged, position, seal))
            except sql_errors.IntegrityError as error:
                raise VersionConflict(expected=position, actual=position + 1) from error

    def pending(self, key: SessionKey) -> list[PendingTurn]:
        """See `Store.pending`."""
        turns, staged = schema.turns.c, schema.staged.c
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return []
            open_turns = connection.execute(
                select(turns.turn_id, turns.started_at, turns.holder, turns.held_until)
                .where(turns.session_id == row["id"], turns.state == "pending")
                .order_by(turns.started_at)
            ).all()
            found = []
            seal = seal_of(connection, row)
            for turn_id, started_at, holder, until in open_turns:
                rows = connection.execute(
                    select(schema.staged)
                    .where(staged.session_id == row["id"], staged.turn_id == turn_id)
                    .order_by(staged.position)
                ).mappings()
                found.append(
                    PendingTurn(
                        turn_id=turn_id,
                        staged=tuple(staged_of(one, seal) for one in rows),
                        started_at=from_micros(started_at),
                        holder=holder,
                        held_until=None if until is None else from_micros(until),
                    )
                )
        return found

    def turn_state(self, key: SessionKey, turn_id: str) -> TurnState | None:
        """See `Store.turn_state`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
            return None if row is None else turn_state(connection, row["id"], turn_id)

    def commit(self, key: SessionKey, turn_id: str, write: TurnWrite, *, now: datetime) -> Head:
        """See `Store.commit`; threads that commit at one moment share a transaction."""
        return self._commits(TurnCommit(key, turn_id, write, now))

    def _commit(self, take: Callable[[], Sequence[TurnCommit]]) -> list[Head | Exception]:
        with self._database.write(unread=True) as connection:
            gathered = take()
            self._database.line_up(connection, {turn.key for turn in gathered})
            turns = TurnCommits(connection, gathered, writer=self._writer)
            turns.join(take())  # while it waited for their sessions
            outcomes = turns.write()
        for generation, first, terms in turns.written:
            self._postings.wrote(generation, first, terms)
        return outcomes

    def abort(self, key: SessionKey, turn_id: str, *, now: datetime) -> None:
        """See `Store.abort`."""
        with self._database.write() as connection:
            row = session_row(connection, key)
            if row is None or turn_state(connection, row["id"], turn_id) != "pending":
                return
            connection.execute(delete(schema.staged).where(_is_turn(schema.staged, row["id"], turn_id)))
            _set_turn(connection, row["id"], turn_id, state="aborted", ended_at=to_micros(now))

    # The log

    def entries(
        self, key: SessionKey, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> list[Entry]:
        """See `Store.entries`."""
        with self._database.read() as connection:
            row = session_row(connection, key)
            return [] if row is None else read_entries(connection, row, after=after, upto=upto, limit=limit)

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        wanted = sorted({int(seq) for seq in seqs})
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return []
            found: list[Entry] = []
            for chunk in chunks(wanted):
                found += fetch_entries(connection, row, _ENTRIES_AT, {"session_id": row["id"], "seqs": chunk})
        return found

    def find(self, key: SessionKey, message_ids: Iterable[str]) -> dict[str, str]:
        """See `Store.find`."""
        wanted = [one for one in dict.fromkeys(message_ids) if can_be_kept(one)]
        found: dict[str, str] = {}
        if not wanted:
            return found
        with self._database.read() as connection:
            row = session_row(connection, key)
            if row is None:
                return found
            for table in (schema.messages, schema.staged):
                for chunk in chunks(wanted):
                    rows = connection.execute(
                        select(table.c.message_id, table.c.turn_id).where(
                            table.c.session_id == row["id"], table.c.message_id.in_(chunk)
                        )
                    )
                    found.update((message_id, turn_id) for message_id, turn_id in rows)
        return found


def read_entries(
    connection: Connection, session: Row, *, after: int, upto: int | None = None, limit: int | None = None
) -> list[Entry]:
    """Committed entries of one session, ascending."""
    query = _ENTRIES_AFTER
    if upto is not None:
        query = query.where(schema.messages.c.seq <= upto)
    if limit is not None:
        query = query.limit(limit)
    return fetch_entries(connection, session, query, {"session_id": session["id"], "after": after})


def fetch_entries(
    connection: Connection, session: Row, query: Select[Any], values: Mapping[str, Any] | None = None
) -> list[Entry]:
    """The entries of a query for `ENTRY_COLUMNS`."""
    result, seal = connection.execute(query, values), seal_of(connection, session)
    rows = result.cursor.fetchall() if result.cursor else ()  # as the driver gives them
    return [entry_of(row, seal) for row in rows]


def _is_staged(
    connection: Connection, session_id: int, turn_id: str, staged: Sequence[Staged], position: int, seal: SessionSeal
) -> bool:
    """Whether just these messages are there already: a call that was tried again."""
    table = schema.staged.c
    query = (
        select(table.body, table.position)
        .where(table.session_id == session_id, table.turn_id == turn_id, table.position >= position)
        .order_by(table.position)
    )
    held = [seal.open(body, "staged", turn_id, place) for body, place in connection.execute(query)]
    return held == [dump_json(one.message.to_json()) for one in staged]


def _set_session(connection: Connection, session_id: int, **values: object) -> None:
    connection.execute(update(schema.sessions).where(schema.sessions.c.id == session_id).values(**values))


def _set_turn(connection: Connection, session_id: int, turn_id: str, **values: object) -> None:
    connection.execute(update(schema.turns).where(_is_turn(schema.turns, session_id, turn_id)).values(**values))


def _is_turn(table: Any, session_id: int, turn_id: str) -> Any:
    return (table.c.session_id == session_id) & (table.c.turn_id == turn_id)


def _staged_rows(
    session_id: int, turn_id: str, staged: Sequence[Staged], position: int, seal: SessionSeal
) -> list[dict[str, Any]]:
    return [
        {
            "session_id": session_id,
            "turn_id": turn_id,
            "position": position + offset,
            "message_id": one.message.id,
            "body": seal.seal(dump_json(one.message.to_json()), "staged", turn_id, position + offset),
            "tokens": one.tokens,
            "counter": one.counter,
            "created_at": to_micros(one.created_at),
        }
        for offset, one in enumerate(staged)
    ]


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Parts that are small enough for an IN list."""
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
