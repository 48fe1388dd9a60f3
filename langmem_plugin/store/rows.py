"""Rows to records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import RowMapping

from langmem_plugin.messages import Message, dump_json, load_json
from langmem_plugin.records import Attachment, Constraint, ConstraintKind, ConstraintState, Entry, Summary
from langmem_plugin.store import schema
from langmem_plugin.store.protocol import Staged

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


def dump_attachment(attachment: Attachment | None) -> str | None:
    """JSON text for the turn's row."""
    if attachment is None:
        return None
    return dump_json({"text": attachment.text, "seqs": list(attachment.seqs), "tokens": attachment.tokens})


def load_attachment(text: str | None) -> Attachment | None:
    """What `dump_attachment` wrote."""
    if text is None:
        return None
    data = load_json(text)
    return Attachment(text=data["text"], seqs=tuple(data["seqs"]), tokens=data["tokens"])


def entry_of(row: Sequence[Any]) -> Entry:
    """A row of `ENTRY_COLUMNS`."""
    seq, turn_id, body, tokens, counter, created_at, attachment, attached_seq = row
    return Entry(
        seq=seq,
        turn=turn_id,
        message=Message.from_json(load_json(body)),
        tokens=tokens,
        counter=counter,
        created_at=from_micros(created_at),
        attachment=load_attachment(attachment) if attachment is not None and attached_seq == seq else None,
    )


def staged_of(row: Row) -> Staged:
    """A row of staged."""
    return Staged(
        message=Message.from_json(load_json(row["body"])),
        tokens=row["tokens"],
        counter=row["counter"],
        created_at=from_micros(row["created_at"]),
    )


def summary_of(row: Row) -> Summary:
    """A row of summaries."""
    return Summary(
        text=load_json(row["text"]),
        upto_seq=row["upto_seq"],
        tokens=row["tokens"],
        method=row["method"],
        model=row["model"],
        prompt_version=row["prompt_version"],
        quality=row["quality"],
        judged=row["judged"],
        created_version=row["version"],
    )


def constraint_of(row: Row) -> Constraint:
    """A row of constraints."""
    expires = row["expires_at"]
    return Constraint(
        id=row["id"],
        kind=ConstraintKind(row["kind"]),
        text=load_json(row["text"]),
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
        display=load_json(row["display"]),
    )


def constraint_row(constraint: Constraint, *, owner: str, session: str) -> dict[str, Any]:
    """The values of a row of constraints."""
    return {
        "id": constraint.id,
        "owner": owner,
        "session": session,
        "scope": constraint.scope,
        "kind": constraint.kind.value,
        "state": constraint.state.value,
        "text": dump_json(constraint.text),
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
        "display": dump_json(constraint.display),
    }
