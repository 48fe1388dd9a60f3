"""What one message states and ends: values between the rules and the engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from langmem_plugin.records import Constraint, ConstraintKind, SessionKey

_LAST_ZONE_H = 12
"""Hours after UTC that a day ends in the last time zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A statement to keep: `text[start:end]` is the user's own words."""

    kind: ConstraintKind
    start: int
    end: int
    confidence: float
    """0..1"""
    proposed: bool = False
    """Pasted, quoted or touching credentials, addresses or tools: needs confirmation."""
    expires_in: timedelta | None = None
    """From the moment it was said; None if it stands until it is ended."""
    weekday: int | None = None
    """The day until whose end it holds, Monday 0; `expires_in` is the longest that this can be."""

    def expires_after(self, said_at: datetime) -> timedelta | None:
        """How long it holds, said at this moment: a day ends when it is over everywhere on earth."""
        if self.weekday is None or self.expires_in is None:
            return self.expires_in
        day = said_at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        days = (self.weekday - day.weekday()) % 7 or 7
        return day + timedelta(days=days, hours=_LAST_ZONE_H + 24) - said_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An earlier constraint that this message ends."""

    constraint_id: str
    how: Literal["revoked", "superseded"]
    by: int | None
    """Index into `found` of the statement that stands instead; None if revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one message states and what it ends."""

    found: tuple[Found, ...] = ()
    """In the order of the text; spans do not overlap."""
    ended: tuple[Ended, ...] = ()


NOTHING = Findings()
"""Of most messages."""


class InForce:
    """The constraints in force, read once and only when they are first needed: most messages never ask."""

    __slots__ = ("_held", "_read")

    def __init__(self, given: Sequence[Constraint] | Callable[[], Sequence[Constraint]]) -> None:
        self._held: Sequence[Constraint] | None = None if callable(given) else given
        self._read = given if callable(given) else None

    def __call__(self) -> Sequence[Constraint]:
        """All of them; calls what was given, the first time."""
        if self._held is None:
            self._held = [] if self._read is None else self._read()
        return self._held

    @property
    def none(self) -> bool:
        """Whether it is already known that there are none."""
        return self._held is not None and not self._held


def constraint_id(key: SessionKey, turn_id: str, position: int, start: int, end: int) -> str:
    """The same for the same span of the same message, so that finding it again adds nothing (G10)."""
    seed = "\0".join(map(str, (key.owner, key.session, turn_id, position, start, end)))
    return "c" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:10]
