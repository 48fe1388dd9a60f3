"""What stands in the fields of a session's hash in Redis, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langmem_plugin.messages import Message
from langmem_plugin.records import Attachment, Constraint, ConstraintState, Entry, Summary
from langmem_plugin.store.protocol import Staged
from langmem_plugin.store.rows import constraint_of, constraint_row, from_micros, to_micros

# Fields of a session: m<seq> the message, k<seq> its keywords, v<version> what made the version, t:<turn> a turn,
# i:<message id> its turns, s<number> a summary, e<model's number>:<seq> a vector, constraints, models.


def message_row(one: Staged) -> dict[str, Any]:
    """A message as it is kept, staged or committed."""
    return {
        "id": one.message.id,
        "body": one.message.to_json(),
        "tokens": one.tokens,
        "counter": one.counter,
        "at": to_micros(one.created_at),
    }


def staged_of(row: Mapping[str, Any]) -> Staged:
    """What `message_row` made of a staged message."""
    return Staged(
        message=Message.from_json(row["body"]),
        tokens=row["tokens"],
        counter=row["counter"],
        created_at=from_micros(row["at"]),
    )


def entry_of(seq: int, row: Mapping[str, Any]) -> Entry:
    """A row of the log as an entry."""
    held = row.get("attachment")
    attachment = held and Attachment(text=held["text"], seqs=tuple(held["seqs"]), tokens=held["tokens"])
    return Entry(
        seq=seq,
        turn=row["turn"],
        message=Message.from_json(row["body"]),
        tokens=row["tokens"],
        counter=row["counter"],
        created_at=from_micros(row["at"]),
        attachment=attachment or None,
    )


def entries_of(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Entry]:
    """Rows of the log as entries."""
    return [entry_of(seq, row) for seq, row in rows]


def attachment_json(attachment: Attachment) -> dict[str, Any]:
    """A recalled block as it stands in its message's row."""
    return {"text": attachment.text, "seqs": list(attachment.seqs), "tokens": attachment.tokens}


def summary_json(summary: Summary, version: int) -> dict[str, Any]:
    """A summary as it is kept."""
    names = ("text", "upto_seq", "tokens", "method", "model", "prompt_version", "quality", "judged")
    return {**{name: getattr(summary, name) for name in names}, "created_version": version}


def summary_of(row: Mapping[str, Any]) -> Summary:
    """What `summary_json` made."""
    return Summary(**row)


class KeptConstraint:
    """A constraint with its place among the owner's, and the states that it had."""

    __slots__ = ("constraint", "place", "trail")

    def __init__(self, constraint: Constraint, place: int, trail: Sequence[Sequence[Any]]) -> None:
        self.constraint = constraint
        self.place = place
        self.trail = [list(one) for one in trail]
        """Which session (its id) changed it at which of its versions, when, and to what state."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> KeptConstraint:
        """What `row` made."""
        return cls(constraint_of(row), row["place"], row["trail"])

    def row(self, owner: str) -> dict[str, Any]:
        """As it is kept."""
        row = constraint_row(self.constraint, owner=owner, session=self.constraint.session)
        return {**row, "place": self.place, "trail": self.trail}

    def set(self, state: ConstraintState, *, ended: int | None, by: str | None, change: Sequence[Any]) -> None:
        """Give it another state."""
        self.constraint = replace(self.constraint, state=state, ended_version=ended, superseded_by=by)
        self.trail.append([*change, state.value])
