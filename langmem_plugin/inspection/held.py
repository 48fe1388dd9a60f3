"""All that a session holds, read once, and the request that came of it at any version (guarantee G12)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from langmem_plugin.config import Budget
from langmem_plugin.context.assembly import assemble
from langmem_plugin.context.request import Context, View
from langmem_plugin.engine import Engine
from langmem_plugin.messages import Role
from langmem_plugin.records import Constraint, ConstraintState, Entry, Head, SessionKey, Summary
from langmem_plugin.store.protocol import Commit, Past, PendingTurn


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A session as the store has it."""

    key: SessionKey
    head: Head
    entries: tuple[Entry, ...]
    """The whole log; `entries[n]` has seq n + 1."""
    constraints: tuple[Constraint, ...]
    """Of the session and its owner, in any state, in creation order."""
    past: Past
    pending: tuple[PendingTurn, ...]

    def turn(self, commit: Commit) -> tuple[Entry, ...]:
        """The entries of a committed turn."""
        return self.entries[commit.first_seq - 1 : self._last_seq(commit)]

    def commit_at(self, version: int) -> Commit | None:
        """The newest commit up to a version; None before the first."""
        place = bisect_right(self.past.commits, version, key=lambda commit: commit.version)
        return self.past.commits[place - 1] if place else None

    def commit_of(self, seq: int) -> Commit | None:
        """The commit that brought a log entry."""
        place = bisect_right(self.past.commits, seq, key=lambda commit: commit.first_seq)
        return self.past.commits[place - 1] if place else None

    def summary_at(self, version: int) -> Summary | None:
        """The summary that was shown at a version."""
        saved = [one for one in self.past.summaries if one.created_version <= version]
        return max(saved, key=lambda one: (one.upto_seq, one.created_version), default=None)

    def is_own(self, constraint: Constraint) -> bool:
        """Whether the constraint was said in this session; an owner's may come from another."""
        if constraint.scope == "session":
            return True
        seq = constraint.seq
        if seq is None or not 0 < seq <= len(self.entries):
            return False
        return self.entries[seq - 1].message.text[constraint.start : constraint.end] == constraint.text

    def constraints_at(self, version: int) -> tuple[Constraint, ...]:
        """Those in force at a version, in creation order.

        An owner's constraint of another session has that session's versions; it is placed by time.
        One that was proposed and then confirmed counts from when it was proposed.
        """
        commit = self.commit_at(version)
        moment = None if commit is None or version >= self.head.version else commit.at
        return tuple(one for one in self.constraints if self._in_force(one, version, moment))

    def view_at(self, version: int) -> View:
        """What assembly needs of the session as it was."""
        commit = self.commit_at(version)
        summary = self.summary_at(version)
        covered = summary.upto_seq if summary else 0
        return View(
            version=version,
            constraints=self.constraints_at(version),
            summary=summary,
            entries=self.entries[covered : self._last_seq(commit) if commit else 0],
        )

    def _last_seq(self, commit: Commit) -> int:
        place = bisect_right(self.past.commits, commit.version, key=lambda one: one.version)
        return self.past.commits[place].first_seq - 1 if place < len(self.past.commits) else len(self.entries)

    def _in_force(self, constraint: Constraint, version: int, moment: datetime | None) -> bool:
        if constraint.state is ConstraintState.PROPOSED:
            return False
        if constraint.expires_at is not None and moment is not None and constraint.expires_at <= moment:
            return False
        ended = constraint.ended_version
        if version >= self.head.version:
            return constraint.state is ConstraintState.ACTIVE
        if self.is_own(constraint):
            return constraint.created_version <= version and (ended is None or ended > version)
        return moment is not None and constraint.created_at <= moment and ended is None


def read_session(engine: Engine, key: SessionKey) -> Held:
    """Read a session whole. Nothing is written and no model is called."""
    store, now = engine.store, engine.clock()
    head = store.head(key)
    entries = tuple(_counted(engine, entry) for entry in store.entries(key, upto=head.last_seq))
    constraints = tuple(_aged(constraint, now) for constraint in store.constraints(key))
    return Held(
        key=key,
        head=head,
        entries=entries,
        constraints=constraints,
        past=store.past(key),
        pending=tuple(store.pending(key)),
    )


def request_at(engine: Engine, held: Held, version: int, *, budget: Budget | None = None, system: str = "") -> Context:
    """The request that the session gave at a version, without a new message."""
    return assemble(
        held.view_at(version),
        counter=engine.counter,
        config=engine.config,
        budget=budget or engine.config.budget,
        system=system,
    )


def request_of(engine: Engine, held: Held, commit: Commit, *, budget: Budget | None = None) -> Context:
    """The request that a turn's first model call got, but for the system prompt and the tools.

    The recalled block is the one that was sent and kept with the turn.
    """
    turn = held.turn(commit)
    asked: list[Entry] = []
    for entry in turn:
        if entry.message.role not in (Role.USER, Role.SYSTEM):
            break
        asked.append(entry)
    attachment = next((entry.attachment for entry in asked if entry.attachment is not None), None)
    view = replace(held.view_at(commit.version - 1), pending=tuple(asked))
    return assemble(
        view,
        counter=engine.counter,
        config=engine.config,
        budget=budget or engine.config.budget,
        attachment=attachment,
    )


def tokens_of(context: Context) -> Mapping[str, int]:
    """The tokens of a request by segment, those that have any."""
    return {name: tokens for name, tokens in context.report.tokens.items() if tokens}


def _counted(engine: Engine, entry: Entry) -> Entry:
    if entry.counter == engine.counter.name:
        return entry
    return replace(entry, tokens=engine.counter.count_message(entry.message), counter=engine.counter.name)


def _aged(constraint: Constraint, now: datetime) -> Constraint:
    over = constraint.expires_at is not None and constraint.expires_at <= now
    return replace(constraint, state=ConstraintState.EXPIRED) if over and constraint.state == "active" else constraint
