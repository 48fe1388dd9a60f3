"""Turns that one transaction commits, in SQL: what each changes is put together, so that many cost few statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import Connection, bindparam, delete, func, select, tuple_, update

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import dump_json
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.bulk import insert_many, update_many
from langmem_plugin.store.posting_cache import Generation
from langmem_plugin.store.protocol import TurnState, TurnWrite
from langmem_plugin.store.rows import constraint_row, dump_attachment, to_micros
from langmem_plugin.store.sealing import SessionSeal
from langmem_plugin.store.sql_sessions import (
    begin_session,
    event_rows,
    head_of,
    held_rows,
    is_over,
    prolonged,
    seal_of,
    sealing_of,
)

_Rows: TypeAlias = list[dict[str, Any]]

# Made once: to make a statement takes longer than SQLite takes to answer it.
_TURN = (schema.turns.c.session_id == bindparam("of_session")) & (schema.turns.c.turn_id == bindparam("of_turn"))
_ENDED = update(schema.turns).where(_TURN)
_STAGED = delete(schema.staged).where(
    schema.staged.c.session_id == bindparam("of_session"), schema.staged.c.turn_id == bindparam("of_turn")
)
_STATE = select(schema.turns.c.state).where(_TURN)
_STATES = select(schema.turns.c.session_id, schema.turns.c.turn_id, schema.turns.c.state).where(
    tuple_(schema.turns.c.session_id, schema.turns.c.turn_id).in_(bindparam("turns", expanding=True))
)


@dataclass(frozen=True, slots=True)
class TurnCommit:
    """One turn, and what it changes."""

    key: SessionKey
    turn_id: str
    write: TurnWrite
    now: datetime


class TurnCommits:
    """Turns, of any sessions, in the order in which they are committed."""

    def __init__(self, connection: Connection, turns: Sequence[TurnCommit], *, writer: str) -> None:
        """Lock their sessions, and make those that are not there.

        Args:
            connection: In a transaction that writes.
            turns: At least one; a session's may be several, and a turn may come twice.
            writer: Who commits them.
        """
        self.written: list[tuple[Generation, int, Sequence[Mapping[str, int]]]] = []
        """Of each turn that was committed: its session's generation, its first number, the terms of its messages."""
        self._connection = connection
        self._turns = [*turns]
        self._writer = writer
        self._sessions = self._begun()
        self._states: dict[tuple[int, str], TurnState] = {}
        self._changed: dict[int, dict[str, Any]] = {}
        """By row id what its row says then, of what changes."""
        self._new: _Rows = []
        self._ended: _Rows = []
        self._messages: _Rows = []
        self._postings: _Rows = []
        self._events: _Rows = []

    def join(self, turns: Sequence[TurnCommit]) -> None:
        """Add turns of the same sessions."""
        self._turns += turns

    def write(self) -> list[Head | Exception]:
        """Write all of them; where each session stands after its turn, or why one cannot be committed."""
        self._states = self._found()
        outcomes: list[Head | Exception] = []
        for turn in self._turns:
            try:
                outcomes.append(self._add(turn))
            except (TurnClosed, VersionConflict) as error:
                outcomes.append(error)
        if self._ended:
            ids = [{name: row[name] for name in ("of_session", "of_turn")} for row in self._ended]
            self._connection.execute(_STAGED, ids)
            self._connection.execute(_ENDED, self._ended)
        for table, rows in (
            (schema.turns, self._new),
            (schema.messages, self._messages),
            (schema.postings, self._postings),
            (schema.events, self._events),
        ):
            insert_many(self._connection, table, rows)
        update_many(self._connection, schema.sessions, [*self._changed.values()])
        return outcomes

    def _add(self, turn: TurnCommit) -> Head:
        session, write = self._sessions[turn.key], turn.write
        session_id, first, at = session["id"], session["last_seq"] + 1, to_micros(turn.now)
        state = self._states.get((session_id, turn.turn_id))
        if state == "committed":
            return head_of(session)
        if state is None and write.begun:
            raise TurnClosed(turn.turn_id, "forgotten")
        if write.expected_version is not None:
            _check_version(self._connection, session, write.expected_version)
        version, seal = session["version"] + 1, seal_of(self._connection, session)
        values = {
            "state": "committed",
            "ended_at": at,
            "version": version,
            "first_seq": first,
            "attached_seq": first + write.attached_to,
            "attachment": dump_attachment(write.attachment, seal, turn.turn_id),
        }
        if state is None:
            self._new.append({"session_id": session_id, "turn_id": turn.turn_id, "started_at": at, **values})
        else:
            self._ended.append({"of_session": session_id, "of_turn": turn.turn_id, **values})
        self._messages += _message_rows(session_id, turn, first, version, seal)
        postings = posting_rows(session_id, write.terms, first)
        self._postings += postings
        _add_constraints(self._connection, turn.key, write, first, version)
        changes = [("turn", turn.turn_id, str(len(write.staged)))]
        changes += [("constraint", new.id, new.state.value) for new in write.constraints]
        changes += [("constraint", ended.id, ended.state.value) for ended in write.ended]
        self._events += event_rows(session_id, version, changes, writer=self._writer, at=at)
        changed = {
            "id": session_id,
            "version": version,
            "last_seq": first + len(write.staged) - 1,
            "documents": session["documents"] + len(write.terms),
            "terms": session["terms"] + sum(row["count"] for row in postings),
            "history_tokens": write.history_tokens or session["history_tokens"],
            "tokens": session["tokens"] + sum(one.tokens for one in write.staged),
            **prolonged(self._connection, session, turn.now),
        }
        self._changed[session_id] = changed
        session.update(changed)
        self._states[session_id, turn.turn_id] = "committed"
        self.written.append(((session_id, session["erased_version"]), first, write.terms))
        return head_of(session, first_seq=first if write.staged else 0)

    def _begun(self) -> dict[SessionKey, dict[str, Any]]:
        """The rows of the sessions, locked one after the other so that no two transactions wait for each other."""
        keys = sorted({turn.key for turn in self._turns}, key=lambda key: (key.owner, key.session))
        rows = held_rows(self._connection, keys) if len(keys) > 1 else {}
        began = {turn.key: turn.now for turn in reversed(self._turns)}
        for key in keys:
            row = rows.get(key)
            if row is None or is_over(self._connection, row):
                rows[key] = begin_session(self._connection, key, began[key])
        return {key: dict(row) for key, row in rows.items()}

    def _found(self) -> dict[tuple[int, str], TurnState]:
        """The turns that are there already, and how they stand."""
        wanted = {(self._sessions[turn.key]["id"], turn.turn_id) for turn in self._turns}
        if len(wanted) == 1:
            ((session_id, turn_id),) = wanted
            state = turn_state(self._connection, session_id, turn_id)
            return {} if state is None else {(session_id, turn_id): state}
        found = self._connection.execute(_STATES, {"turns": sorted(wanted)})
        return {(session_id, turn_id): state for session_id, turn_id, state in found}


def turn_state(connection: Connection, session_id: int, turn_id: str) -> TurnState | None:
    """How a turn stands; None if the session has none of that id."""
    state: TurnState | None = connection.scalar(_STATE, {"of_session": session_id, "of_turn": turn_id})
    return state


def posting_rows(session_id: int, terms: Sequence[Mapping[str, int]], first: int) -> _Rows:
    """The rows for the keywords of messages from number `first` on."""
    rows: _Rows = []
    for offset, counts in enumerate(terms):
        length = sum(counts.values())
        rows += [
            {"session_id": session_id, "term": term, "seq": first + offset, "count": count, "length": length}
            for term, count in counts.items()
        ]
    return rows


def _check_version(connection: Connection, session: Mapping[str, Any], expected: int) -> None:
    """Refuse if anybody but the summary's projection changed the session since; what is before the trail counts."""
    table = schema.events.c
    behind = select(func.count()).where(
        table.session_id == session["id"], table.version > expected, table.kind == "summary"
    )
    if session["version"] != expected + (connection.scalar(behind) or 0):
        raise VersionConflict(expected=expected, actual=session["version"])


def _message_rows(session_id: int, turn: TurnCommit, first: int, version: int, seal: SessionSeal) -> _Rows:
    return [
        {
            "session_id": session_id,
            "seq": first + offset,
            "turn_id": turn.turn_id,
            "version": version,
            "role": one.message.role.value,
            "message_id": one.message.id,
            "body": seal.seal(dump_json(one.message.to_json()), "messages", first + offset),
            "tokens": one.tokens,
            "counter": one.counter,
            "created_at": to_micros(one.created_at),
        }
        for offset, one in enumerate(turn.write.staged)
    ]


def _add_constraints(connection: Connection, key: SessionKey, write: TurnWrite, first: int, version: int) -> None:
    for new in write.constraints:
        said_at = write.staged[new.position].created_at
        constraint = new.said(seq=first + new.position, at=said_at, version=version)
        values = constraint_row(constraint, owner=key.owner, session=key.session, sealing=sealing_of(connection))
        insert_many(connection, schema.constraints, [values])
    table = schema.constraints
    for ended in write.ended:
        connection.execute(
            update(table)
            .where(table.c.id == ended.id, table.c.owner == key.owner, table.c.state == "active", table.c.pinned == 0)
            .values(state=ended.state.value, ended_version=version, superseded_by=ended.superseded_by)
        )
