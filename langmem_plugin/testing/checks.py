"""What the clauses of a suite ask with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from langmem_plugin.records import Constraint, ConstraintKind
from langmem_plugin.session import Session


def said(session: Session) -> list[str]:
    """The texts of the log."""
    return [entry.message.text for entry in session.history()]


def refused(kind: type[BaseException], call: Callable[[], Any]) -> BaseException:
    """The error of that kind that the call raises.

    Raises:
        AssertionError: It raised none.
    """
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def in_force(*texts: str) -> tuple[Constraint, ...]:
    """A constraint for each text, as the rules find them, with the ids c0, c1 and so on."""
    return tuple(
        Constraint(
            id=f"c{number}",
            kind=ConstraintKind.FACT,
            text=text,
            source="rule",
            created_version=1,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for number, text in enumerate(texts)
    )
