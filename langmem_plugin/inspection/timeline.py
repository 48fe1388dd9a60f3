"""A session's life: what each request weighed, when the window was compressed, what began and ceased to bind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from langmem_plugin.config import Budget
from langmem_plugin.engine import Engine
from langmem_plugin.errors import BudgetTooSmall
from langmem_plugin.inspection.held import Held, request_at, request_of, tokens_of
from langmem_plugin.records import Constraint

MOST_REQUESTS = 120
"""Requests that a timeline builds again at most; of a longer session, evenly chosen ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One version of a session and what made it."""

    version: int
    kind: Literal["turn", "summary", "constraint"]
    at: datetime | None = None
    """When it was committed; None where the store keeps no time for it."""
    first_seq: int = 0
    last_seq: int = 0
    """The entries of a turn, or those that a summary newly covers."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """Of a turn's request by segment, without system prompt and tools; empty if it was not built again."""
    window_from: int = 0
    born: tuple[str, ...] = ()
    """Ids of constraints that this version brought."""
    ended: tuple[str, ...] = ()

    @property
    def tokens_used(self) -> int:
        """Tokens of the request."""
        return sum(self.tokens.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A session from its first version to its newest."""

    owner: str
    session: str
    version: int
    messages: int
    budget: int
    """Tokens that a request may have, as this reader is configured."""
    tokens: int
    """Of the whole log."""
    moments: tuple[Moment, ...]
    """By version, ascending."""
    constraints: tuple[Constraint, ...]
    now: Mapping[str, int]
    """The newest request by segment, without a new message."""
    window_from: int
    window_messages: int
    summarised: int
    waiting: int
    open_turns: int
    note: str = ""
    """Why the newest request could not be built; "" if it could."""

    @property
    def requests(self) -> tuple[Moment, ...]:
        """The turns whose requests were built again."""
        return tuple(moment for moment in self.moments if moment.tokens)

    @property
    def compressions(self) -> tuple[Moment, ...]:
        """The summaries that were saved."""
        return tuple(moment for moment in self.moments if moment.kind == "summary")

    def to_json(self) -> dict[str, Any]:
        """The timeline as plain JSON: no message text but the constraints' own."""
        return {
            "owner": self.owner,
            "session": self.session,
            "version": self.version,
            "messages": self.messages,
            "tokens": self.tokens,
            "budget": self.budget,
            "window": {"from": self.window_from, "messages": self.window_messages},
            "summarised": self.summarised,
            "waiting": self.waiting,
            "open_turns": self.open_turns,
            "now": dict(self.now),
            "note": self.note,
            "moments": [_moment_json(moment) for moment in self.moments],
            "constraints": [constraint_json(constraint) for constraint in self.constraints],
        }


def read_timeline(engine: Engine, held: Held, *, budget: Budget | None = None) -> Timeline:
    """The timeline of a session that was read; an empty one for a session that nobody wrote to.

    Args:
        engine: Counts and assembles as the session's memory does.
        held: The session.
        budget: Whose limit the requests are built with; the engine's if not given.
    """
    budget = budget or engine.config.budget
    born, ended = _born(held), _ended(held)
    moments: list[Moment] = []
    rebuilt = set(_evenly(range(len(held.past.commits)), MOST_REQUESTS))
    for place, commit in enumerate(held.past.commits):
        entries = held.turn(commit)
        tokens: Mapping[str, int] = {}
        window_from = 0
        if place in rebuilt and entries:
            try:
                context = request_of(engine, held, commit, budget=budget)
            except BudgetTooSmall:
                pass
            else:
                tokens, window_from = tokens_of(context), context.report.window_from
        moments.append(
            Moment(
                version=commit.version,
                kind="turn",
                at=commit.at,
                first_seq=commit.first_seq,
                last_seq=commit.first_seq + len(entries) - 1,
                tokens=tokens,
                window_from=window_from,
                born=tuple(born.get(commit.version, ())),
                ended=tuple(ended.get(commit.version, ())),
            )
        )
    covered = 0
    for summary in held.past.summaries:
        moments.append(
            Moment(
                version=summary.created_version,
                kind="summary",
                first_seq=min(covered + 1, summary.upto_seq),
                last_seq=summary.upto_seq,
            )
        )
        covered = max(covered, summary.upto_seq)
    taken = {moment.version for moment in moments}
    moments += [
        Moment(
            version=version,
            kind="constraint",
            born=tuple(born.get(version, ())),
            ended=tuple(ended.get(version, ())),
        )
        for version in {*born, *ended} - taken
    ]
    moments.sort(key=lambda moment: moment.version)
    return _now(engine, held, budget, tuple(moments))


def _now(engine: Engine, held: Held, budget: Budget, moments: tuple[Moment, ...]) -> Timeline:
    tokens: Mapping[str, int] = {}
    window_from = window_messages = summarised = waiting = 0
    note = ""
    try:
        report = (context := request_at(engine, held, held.head.version, budget=budget)).report
    except BudgetTooSmall as error:
        note = str(error)
    else:
        tokens, window_from, window_messages = tokens_of(context), report.window_from, report.window_messages
        summarised, waiting = report.summarised, report.waiting
    return Timeline(
        owner=held.key.owner,
        session=held.key.session,
        version=held.head.version,
        messages=len(held.entries),
        budget=budget.prompt,
        tokens=sum(entry.tokens for entry in held.entries),
        moments=moments,
        constraints=held.constraints,
        now=tokens,
        window_from=window_from,
        window_messages=window_messages,
        summarised=summarised,
        waiting=waiting,
        open_turns=len(held.pending),
        note=note,
    )


def constraint_json(constraint: Constraint) -> dict[str, Any]:
    """A constraint as plain JSON."""
    return {
        "id": constraint.id,
        "kind": constraint.kind.value,
        "state": constraint.state.value,
        "text": constraint.text,
        "scope": constraint.scope,
        "source": constraint.source,
        "seq": constraint.seq,
        "start": constraint.start,
        "end": constraint.end,
        "confidence": constraint.confidence,
        "created_version": constraint.created_version,
        "ended_version": constraint.ended_version,
        "superseded_by": constraint.superseded_by,
        "created_at": constraint.created_at.isoformat(),
        "expires_at": constraint.expires_at.isoformat() if constraint.expires_at else None,
    }


def _moment_json(moment: Moment) -> dict[str, Any]:
    return {
        "version": moment.version,
        "kind": moment.kind,
        "at": moment.at.isoformat() if moment.at else None,
        "first_seq": moment.first_seq,
        "last_seq": moment.last_seq,
        "tokens": dict(moment.tokens),
        "window_from": moment.window_from,
        "born": list(moment.born),
        "ended": list(moment.ended),
    }


def _born(held: Held) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for constraint in held.constraints:
        if held.is_own(constraint):
            found.setdefault(constraint.created_version, []).append(constraint.id)
    return found


def _ended(held: Held) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for constraint in held.constraints:
        if constraint.ended_version is not None and held.is_own(constraint):
            found.setdefault(constraint.ended_version, []).append(constraint.id)
    return found


def _evenly(places: range, most: int) -> Iterable[int]:
    """At most so many of the places, evenly, the last one among them."""
    if len(places) <= most:
        return places
    return {places[round(step * (len(places) - 1) / (most - 1))] for step in range(most)}
