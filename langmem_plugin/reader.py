"""Reading a session: its newest state, and the request that comes of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, Literal, ParamSpec

from langmem_plugin.config import Budget
from langmem_plugin.context.assembly import assemble
from langmem_plugin.context.packing import NEED_NOTHING
from langmem_plugin.context.prefix import prefix_tokens
from langmem_plugin.context.request import Context, ContextReport, Document, View
from langmem_plugin.engine import Engine, most_hits
from langmem_plugin.measures import RequestBuilt, RequestRefused, Searched, Stopwatch
from langmem_plugin.messages import Message
from langmem_plugin.profile import build_profile
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.records import Attachment, Entry, Recalled, SessionKey
from langmem_plugin.store.protocol import Snapshot

_Asked = ParamSpec("_Asked")


def _refusals_told(
    build: Callable[Concatenate[Reader, _Asked], Context],
) -> Callable[Concatenate[Reader, _Asked], Context]:
    """The same, and those who measure are told of what it raises."""

    @wraps(build)
    def told(reader: Reader, /, *args: _Asked.args, **asked: _Asked.kwargs) -> Context:
        watch = reader.stopwatch()
        try:
            return build(reader, *args, **asked)
        except Exception as error:
            if watch is not None:
                reader.refused(type(error).__name__, watch)
            raise

    return told


class Reader:
    """Reads one session; keeps what it read, because entries never change."""

    def __init__(self, engine: Engine, key: SessionKey) -> None:
        self._engine = engine
        self._key = key
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget what was read."""
        with self._lock:
            self._generation = (0, 0)
            self._tail: tuple[Entry, ...] = ()
            self._requests = _Requests()
            self.history_tokens = 0
            """What the last request had for history; plans for turns that asked for no context of their own."""
            self.report: ContextReport | None = None
            """Of the newest request that was built here."""

    def snapshot(self) -> tuple[Snapshot, tuple[Entry, ...]]:
        """The session now; entries that were read before are not read again."""
        with self._lock:
            after = self._tail[-1].seq if self._tail else 0
            snapshot = self._engine.store.snapshot(self._key, after=after, now=self._engine.clock())
            if snapshot.generation != self._generation and self._tail:
                snapshot = self._engine.store.snapshot(self._key, now=self._engine.clock())
                self._tail = ()
            self._generation = snapshot.generation
            covered = snapshot.summary.upto_seq if snapshot.summary else 0
            kept = self._tail
            if kept and kept[0].seq <= covered:
                kept = tuple(entry for entry in kept if entry.seq > covered)
            if snapshot.entries:
                kept += tuple(map(self._engine.counted, snapshot.entries))
                self._engine.recaller.saw(self._key, snapshot.entries)
            self._tail = kept
            return snapshot, self._tail

    def stopwatch(self) -> Stopwatch | None:
        """For something that is measured; None if nobody measures."""
        return Stopwatch() if self._engine.observers else None

    def refused(self, error: str, watch: Stopwatch) -> None:
        """Tell those who measure of a request that could not be built."""
        self._engine.observers.tell([RequestRefused(key=self._key, took=watch.took(), error=error)])

    @_refusals_told
    def assemble(
        self,
        *,
        pending: tuple[Entry, ...],
        query: Message | None,
        attachment: Attachment | None,
        system: str,
        tools: Sequence[Mapping[str, Any]],
        budget: Budget | None,
        documents: Sequence[Document],
        recall_as: Literal["prefix", "pair"] = "prefix",
        turn_id: str = "",
        asked: Message | None = None,
        calls: int = 0,
        other_tokens: int = 0,
    ) -> Context:
        """Build a request; see `Session.context` and `Turn.context`."""
        engine, watch, search = self._engine, self.stopwatch(), None
        notes = engine.ledger.check(self._key, now=engine.clock(), calls=calls)
        within, kept_free = self._corrected(budget or engine.config.budget, other_tokens)
        if kept_free:
            notes.append(f"{kept_free} tokens kept free: the provider reported more tokens than were counted")
        asked = query or asked
        if asked is not None and engine.config.profile.enabled:
            documents = (*self._profile(), *documents)
        recalled = Recalled()
        with engine.store.reading():  # the window and what is recalled are of one state
            snapshot, entries = self.snapshot()
            if asked is not None and attachment is None and engine.config.recall.enabled:
                looking = self.stopwatch()
                recalled = engine.recaller.recall(
                    self._key,
                    asked.text,
                    now=engine.clock(),
                    k=most_hits(budget or engine.config.budget, engine.config),
                    least_need=NEED_NOTHING,
                )
                search = looking.search(recalled) if looking is not None else None
        if pending:
            first = snapshot.head.last_seq + 1
            pending = tuple(replace(engine.counted(e), seq=first + place) for place, e in enumerate(pending))
        view = View(
            version=snapshot.head.version,
            constraints=snapshot.constraints,
            summary=snapshot.summary,
            entries=entries,
            pending=pending,
        )
        context = assemble(
            view,
            counter=engine.counter,
            config=engine.config,
            budget=within,
            system=system,
            tools=tools,
            query=query,
            recalled=recalled,
            attachment=attachment,
            documents=documents,
            recall_as=recall_as,
        )
        moment = (view.version, turn_id, len(pending), query, budget, system, recall_as)
        with self._lock:
            previous = self._requests.before(moment, context.messages)
        parts = context.report.tokens
        self.history_tokens = context.report.budget - sum(
            parts.get(part, 0) for part in ("system", "constraints", "tools")
        )
        repeated = prefix_tokens(previous, context.messages, engine.counter)
        report = replace(context.report, prefix_tokens=repeated, notes=(*notes, *context.report.notes))
        self.report = report
        context = replace(context, report=report)
        if watch is not None:
            self._engine.observers.tell(
                [RequestBuilt(key=self._key, took=watch.took(), context=context, search=search)]
            )
        return context

    def _profile(self) -> tuple[Document, ...]:
        """What the owner's other sessions say, unless this one keeps to itself; () if nothing."""
        settings = self._engine.config.profile
        if not self._engine.store.shares_constraints(self._key):
            return ()
        profile = build_profile(
            self._engine,
            self._key.owner,
            without=self._key.session,
            max_tokens=settings.max_tokens,
            sessions=settings.sessions,
        )
        return (profile.document(),) if profile.lines else ()

    def search(self, query: str, *, k: int, only: RecallFilter | None) -> Recalled:
        """Look for earlier messages; see `Session.recall`."""
        watch = self.stopwatch()
        recalled = self._engine.recaller.recall(self._key, query, now=self._engine.clock(), k=k, only=only)
        if watch is not None:
            self._engine.observers.tell([Searched(key=self._key, search=watch.search(recalled))])
        return recalled

    def _corrected(self, budget: Budget, other_tokens: int) -> tuple[Budget, int]:
        """The budget without what goes along besides, and by what the provider was seen to count more."""
        prompt = max(1, self._engine.calibration.fitting(budget.prompt) - other_tokens)
        if prompt == budget.prompt:
            return budget, 0
        return budget.with_prompt(prompt), max(0, budget.prompt - other_tokens - prompt)

    def add_notes(self, notes: Sequence[str]) -> None:
        """Say in the newest request's report what was done to it after it was built."""
        with self._lock:
            if self.report is not None and notes:
                self.report = replace(self.report, notes=(*self.report.notes, *notes))


class _Requests:
    """The last request, and the one before it, to measure how much of a prefix repeats."""

    def __init__(self) -> None:
        self._moment: object = None
        self._last: tuple[Message, ...] | None = None
        self._earlier: tuple[Message, ...] | None = None

    def before(self, moment: object, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """The request before this moment's; asking again at the same moment gives the same."""
        if moment != self._moment:
            self._earlier, self._moment = self._last, moment
        self._last = messages
        return self._earlier
