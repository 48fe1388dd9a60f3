"""Constraints in Redis: a session's in its hash, the owner's in the owner's; no compression touches either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from langmem_plugin.errors import ConstraintNotFound
from langmem_plugin.records import Constraint, ConstraintState, SessionKey
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_rows import KeptConstraint
from langmem_plugin.store.redis_transaction import Change, HeldSession, Transaction
from langmem_plugin.store.rows import to_micros

_OPEN = (ConstraintState.ACTIVE, ConstraintState.PROPOSED)


class Constraints:
    """Those of a session and of its owner within a transaction."""

    def __init__(self, transaction: Transaction, session: HeldSession | None = None) -> None:
        self._transaction = transaction
        self._session = session or transaction.session
        self._own = [KeptConstraint.of(row) for row in self._session.hash.get("constraints") or ()]
        self._shared = [KeptConstraint.of(row) for row in transaction.owner.get("constraints") or ()]
        self._new: list[KeptConstraint] = []
        self._changed: set[str] = set()

    @property
    def every(self) -> list[KeptConstraint]:
        """In creation order: the session's, and the owner's unless the session keeps them out (guarantee G7)."""
        shared = [one for one in self._shared if self.shares or one.constraint.session == self._session.key.session]
        return sorted([*self._own, *shared], key=lambda one: one.place) + self._new

    @property
    def records(self) -> tuple[Constraint, ...]:
        """The same, as the store gives them."""
        return tuple(one.constraint for one in self.every)

    @property
    def shares(self) -> bool:
        """Whether the owner's hold in the session."""
        return _shares(self._transaction, self._session)

    def find(self, constraint_id: str) -> KeptConstraint | None:
        """The one with this id; None if neither the session nor its owner has it."""
        return next((one for one in self.every if one.constraint.id == constraint_id), None)

    def one(self, constraint_id: str) -> KeptConstraint:
        """The same.

        Raises:
            ConstraintNotFound: Neither has it.
        """
        found = self.find(constraint_id)
        if found is None:
            raise ConstraintNotFound(constraint_id)
        return found

    def add(self, constraint: Constraint, now: datetime) -> Constraint:
        """Keep one, said at the version that is being made."""
        head = self._session.head or {}
        kept = replace(constraint, created_version=head["version"], session=self._session.key.session)
        trail = [[head["id"], head["version"], to_micros(now), kept.state.value]]
        self._new.append(KeptConstraint(kept, 0, trail))
        self._changed.add(kept.scope)
        return kept

    def restore(self, constraint: Constraint, now: datetime) -> None:
        """Keep one as it is given, with the versions at which it came and ended."""
        head = self._session.head or {}
        kept = replace(constraint, session=self._session.key.session)
        came = kept.state if kept.ended_version is None else ConstraintState.ACTIVE
        trail = [[head["id"], kept.created_version, to_micros(kept.created_at), came.value]]
        if kept.ended_version is not None:
            trail.append([head["id"], kept.ended_version, to_micros(now), kept.state.value])
        self._new.append(KeptConstraint(kept, 0, trail))
        self._changed.add(kept.scope)

    def copy(self, constraint: Constraint) -> None:
        """Keep one that was said at an earlier version, before the session branched off."""
        head = self._session.head or {}
        kept = replace(constraint, session=self._session.key.session)
        trail = [[head["id"], kept.created_version, to_micros(kept.created_at), kept.state.value]]
        self._new.append(KeptConstraint(kept, 0, trail))
        self._changed.add(kept.scope)

    def end(self, one: KeptConstraint, state: ConstraintState, now: datetime, *, by: str | None) -> Constraint:
        """Give one another state at the version that is being made."""
        head = self._session.head or {}
        change = [head["id"], head["version"], to_micros(now)]
        one.set(state, ended=None if state in _OPEN else head["version"], by=by, change=change)
        self._changed.add(one.constraint.scope)
        return one.constraint

    def mark(self, one: KeptConstraint, marked: Constraint, now: datetime) -> None:
        """Put one in the place of what it was, with the same state."""
        head = self._session.head or {}
        one.constraint = marked
        one.trail.append([head["id"], head["version"], to_micros(now), marked.state.value])
        self._changed.add(marked.scope)

    def put(self) -> None:
        """Write what changed."""
        if self._new:
            first = self._transaction.numbers(len(self._new))
            for offset, one in enumerate(self._new):
                one.place = first + offset
        owner = self._session.key.owner
        if "session" in self._changed:
            every = [*self._own, *(one for one in self._new if one.constraint.scope == "session")]
            self._session.hash.put("constraints", [one.row(owner) for one in every])
        if "owner" in self._changed:
            every = [*self._shared, *(one for one in self._new if one.constraint.scope == "owner")]
            self._transaction.put_owner_constraints([one.row(owner) for one in every])


class RedisConstraints:
    """What the user said to hold, in every state."""

    _database: RedisDatabase
    _writer: str

    def constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """See `Store.constraints`."""
        return self._database.read(key, lambda transaction: Constraints(transaction).records, "constraints")

    def active_constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """See `Store.active_constraints`."""
        return tuple(one for one in self.constraints(key) if one.state is ConstraintState.ACTIVE)

    def add_constraint(self, key: SessionKey, constraint: Constraint) -> Constraint:
        """See `Store.add_constraint`."""

        def change(transaction: Transaction) -> Constraint:
            held = Constraints(transaction)
            if (there := held.find(constraint.id)) is not None:  # a call that was tried again
                return there.constraint
            now = constraint.created_at
            transaction.new_version(now, [_change(constraint)], self._writer)
            kept = held.add(constraint, now)
            held.put()
            transaction.put_head()
            return kept

        return self._database.change(key, change, "constraints")

    def end_constraint(
        self,
        key: SessionKey,
        constraint_id: str,
        state: ConstraintState,
        *,
        by: str | None = None,
        now: datetime | None = None,
    ) -> Constraint:
        """See `Store.end_constraint`."""
        at = now or datetime.now(UTC)

        def change(transaction: Transaction) -> Constraint:
            held = Constraints(transaction)
            one = held.one(constraint_id)
            if one.constraint.state is state:
                return one.constraint
            transaction.new_version(at, [("constraint", constraint_id, state.value)], self._writer)
            ended = held.end(one, state, at, by=by)
            held.put()
            transaction.put_head()
            return ended

        return self._database.change(key, change, "constraints")

    def replace_constraint(self, key: SessionKey, constraint_id: str, new: Constraint) -> tuple[Constraint, Constraint]:
        """See `Store.replace_constraint`."""

        def change(transaction: Transaction) -> tuple[Constraint, Constraint]:
            held = Constraints(transaction)
            old = held.one(constraint_id)
            if (there := held.find(new.id)) is not None:  # a call that was tried again
                return old.constraint, there.constraint
            now, superseded = new.created_at, ConstraintState.SUPERSEDED
            changes = [_change(new), ("constraint", constraint_id, superseded.value)]
            transaction.new_version(now, changes, self._writer)
            kept = held.add(new, now)
            ended = held.end(old, superseded, now, by=kept.id)
            held.put()
            transaction.put_head()
            return ended, kept

        return self._database.change(key, change, "constraints")

    def mark_constraint(
        self, key: SessionKey, constraint_id: str, *, pinned: bool | None = None, display: str | None = None
    ) -> Constraint:
        """See `Store.mark_constraint`."""

        def change(transaction: Transaction) -> Constraint:
            held = Constraints(transaction)
            one = held.one(constraint_id)
            before = one.constraint
            marked = replace(
                before,
                pinned=before.pinned if pinned is None else pinned,
                display=before.display if display is None else display,
            )
            if marked == before:
                return before
            now = datetime.now(UTC)
            transaction.new_version(now, [("constraint", constraint_id, before.state.value)], self._writer)
            held.mark(one, marked, now)
            held.put()
            transaction.put_head()
            return marked

        return self._database.change(key, change, "constraints")

    def shares_constraints(self, key: SessionKey) -> bool:
        """See `Store.shares_constraints`."""
        return self._database.read(key, _shares)

    def share_constraints(self, key: SessionKey, *, shared: bool, now: datetime) -> None:
        """See `Store.share_constraints`."""

        def change(transaction: Transaction) -> None:
            if _shares(transaction) is shared:
                return
            version = transaction.new_version(now, [("sharing", "owner", str(int(shared)))], self._writer)
            head = transaction.begin_session(now)
            head["shares"] = shared
            head["sharing"].append([version, shared])
            transaction.put_head()

        self._database.change(key, change)

    def refined_upto(self, key: SessionKey) -> int:
        """See `Store.refined_upto`."""
        return self._database.read(key, lambda transaction: int((transaction.session.head or {}).get("refined", 0)))

    def save_refined(
        self, key: SessionKey, *, after: int, upto: int, new: Sequence[Constraint], read_at: int
    ) -> tuple[Constraint, ...] | None:
        """See `Store.save_refined`."""

        def change(transaction: Transaction) -> tuple[Constraint, ...] | None:
            head = transaction.session.head
            if head is None or head["refined"] != after or upto > head["last_seq"] or head["erased"] > read_at:
                return None
            held = Constraints(transaction)
            fresh = [constraint for constraint in new if held.find(constraint.id) is None]
            head["refined"] = upto
            kept: tuple[Constraint, ...] = ()
            if fresh:
                now = fresh[0].created_at
                transaction.new_version(now, list(map(_change, fresh)), self._writer, prolongs=False)
                kept = tuple(held.add(constraint, now) for constraint in fresh)
                held.put()
            transaction.put_head()
            return kept

        return self._database.change(key, change, "constraints")


def in_force(held: Constraints, now: datetime) -> tuple[Constraint, ...]:
    """The active constraints at this moment, in creation order; what expired is left out."""
    return tuple(
        one
        for one in held.records
        if one.state is ConstraintState.ACTIVE and (one.pinned or one.expires_at is None or one.expires_at > now)
    )


def _shares(transaction: Transaction, session: HeldSession | None = None) -> bool:
    head = (session or transaction.session).head
    return head is None or bool(head["shares"])


def _change(constraint: Constraint) -> Change:
    return ("constraint", constraint.id, constraint.state.value)
