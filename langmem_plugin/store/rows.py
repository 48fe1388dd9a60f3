"""Rows to records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import RowMapping

from langmem_plugin.messages import JsonObject, Message, dump_json, load_json
from langmem_plugin.records import Attachment, Constraint, ConstraintKind, ConstraintState, Entry, Summary
from langmem_plugin.store import schema
from langmem_plugin.store.protocol import Staged
from langmem_plugin.store.sealing import MARK, PLAIN, Sealing, SessionSeal

Row: TypeAlias = "RowMapping | Mapping[str, Any]"
"""A row by column name."""

ENTRY_COLUMNS = (
    schema.messages.c.seq,
    schema.messages.c.turn_id,
    schema.messages.c.body,
    schema.messages.c.tokens,
    schema.messages.c.counter,
    schema.messages.c.created_at,
    schema.turns.c.attachment,
    schema.turns.c.attached_seq,
)
"""What an entry is made of: a message, and its turn's attachment."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def micros_of(span: timedelta) -> int:
    """Microseconds, exactly."""
    return span // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The aware UTC moment."""
    return _EPOCH + timedelta(microseconds=micros)


def can_be_kept(message_id: str) -> bool:
    """Whether a message could have this id at all; no database could be asked for another."""
    try:
        message_id.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in message_id


def dump_attachment(attachment: Attachment | None, seal: SessionSeal, turn_id: str) -> str | None:
    """Text for the turn's row."""
    if attachment is None:
        return None
    fields: JsonObject = {"text": attachment.text, "seqs": list(attachment.seqs), "tokens": attachment.tokens}
    return seal.seal(dump_json(fields), "turns", turn_id)


def load_attachment(text: str, seal: SessionSeal, turn_id: str) -> Attachment:
    """What `dump_attachment` wrote."""
    data = load_json(seal.open(text, "turns", turn_id))
    return Attachment(text=data["text"], seqs=tuple(data["seqs"]), tokens=data["tokens"])


def entry_of(row: Sequence[Any], seal: SessionSeal) -> Entry:
    """A row of `ENTRY_COLUMNS`."""
    seq, turn_id, body, tokens, counter, created_at, attached, attached_seq = row
    return Entry(
        seq=seq,
        turn=turn_id,
        message=Message.from_json(load_json(seal.open(body, "messages", seq))),
        tokens=tokens,
        counter=counter,
        created_at=from_micros(created_at),
        attachment=load_attachment(attached, seal, turn_id) if attached is not None and attached_seq == seq else None,
    )


def staged_of(row: Row, seal: SessionSeal) -> Staged:
    """A row of staged."""
    body = seal.open(row["body"], "staged", row["turn_id"], row["position"])
    return Staged(
        message=Message.from_json(load_json(body)),
        tokens=row["tokens"],
        counter=row["counter"],
        created_at=from_micros(row["created_at"]),
    )


def summary_of(row: Row, seal: SessionSeal) -> Summary:
    """A row of summaries."""
    return Summary(
        text=load_json(seal.open(row["text"], "summaries", row["upto_seq"], row["version"])),
        upto_seq=row["upto_seq"],
        tokens=row["tokens"],
        method=row["method"],
        model=row["model"],
        prompt_version=row["prompt_version"],
        quality=row["quality"],
        judged=row["judged"],
        created_version=row["version"],
    )


def constraint_of(row: Row, sealing: Sealing = PLAIN) -> Constraint:
    """A row of constraints."""
    expires = row["expires_at"]
    text, display = opened_constraint(row, sealing)
    return Constraint(
        id=row["id"],
        kind=ConstraintKind(row["kind"]),
        text=load_json(text),
        state=ConstraintState(row["state"]),
        scope=row["scope"],
        source=row["source"],
        seq=row["seq"],
        start=row["start"],
        end=row["end"],
        confidence=row["confidence"],
        created_version=row["created_version"],
        ended_version=row["ended_version"],
        superseded_by=row["superseded_by"],
        created_at=from_micros(row["created_at"]),
        expires_at=None if expires is None else from_micros(expires),
        session=row["session"],
        pinned=bool(row["pinned"]),
        display=load_json(display),
    )


def opened_constraint(row: Row, sealing: Sealing) -> tuple[str, str]:
    """The JSON texts of a constraint and of its display."""
    text, display = row["text"], row["display"]
    if text.startswith(MARK) or display.startswith(MARK):
        seal = seal_of_constraints(sealing, row["owner"], row["session"])
        text = seal.open(text, "constraints", row["id"], "text")
        display = seal.open(display, "constraints", row["id"], "display")
    return text, display


def seal_of_constraints(sealing: Sealing, owner: str, session: str) -> SessionSeal:
    """What seals and opens the rows of constraints that came up in this session; they may outlive it."""
    return SessionSeal(sealing, owner, session)


def constraint_row(constraint: Constraint, *, owner: str, session: str, sealing: Sealing = PLAIN) -> dict[str, Any]:
    """The values of a row of constraints."""
    seal = seal_of_constraints(sealing, owner, session)
    return {
        "id": constraint.id,
        "owner": owner,
        "session": session,
        "scope": constraint.scope,
        "kind": constraint.kind.value,
        "state": constraint.state.value,
        "text": seal.seal(dump_json(constraint.text), "constraints", constraint.id, "text"),
        "source": constraint.source,
        "seq": constraint.seq,
        "start": constraint.start,
        "end": constraint.end,
        "confidence": constraint.confidence,
        "created_version": constraint.created_version,
        "ended_version": constraint.ended_version,
        "superseded_by": constraint.superseded_by,
        "created_at": to_micros(constraint.created_at),
        "expires_at": None if constraint.expires_at is None else to_micros(constraint.expires_at),
        "pinned": int(constraint.pinned),
        "display": seal.seal(dump_json(constraint.display), "constraints", constraint.id, "display"),
    }
