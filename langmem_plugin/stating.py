"""Constraints that a turn states and ends, and what follows once they are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal
from uuid import uuid4

from langmem_plugin.config import ConstraintsConfig
from langmem_plugin.engine import Engine
from langmem_plugin.errors import ConstraintNotFound, InvalidSetting
from langmem_plugin.messages import Role
from langmem_plugin.projections.constraints import find_constraints
from langmem_plugin.projections.constraints.findings import NOTHING, constraint_id
from langmem_plugin.records import (
    Constraint,
    ConstraintChange,
    ConstraintEvent,
    ConstraintKind,
    ConstraintState,
    Entry,
    SessionKey,
)
from langmem_plugin.store.protocol import EndedConstraint, NewConstraint, Staged


def aged(constraint: Constraint, now: datetime) -> Constraint:
    """The constraint as it is at this moment: what was active until a time that is over has expired."""
    over = constraint.expires_at is not None and constraint.expires_at <= now and not constraint.pinned
    if over and constraint.state is ConstraintState.ACTIVE:
        return replace(constraint, state=ConstraintState.EXPIRED)
    return constraint


def holds(constraint: Constraint, now: datetime) -> bool:
    """Whether it is in force at this moment."""
    return aged(constraint, now).state is ConstraintState.ACTIVE


def new_constraint(
    text: str,
    *,
    kind: ConstraintKind | str,
    scope: Literal["session", "owner"],
    now: datetime,
    pinned: bool = False,
    expires_at: datetime | None = None,
) -> Constraint:
    """A constraint that the application gives.

    Raises:
        InvalidSetting: The text is empty, the time is naive, or the kind or scope is unknown.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidSetting("text", text, "say what must hold")
    if scope not in ("session", "owner"):
        raise InvalidSetting("scope", scope, "use 'session' or 'owner'")
    if expires_at is not None and expires_at.tzinfo is None:
        raise InvalidSetting("expires_at", expires_at, "give an aware time")
    try:
        kind = ConstraintKind(kind)
    except ValueError as error:
        raise InvalidSetting("kind", kind, f"use one of {', '.join(ConstraintKind)}") from error
    return Constraint(
        id=f"c{uuid4().hex[:10]}",
        kind=kind,
        text=text,
        scope=scope,
        source="app",
        created_version=0,
        created_at=now,
        expires_at=expires_at,
        pinned=pinned,
    )


def statements(
    engine: Engine, key: SessionKey, turn_id: str, staged: Sequence[Staged]
) -> tuple[tuple[NewConstraint, ...], tuple[EndedConstraint, ...]]:
    """Constraints that the user's own messages state or end; nobody else's words can (DESIGN: source gating)."""
    settings = engine.config.constraints
    if not settings.enabled or not any(one.message.role is Role.USER for one in staged):
        return (), ()
    store = engine.store
    now = engine.clock()

    def read() -> tuple[list[Constraint], Literal["session", "owner"]]:
        with store.reading():
            active = [one for one in store.active_constraints(key) if holds(one, now)]
            scope = settings.scope if settings.scope == "session" or store.shares_constraints(key) else "session"
        return active, scope

    return _derived(settings, key, turn_id, staged, standing=_Standing(read), room=_Room(engine, key))


def restated(engine: Engine, key: SessionKey, turns: Iterable[tuple[int, Sequence[Entry]]]) -> list[Constraint]:
    """What the rules find in a log from its beginning, as it would stand now; nothing is written.

    Args:
        engine: The memory's.
        key: The session.
        turns: The version that each turn made, and its entries, in order.
    """
    settings, store = engine.config.constraints, engine.store
    scope = settings.scope if settings.scope == "session" or store.shares_constraints(key) else "session"
    found: dict[str, Constraint] = {}

    def standing_at(now: datetime) -> _Standing:
        return _Standing(lambda: ([one for one in found.values() if holds(one, now)], scope))

    for version, entries in turns:
        staged = [
            Staged(message=one.message, tokens=one.tokens, counter=one.counter, created_at=one.created_at)
            for one in entries
        ]
        proposed = sum(one.state is ConstraintState.PROPOSED for one in found.values())
        room = _Room(engine, key, left=settings.max_proposed - proposed)
        standing = standing_at(entries[0].created_at)
        new, ended = _derived(settings, key, entries[0].turn, staged, standing=standing, room=room)
        for one in new:
            entry = entries[one.position]
            found[one.id] = one.said(seq=entry.seq, at=entry.created_at, version=version, session=key.session)
        for end in ended:
            over = found[end.id]
            found[end.id] = replace(over, state=end.state, ended_version=version, superseded_by=end.superseded_by)
    return list(found.values())


def _derived(
    settings: ConstraintsConfig,
    key: SessionKey,
    turn_id: str,
    staged: Sequence[Staged],
    *,
    standing: _Standing,
    room: _Room,
) -> tuple[tuple[NewConstraint, ...], tuple[EndedConstraint, ...]]:
    new: list[NewConstraint] = []
    ended: list[EndedConstraint] = []
    for position, one in enumerate(staged):
        if one.message.role is not Role.USER:
            continue
        text = one.message.said
        findings = find_constraints(text, active=standing)
        if findings is NOTHING:
            continue
        active = standing()
        pinned = {one.id for one in active if one.pinned}
        ids: list[str | None] = []
        stated: list[NewConstraint] = []
        for found in findings.found:
            long = found.end - found.start > settings.max_chars
            proposed = found.proposed or long or len(active) + len(stated) >= settings.max_active
            if proposed and not room.for_proposal():
                ids.append(None)
                continue
            stated.append(
                NewConstraint(
                    id=constraint_id(key, turn_id, position, found.start, found.end),
                    kind=found.kind,
                    state=ConstraintState.PROPOSED if proposed else ConstraintState.ACTIVE,
                    scope=standing.scope,
                    text=text[found.start : found.end],
                    position=position,
                    start=found.start,
                    end=found.end,
                    confidence=found.confidence,
                    expires_in=found.expires_after(one.created_at),
                )
            )
            ids.append(stated[-1].id)
        new += stated
        in_force = {item.id for item in stated if item.state is ConstraintState.ACTIVE}
        for end in findings.ended:
            by = None if end.by is None else ids[end.by]
            if end.constraint_id in pinned or (end.by is not None and by not in in_force):
                continue  # what is only proposed ends nothing
            ended.append(EndedConstraint(id=end.constraint_id, state=ConstraintState(end.how), superseded_by=by))
            active[:] = [c for c in active if c.id != end.constraint_id]
        active += [_as_constraint(item, one.created_at) for item in stated if item.id in in_force]
    return tuple(new), tuple(ended)


class _Standing:
    """What is in force as the turn goes on, and the scope of what it states: read only if the rules ask."""

    def __init__(self, read: Callable[[], tuple[list[Constraint], Literal["session", "owner"]]]) -> None:
        self._read = read
        self._held: tuple[list[Constraint], Literal["session", "owner"]] | None = None

    def __call__(self) -> list[Constraint]:
        """The constraints in force; the list is the turn's own, to change."""
        return self._once()[0]

    @property
    def scope(self) -> Literal["session", "owner"]:
        return self._once()[1]

    def _once(self) -> tuple[list[Constraint], Literal["session", "owner"]]:
        if self._held is None:
            self._held = self._read()
        return self._held


class _Room:
    """How many proposals may still be kept; counted only if there is one."""

    def __init__(self, engine: Engine, key: SessionKey, *, left: int | None = None) -> None:
        self._engine = engine
        self._key = key
        self._left = left

    def for_proposal(self) -> bool:
        if self._left is None:
            held = self._engine.store.constraints(self._key)
            proposed = sum(one.state is ConstraintState.PROPOSED for one in held)
            self._left = self._engine.config.constraints.max_proposed - proposed
        self._left -= 1
        return self._left >= 0


def _as_constraint(new: NewConstraint, said_at: datetime) -> Constraint:
    return Constraint(
        id=new.id, kind=new.kind, text=new.text, scope=new.scope, source="rule", created_version=0, created_at=said_at
    )


def announce(engine: Engine, key: SessionKey, version: int) -> None:
    """Tell what a committed turn changed, and have its proposals decided; quick if nobody listens."""
    if not engine.watchers:
        return
    held = engine.store.constraints(key)
    events: list[ConstraintEvent] = []
    for constraint in held:
        if constraint.session == key.session and constraint.created_version == version and constraint.source == "rule":
            change: ConstraintChange = "proposed" if constraint.state is ConstraintState.PROPOSED else "stated"
            events.append(event(key, change, constraint))
        if constraint.ended_version == version and constraint.state in _ENDS:
            events.append(event(key, _ENDS[constraint.state], constraint, by=constraint.superseded_by))
    engine.watchers.tell(events)
    settle(engine, key, [item.constraint for item in events if item.change == "proposed"])


_ENDS: dict[ConstraintState, ConstraintChange] = {
    ConstraintState.REVOKED: "revoked",
    ConstraintState.SUPERSEDED: "superseded",
}


def settle(engine: Engine, key: SessionKey, proposals: Sequence[Constraint]) -> None:
    """Ask the application about each proposal, and do as it says."""
    for proposal in proposals:
        decision = engine.watchers.decide(proposal)
        if decision is not None:
            change(engine, key, proposal.id, ConstraintState.ACTIVE if decision else ConstraintState.REVOKED)


def change(engine: Engine, key: SessionKey, constraint_id: str, state: ConstraintState) -> Constraint:
    """Set a constraint's state and tell it.

    Raises:
        ConstraintNotFound: Neither the session nor its owner has it.
    """
    before = next((one for one in engine.store.constraints(key) if one.id == constraint_id), None)
    if before is None:
        raise ConstraintNotFound(constraint_id)
    after = engine.store.end_constraint(key, constraint_id, state, now=engine.clock())
    if after.state is not before.state:
        engine.watchers.tell([event(key, "confirmed" if state is ConstraintState.ACTIVE else "revoked", after)])
    return after


def event(key: SessionKey, what: ConstraintChange, constraint: Constraint, *, by: str | None = None) -> ConstraintEvent:
    """An event of this session."""
    return ConstraintEvent(change=what, constraint=constraint, owner=key.owner, session=key.session, by=by)
