"""A conversation of one owner: turns go in, contexts come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context, ContextReport, Document
from langmem_plugin.engine import Engine, Said, as_message, check_name
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.ingest import commit, stage
from langmem_plugin.messages import Role, Usage
from langmem_plugin.reader import Reader
from langmem_plugin.records import Constraint, ConstraintKind, ConstraintState, Entry, Hit, SessionKey
from langmem_plugin.store.protocol import Staged, TurnState
from langmem_plugin.turn import Turn


class Session:
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
        """The newest pending turn; None if there is none."""
        pending = self._engine.store.pending(self._key)
        if not pending:
            return None
        return self._turn(pending[-1].turn_id, staged=pending[-1].staged)

    def add(self, *messages: Said, turn_id: str | None = None) -> int:
        """Add a whole turn in one transaction.

        Args:
            messages: In order; a text is a user's. Messages whose ids are in the log add nothing.
            turn_id: A key of your own: a turn that is committed under it adds nothing again.

        Returns:
            The session's version.

        Raises:
            InvalidMessage: A message cannot be kept; nothing of the turn is.
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
                self.report_usage(message.usage)
        return commit(
            self._engine, self._key, turn_id or uuid4().hex, staged, history_tokens=self._reader.history_tokens
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
            documents: Texts of your own retrieval, shown with the query, never stored.
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
            documents=documents,
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
        engine = self._engine
        engine.ledger.add(self._key, usage.total_tokens, now=engine.clock())
        engine.calibration.observe(counted=counted, reported=usage.input_tokens, model=model)

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

    def history(self, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Committed entries with seq > after, oldest first, at most `limit`; [] for a new session."""
        return self._engine.store.entries(self._key, after=after, limit=limit)

    def known(self, message_ids: Iterable[str]) -> set[str]:
        """Those of the framework's message ids that are in the log or in an open turn."""
        return set(self._engine.store.find(self._key, message_ids))

    def recall(self, query: str, *, k: int = 10) -> list[Hit]:
        """Earlier messages that matter for a question, best first, at most `k`; [] if none do."""
        found = self._engine.recaller.recall(self._key, query, now=self._engine.clock(), k=k)
        return list(found.hits[:k])

    # Constraints

    def constraints(self, *, all: bool = False) -> tuple[Constraint, ...]:
        """The active constraints of the session and its owner, in creation order.

        Args:
            all: Also those that are proposed, superseded, revoked or expired.
        """
        now = self._engine.clock()
        found = tuple(_aged(constraint, now) for constraint in self._engine.store.constraints(self._key))
        return found if all else tuple(c for c in found if c.state is ConstraintState.ACTIVE)

    def add_constraint(
        self,
        text: str,
        *,
        kind: ConstraintKind | str = ConstraintKind.REQUIREMENT,
        scope: Literal["session", "owner"] = "session",
    ) -> Constraint:
        """Add a constraint by hand; it is in the next request, word for word.

        Raises:
            InvalidSetting: The text is empty, or the kind or scope is unknown.
        """
        if not text.strip():
            raise InvalidSetting("text", text, "say what must hold")
        if scope not in ("session", "owner"):
            raise InvalidSetting("scope", scope, "use 'session' or 'owner'")
        try:
            kind = ConstraintKind(kind)
        except ValueError as error:
            raise InvalidSetting("kind", kind, f"use one of {', '.join(ConstraintKind)}") from error
        constraint = Constraint(
            id=f"c{uuid4().hex[:10]}",
            kind=kind,
            text=text,
            scope=scope,
            source="app",
            created_version=0,
            created_at=self._engine.clock(),
        )
        return self._engine.store.add_constraint(self._key, constraint)

    def revoke(self, constraint_id: str) -> Constraint:
        """Take a constraint out of every later request; it stays listed as revoked.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        return self._engine.store.end_constraint(self._key, constraint_id, ConstraintState.REVOKED)

    def confirm(self, constraint_id: str) -> Constraint:
        """Make a proposed constraint active.

        Raises:
            ConstraintNotFound: Neither the session nor its owner has it.
        """
        return self._engine.store.end_constraint(self._key, constraint_id, ConstraintState.ACTIVE)

    def clear(self, *, keep_constraints: bool = False) -> None:
        """Forget the session: log, summaries, keyword index, vectors.

        Constraints of the owner stay; those of the session go too unless kept.
        """
        self._engine.store.forget(self._key, keep_constraints=keep_constraints)
        self._reader.reset()
        self._engine.erase(self._key)

    def _staged(self, turn_id: str) -> tuple[Staged, ...]:
        pending = self._engine.store.pending(self._key)
        return next((turn.staged for turn in pending if turn.turn_id == turn_id), ())

    def _turn(self, turn_id: str, *, state: TurnState = "pending", staged: tuple[Staged, ...] = ()) -> Turn:
        return Turn(self, self._reader, self._engine, self._key, turn_id, state=state, staged=staged)


def _aged(constraint: Constraint, now: datetime) -> Constraint:
    over = constraint.expires_at is not None and constraint.expires_at <= now
    if over and constraint.state is ConstraintState.ACTIVE:
        return replace(constraint, state=ConstraintState.EXPIRED)
    return constraint
