"""A conversation of one owner: turns go in, contexts come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from langmem_plugin.config import Budget
from langmem_plugin.context.constraints_block import missing
from langmem_plugin.context.request import Context, ContextReport, Document
from langmem_plugin.engine import Engine, Said, as_message, check_name, session_key
from langmem_plugin.errors import ConstraintMissing, ConstraintNotFound, VersionConflict
from langmem_plugin.ingest import commit, stage
from langmem_plugin.inspection.visible import Visible
from langmem_plugin.lasting import Lasting
from langmem_plugin.messages import Role, Usage
from langmem_plugin.past import PastSession
from langmem_plugin.reader import Reader
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.records import (
    Constraint,
    ConstraintChange,
    ConstraintKind,
    ConstraintState,
    Entry,
    Event,
    Hit,
    Receipt,
    SessionKey,
)
from langmem_plugin.stating import aged, change, event, new_constraint
from langmem_plugin.store.holder import is_held
from langmem_plugin.store.protocol import Staged, TurnState
from langmem_plugin.store.spending import model_of
from langmem_plugin.turn import Turn


class Session(Visible, Lasting):
    """One conversation; open it with `Memory.session`.

    Thread-safe. Reading never waits for a model, but for the query's embedding
    within its deadline (guarantee G8).
    """

    def __init__(self, engine: Engine, key: SessionKey) -> None:
        self._engine = engine
        self._key = key
        self._reader = Reader(engine, key)

    def __repr__(self) -> str:
        return f"Session(id={self.id!r}, owner={self.owner!r})"

    @property
    def id(self) -> str:
        """The session's id."""
        return self._key.session

    @property
    def owner(self) -> str:
        """Whose conversation it is."""
        return self._key.owner

    @property
    def version(self) -> int:
        """Counts committed changes; 0 for a session that nobody wrote to."""
        return self._engine.store.head(self._key).version

    # Writing

    def begin(self, *messages: Said, turn_id: str | None = None) -> Turn:
        """Begin a turn with what the user says; durable when it returns, visible to this turn alone.

        Args:
            messages: Usually one user message; a text is a user's.
            turn_id: A key of your own that makes a retry harmless. A pending turn with
                this id is resumed, and what it holds already is not added again; a
                committed one is returned as it is and takes nothing more.

        Returns:
            The turn. If a message's id is in the log already, the turn that holds it.

        Raises:
            InvalidMessage: A message cannot be kept.
        """
        said = tuple(as_message(message, Role.USER) for message in messages)
        if turn_id is None:
            held = self._engine.store.find(self._key, [m.id for m in said if m.id])
            turn_id = next(iter(held.values()), None)
        if turn_id is None:
            turn_id, state = uuid4().hex, None
        else:
            check_name("turn_id", turn_id)
            state = self._engine.store.turn_state(self._key, turn_id)
        if state == "committed":
            return self._turn(turn_id, state="committed")
        turn = self._turn(turn_id, staged=self._staged(turn_id) if state == "pending" else ())
        said = tuple(message for message in said if message not in turn.messages)
        if said:
            turn.append(*said)
        return turn

    def resume(self) -> Turn | None:
        """The newest pending turn whose writer is gone or is this process; None if there is none.

        A turn that another process has open is left to it: while that process lives, or
        on another machine for two minutes after the turn's last message. `begin` with
        the turn's id takes it over at once.
        """
        now = self._engine.clock()
        pending = [
            turn for turn in self._engine.store.pending(self._key) if not is_held(turn.holder, turn.held_until, now=now)
        ]
        if not pending:
            return None
        return self._turn(pending[-1].turn_id, staged=pending[-1].staged)

    def add(self, *messages: Said, turn_id: str | None = None, expected_version: int | None = None) -> int:
        """Add a whole turn in one transaction.

        Args:
            messages: In order; a text is a user's. Messages whose ids are in the log add nothing.
            turn_id: A key of your own: a turn that is committed under it adds nothing again.
            expected_version: Add only if the session is still at this version. Summaries made
                since do not count. Without it turns of several writers are added one after the other.

        Returns:
            The session's version.

        Raises:
            InvalidMessage: A message cannot be kept; nothing of the turn is.
            VersionConflict: Somebody else changed the session since; nothing was added.
        """
        said = [as_message(message, Role.USER) for message in messages]
        held = self._engine.store.find(self._key, [m.id for m in said if m.id])
        said = [m for m in said if m.id not in held]
        if not said:
            return self.version
        if turn_id is not None:
            check_name("turn_id", turn_id)
        staged = stage(self._engine, said)
        for message in said:
            if message.usage is not None:
                self._engine.used(self._key, message.usage, model=model_of(message), stored=True)
        return commit(
            self._engine,
            self._key,
            turn_id or uuid4().hex,
            staged,
            history_tokens=self._reader.history_tokens,
            expected_version=expected_version,
        )

    # Reading

    def context(
        self,
        query: Said | None = None,
        *,
        system: str = "",
        tools: Sequence[Mapping[str, Any]] = (),
        budget: Budget | None = None,
        documents: Sequence[Document] = (),
        recall_as: Literal["prefix", "pair"] = "prefix",
        other_tokens: int = 0,
    ) -> Context:
        """Assemble what the model should see next, within a token budget.

        Constraints come first and are never cut; then the summary, the window and
        what is recalled for the query. Reads only: two calls at one version are equal.

        Args:
            query: The user's next message, also used for recall; None for the history alone.
            system: The developer's system prompt; kept byte for byte.
            tools: The schemas of the tools that go with the request; only counted.
            budget: Limits in tokens as this memory's counter counts them; the
                configured ones if not given.
            documents: Texts of your own for this request, never stored; see `Document.segment`.
            recall_as: "prefix" puts what is recalled before the query's text. "pair"
                leaves the query out, for a framework that adds it itself, and shows what
                is recalled as a user/assistant pair at the end.
            other_tokens: Tokens of what you send along besides; taken off the budget.

        Returns:
            The messages in order, and a report of tokens per section and what was cut.

        Raises:
            BudgetTooSmall: System prompt, tools, constraints and query alone exceed the budget.
            SpendExceeded: A limit of `MemoryConfig.spend` is reached.

        Example:
            >>> from langmem_plugin import Memory
            >>> with Memory.open() as memory:
            ...     session = memory.session("trip", owner="ann")
            ...     version = session.add("I am allergic to peanuts.")
            ...     "allergic to peanuts" in session.context("Suggest a snack.").system
            True
        """
        message = None if query is None else as_message(query, Role.USER)
        return self._reader.assemble(
            pending=(),
            query=message,
            attachment=None,
            system=system,
            tools=tools,
            budget=budget,
            documents=(*documents, *self._engine.documents_for(self._key, message.text if message else "")),
            recall_as=recall_as,
            other_tokens=other_tokens,
        )

    def report_usage(self, usage: Usage, *, counted: int = 0, model: str = "") -> None:
        """Say what a provider reported for a request of this session.

        It counts towards the limits of `MemoryConfig.spend`. Where the provider counted more
        than this memory did, later requests are built that much smaller (guarantee G1).
        Messages that carry their usage are reported by themselves.

        Args:
            usage: As the provider reported it.
            counted: Tokens of the request as this memory counted them; 0 if unknown.
            model: The model's name.
        """
        self._engine.used(self._key, usage, counted=counted, model=model)

    @property
    def report(self) -> ContextReport | None:
        """The account of the newest request that this process built for the session; None before the first.

        Where an adapter had to rebuild the request, because the model refused it as too
        long, `notes` says so.
        """
        return self._reader.report

    def add_notes(self, *notes: str) -> None:
        """Add sentences to `report`: what an adapter did to the request after it was built."""
        self._reader.add_notes(notes)

    def at(self, version: int, *, moment: datetime | None = None) -> PastSession:
        """The session as it was at an earlier version, to read: history, constraints, requests.

        Args:
            version: From 0 to the present one.
            moment: When it was read, aware: constraints that expired by then are out, those of
                the owner's other sessions are in as they stood. The moment at which the
                version was made, if not given.

        Raises:
            VersionConflict: The session never had that version, or was forgotten since.
        """
        snapshot = self._engine.store.snapshot_at(self._key, version, moment=moment)
        if snapshot is None:
            raise VersionConflict(expected=version, actual=self.version)
        return PastSession(self._engine, self._key, snapshot)

    def events(self, *, after: int = 0) -> list[Event]:
        """Who changed what, and when: every change with a version > `after`, in order."""
        return self._engine.store.events(self._key, after=after)

    def history(self, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Committed entries with seq > after, oldest first, at most `limit`; [] for a new session."""
        return self._engine.store.entries(self._key, after=after, limit=limit)

    def known(self, message_ids: Iterable[str]) -> set[str]:
        """Those of the framework's message ids that are in the log or in an open turn."""
        return set(self._engine.store.find(self._key, message_ids))

    def recall(self, query: str, *, k: int = 10, only: RecallFilter | None = None) -> list[Hit]:
        """Earlier messages that matter for a question, best first, at most `k` that `only` lets through; [] if none."""
        return list(self._reader.search(query, k=k, only=only).hits[:k])

    # Constraints

    def constraints(self, *, all: bool = False) -> tuple[Constraint, ...]:
        """The active constraints of the session and its owner, in creation order.

        Args:
            all: Also those that are proposed, superseded, revoked or expired.
        """
        now = self._engine.clock()
        found = tuple(aged(constraint, now) for constraint in self._engine.store.constraints(self._key))
        return found if all else tuple(c for c in found if c.state is ConstraintState.ACTIVE)

    def add_constraint(
        self,
        text: str,
        *,
        kind: ConstraintKind | str = ConstraintKind.REQUIREMENT,
        scope: Literal["session", "owner"] = "session",
        pinned: bool = False,
    ) -> Constraint:
        """Add a constraint by hand; it is in the next request, word for word.

        Args:
            text: What must hold.
            kind: What sort of statement it is.
            scope: Where it holds: in this session, or in all of the owner's.
            pinned: See `pin`.

        Raises:
            InvalidSetting: The text is empty, or the kind or scope is unknown.
        """
        constraint = new_constraint(text, kind=kind, scope=scope, now=self._engine.clock(), pinned=pinned)
        added = self._engine.store.add_constraint(self._key, constraint)
        self._tell("added", added)
        return added

    def edit_constraint(
        self,
        constraint_id: str,
        text: str | None = None,
        *,
        kind: ConstraintKind | str | None = None,
        scope: Literal["session", "owner"] | None = None,
        expires_at: datetime | None = None,
    ) -> Constraint:
        """Put another one in its place; the old one stays listed as superseded by it.

        Args:
            constraint_id: The one to replace.
            text: What must hold from now on; as it was if not given.
            kind: As it was if not given.
            scope: As it was if not given.
            expires_at: When it ends, aware; as it was if not given.

        Returns:
            The new one, with an id of its own; its source is "app", for these are not the user's words.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
            InvalidSetting: The text is empty, or the kind or scope is unknown.
        """
        old = next((one for one in self.constraints(all=True) if one.id == constraint_id), None)
        if old is None:
            raise ConstraintNotFound(constraint_id)
        new = new_constraint(
            old.text if text is None else text,
            kind=old.kind if kind is None else kind,
            scope=old.scope if scope is None else scope,
            now=self._engine.clock(),
            pinned=old.pinned,
            expires_at=old.expires_at if expires_at is None else expires_at,
        )
        ended, kept = self._engine.store.replace_constraint(self._key, constraint_id, new)
        self._tell("superseded", ended, by=kept.id)
        self._tell("edited", kept)
        return kept

    def pin(self, constraint_id: str, *, pinned: bool = True) -> Constraint:
        """Keep a constraint until the application ends it: no later statement and no time does. Or unpin it.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        marked = self._engine.store.mark_constraint(self._key, constraint_id, pinned=pinned)
        self._tell("pinned" if pinned else "unpinned", marked)
        return marked

    def revoke(self, constraint_id: str) -> Constraint:
        """Take a constraint out of every later request; it stays listed as revoked.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        return change(self._engine, self._key, constraint_id, ConstraintState.REVOKED)

    def confirm(self, constraint_id: str) -> Constraint:
        """Make a proposed constraint active.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        return change(self._engine, self._key, constraint_id, ConstraintState.ACTIVE)

    def share_constraints(self, shared: bool) -> None:
        """Whether constraints of the owner hold in this session; a new session has them all.

        Without them, the session neither sends nor lists them, and what is stated here stays here.
        """
        self._engine.store.share_constraints(self._key, shared=shared, now=self._engine.clock())

    def missing_constraints(self, request: str) -> tuple[Constraint, ...]:
        """The active constraints that a final request's text does not hold; () if all are there (G2).

        Args:
            request: All that a model is sent in the system role, or the whole prompt.
        """
        return missing(request, self.constraints())

    def verify_request(self, request: str) -> None:
        """The last look at what is sent; see `missing_constraints`.

        Raises:
            ConstraintMissing: An active constraint does not stand in it, word for word.
        """
        active = self.constraints()
        gone = missing(request, active)
        if gone:
            raise ConstraintMissing(missing=tuple(one.id for one in gone), active=len(active))

    def fork(self, session_id: str, *, at: int | None = None) -> Session:
        """Begin a session of the same owner that goes on from this one, as it is or as it was at a version.

        Log, summary, constraints, keywords and vectors are copied in one transaction; from
        then on the two know nothing of each other: forget a copy as well as its origin.

        Args:
            session_id: The new session's id.
            at: A version of this session.

        Raises:
            VersionConflict: The new session has been written to, or this one never had that version.
            InvalidSetting: The id is empty, too long or cannot be stored.
        """
        to = session_key(session_id, self.owner)
        self._engine.store.fork(self._key, to, self.version if at is None else at, now=self._engine.clock())
        self._engine.note(to, None)
        return Session(self._engine, to)

    def forget(self, message: str | int | None = None, *, whole_turn: bool = False) -> Receipt:
        """Forget one message, or the session, for good; see `Memory.forget`."""
        return self._engine.eraser.forget(self.owner, self.id, message, whole_turn=whole_turn)

    def let_go(self) -> None:
        """Drop what was read; the next call reads anew."""
        self._reader.reset()

    def clear(self, *, keep_constraints: bool = False) -> None:
        """Begin the session anew: its log, summaries, keyword index and vectors go.

        Constraints of the owner stay; those of the session go too unless kept. `forget`
        does it with a scan and a receipt.
        """
        self._engine.store.forget(self._key, keep_constraints=keep_constraints)
        self._reader.reset()
        self._engine.erase(self._key)

    def _tell(self, what: ConstraintChange, constraint: Constraint, *, by: str | None = None) -> None:
        self._engine.watchers.tell([event(self._key, what, constraint, by=by)])

    def _staged(self, turn_id: str) -> tuple[Staged, ...]:
        pending = self._engine.store.pending(self._key)
        return next((turn.staged for turn in pending if turn.turn_id == turn_id), ())

    def _turn(self, turn_id: str, *, state: TurnState = "pending", staged: tuple[Staged, ...] = ()) -> Turn:
        return Turn(self, self._reader, self._engine, self._key, turn_id, state=state, staged=staged)
