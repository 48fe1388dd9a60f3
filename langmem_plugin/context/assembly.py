"""From a session's view to the next request, within a budget (guarantees G1, G2, G3, G13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context import constraints_block, open_turn, rendering, window
from langmem_plugin.context.counting import Counter
from langmem_plugin.context.cutting import cut_end
from langmem_plugin.context.documents import Provided
from langmem_plugin.context.exchanges import NO_ANSWER, Line, group, join, lines, repair, unique_ids
from langmem_plugin.context.extract import extract
from langmem_plugin.context.packing import NEED_NOTHING, NEED_SHRINK, Packed, pack, recall_room
from langmem_plugin.context.request import Context, ContextReport, Document, Item, Segment, View
from langmem_plugin.context.shorter import told, with_shorter
from langmem_plugin.context.shown import Shown, without_large
from langmem_plugin.errors import BudgetTooSmall
from langmem_plugin.messages import Message, Role, assistant, user
from langmem_plugin.messages import system as system_message
from langmem_plugin.records import Attachment, Entry, Recalled

_LEAST_SUMMARY = 24
"""A summary that would be cut to fewer tokens is left out."""
_EXTRACT_READS = 3
"""How many times its own size the extract reads of what waits to be summarised."""
_PAIR_OVERHEAD = 40
"""Tokens of the synthetic pair besides the summary's text."""


def assemble(
    view: View,
    *,
    counter: Counter,
    config: MemoryConfig,
    budget: Budget,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    query: Message | None = None,
    recalled: Recalled = Recalled(),  # noqa: B008 - a frozen value
    attachment: Attachment | None = None,
    documents: Sequence[Document] = (),
    recall_as: Literal["prefix", "pair"] = "prefix",
) -> Context:
    """Put together what the model should see next. Pure: equal arguments give equal requests.

    The order is: system prompt and constraints, summary, window, new message with what
    was recalled just before its text. Cut are, in this order: what is recalled, documents
    past their share, the oldest exchanges, the summary; never system, constraints, new message.

    Args:
        view: What the session holds. The entries of an open turn are the newest part.
        counter: Counts tokens as the model does.
        config: How the memory behaves.
        budget: Limits in tokens, as `counter` counts them.
        system: The developer's system prompt; kept byte for byte.
        tools: Schemas of the tools that are sent along.
        query: The new user message; comes after the open turn if there is one.
        recalled: What recall found for the new message.
        attachment: The recalled block of an earlier request of this turn, repeated as it was.
        documents: The application's own documents for the new message; never stored.
        recall_as: "prefix" puts what is recalled before the new message's text. "pair" leaves the query to the
            caller, keeps room for it, and ends with a user/assistant pair that carries what was recalled.

    Returns:
        The messages in order, and a report of tokens per segment and of what was cut.

    Raises:
        BudgetTooSmall: What may never be cut exceeds the budget, or the constraints exceed their share of it.
    """
    parts = (counter, config, budget, system, tuple(tools), query, recalled, attachment, tuple(documents), recall_as)
    try:
        return _Assembly(view, *parts).build()
    except BudgetTooSmall:
        if (fewer := with_shorter(view, config)) is None:
            raise
    return told(_Assembly(fewer, *parts).build(), view)


@dataclass(slots=True)
class _Plan:
    """What the request holds; made smaller until it fits."""

    start: int
    """The first exchange of the window."""
    summary: str
    extract: str
    packed: Packed
    turn_room: int
    pair: bool = True
    """Whether a pair before the window says what is not shown."""

    @property
    def attached(self) -> Attachment | None:
        """The recalled block."""
        return self.packed.attachment


class _Assembly:
    """One request in the making."""

    def __init__(
        self,
        view: View,
        counter: Counter,
        config: MemoryConfig,
        budget: Budget,
        system: str,
        tools: Sequence[Mapping[str, Any]],
        query: Message | None,
        recalled: Recalled,
        attachment: Attachment | None,
        documents: Sequence[Document],
        recall_as: Literal["prefix", "pair"],
    ) -> None:
        self.view, self.counter, self.config, self.budget = view, counter, config, budget
        self.query, self.recalled, self.given, self.documents = query, recalled, attachment, documents
        self.as_pair = recall_as == "pair" and query is not None
        self.cut: list[str] = []
        self.notes: list[str] = [recalled.note] if recalled.note else []
        self._counted: dict[int, tuple[Message, int]] = {}
        self._count_fixed(system, tools)
        self._split_history()
        self._open_turn()

    def _count_fixed(self, system: str, tools: Sequence[Mapping[str, Any]]) -> None:
        count = self.counter.count_message
        constraints = self.view.constraints
        block = constraints_block.render(constraints)
        text = rendering.sendable_text(constraints_block.join_system(system, block))
        self.system_line = Line(system_message(text)) if text.strip() else None
        system_tokens = count(self.system_line.message) if self.system_line else 0
        alone = count(system_message(system)) if system.strip() else 0
        self.constraint_tokens = max(0, system_tokens - alone) if block else 0
        self.system_tokens = system_tokens - self.constraint_tokens
        self.tool_tokens = self.counter.count_tools(tools) if tools else 0
        self.fixed = self.counter.priming + system_tokens + self.tool_tokens
        self.reserved = count(self.query) if self.as_pair and self.query is not None else 0
        share = self.budget.tokens("constraints")
        if constraints and self.constraint_tokens > share:
            raise BudgetTooSmall(
                needed=self.constraint_tokens,
                available=max(0, share),
                constraints=len(constraints),
                what=f"{len(constraints)} constraints (they may have {share} tokens of the prompt)",
            )

    def _split_history(self) -> None:
        entries, pending = self.view.entries, self.view.pending
        exchanges = group(entries)
        self.carried: tuple[Entry, ...] = ()
        if pending and pending[0].message.role not in (Role.USER, Role.SYSTEM) and exchanges:
            self.carried = exchanges.pop()  # the open turn goes on with this exchange
        self.room = window.history_room(
            budget=self.budget,
            system_tokens=self.system_tokens + self.counter.priming,
            constraints_tokens=self.constraint_tokens,
            tools_tokens=self.tool_tokens,
        )
        self.shown = Shown(exchanges, room=self.room, budget=self.budget, config=self.config, size=self._tokens)
        self.waiting = sum(len(exchange) for exchange in exchanges[: self.shown.fold.start])

    def _open_turn(self) -> None:
        pending = self.view.pending
        carried = lines(without_large(self.carried, sticky=self.shown.sticky))
        self.turn = [*carried, *lines(pending, attachments=False)]
        self.anchor: int | None = None
        if self.query is not None and not self.as_pair:
            self.turn.append(Line(self.query))
            self.anchor = len(self.turn) - 1
        elif self.query is None and pending:
            users = [i for i, entry in enumerate(pending) if entry.message.role is Role.USER]
            opening = next((i for i, e in enumerate(pending) if e.message.role not in (Role.USER, Role.SYSTEM)), None)
            first = [i for i in users if opening is None or i < opening] or users[:1]
            if first:
                self.anchor = len(carried) + first[-1]
                self.given = self.given or pending[first[-1]].attachment
        self.awaiting = bool(pending) and self.query is None
        smallest = open_turn.fit(self.turn, room=0, counter=self.counter, awaiting=self.awaiting, least=True)
        new = sum(map(self._tokens, repair(smallest.lines, awaiting=self.awaiting)))
        self.least = self.fixed + self.reserved + new
        if self.least > self.budget.prompt:
            raise BudgetTooSmall(
                needed=self.least, available=max(0, self.budget.prompt), constraints=len(self.view.constraints)
            )

    def build(self) -> Context:
        natural = sum(map(self._tokens, repair(self.turn, awaiting=self.awaiting)))
        self.provided = Provided(
            self.documents,
            segments=self.config.segments,
            budget=self.budget,
            room=self.budget.prompt - self.least,
            count=self.counter.count,
            anchored=self.anchor is not None or self.as_pair,
        )
        left = self.budget.prompt - self.least - self._provided()
        keep = self.shown.newest_tokens()
        if self._wants_the_past():
            said = len(self.cut), len(self.notes)
            plan = self._plan("", "", natural, keep)
            if plan.attached is not None and plan.attached.tokens > self.budget.tokens("recall"):
                return self._finished(plan)
            del self.cut[said[0] :], self.notes[said[1] :]
        return self._finished(self._plan(*self._summarise(left), natural, keep))

    def _wants_the_past(self) -> bool:
        """Whether whole messages should have the room of their shortened ones: a model's summary always stays."""
        if self.view.summary is not None and self.view.summary.method == "model":
            return False
        if self.given is not None:
            return self.given.tokens > self.budget.tokens("recall")
        return bool(self.recalled.hits) and self.recalled.need >= NEED_SHRINK

    def _plan(self, summary: str, short: str, natural: int, keep: int) -> _Plan:
        """What is sent beside this summary and this extract."""
        prompt = self.budget.prompt
        block = self._summary_text(summary, short)
        pair = self._count(block) + (_PAIR_OVERHEAD if block or self.waiting else 0)
        # A long tool loop gives way to the summary and the newest exchanges.
        outside = self.fixed + self.reserved + self._provided() + (self.given.tokens if self.given else 0)
        turn_room = max(self.least - self.fixed - self.reserved, prompt - outside - pair - keep)
        space = prompt - self.fixed - self.reserved - min(natural, turn_room) - self._provided() - pair
        packed, start = self._recall(space, keep)
        return _Plan(start, summary, short, packed, turn_room)

    def _provided(self) -> int:
        """Tokens of the application's documents, wherever they stand."""
        return self._count(self.provided.before()) + sum(map(self._tokens, self.provided.lines()))

    def _summarise(self, left: int) -> tuple[str, str]:
        """The summary's text, and the extract of what waits to be summarised."""
        room = min(window.summary_room(budget=self.budget, config=self.config), max(0, left - _PAIR_OVERHEAD))
        text = self.view.summary.text if self.view.summary is not None else ""
        if text:
            tokens = self.counter.count(text)
            if tokens > room:
                text = cut_end(text, max_tokens=room, count=self.counter.count) if room >= _LEAST_SUMMARY else ""
                self.cut.append(f"summary cut from {tokens} to {self.counter.count(text) if text else 0} tokens")
            room -= self.counter.count(text) if text else 0
        if not self.waiting or not self.config.summary.enabled or room < _LEAST_SUMMARY:
            return text, ""
        return text, extract(
            self.shown.newest_waiting(room * _EXTRACT_READS), count=self.counter.count, max_tokens=room
        )

    def _recall(self, space: int, keep: int) -> tuple[Packed, int]:
        """What is recalled, and the first exchange of the window beside it."""
        placed = self.anchor is not None or self.as_pair
        if self.query is None and self.anchor is not None and (self.given is not None or self.recalled.hits):
            space -= open_turn.step_room(self.budget.prompt, sum(map(self._tokens, self.turn[self.anchor + 1 :])))
        if self.given is not None and placed:
            if self.given.tokens <= space:
                return Packed(attachment=self.given), self._first_shown(space - self.given.tokens)
            self.cut.append(f"recalled block left out ({self.given.tokens} tokens)")
            return Packed(), self._first_shown(space)
        room = 0
        asked = placed and self.config.recall.enabled
        if asked and self.recalled.need < NEED_NOTHING and (self.recalled.hits or self.recalled.legs):
            self.notes.append("nothing recalled: the message does not ask for the past")
        elif asked and self.recalled.hits:
            free = space - self.shown.weight()
            most = space - min(keep, max(0, space))
            room = recall_room(self.recalled.need, budget=self.budget, free=free, most=most)
        if not room:
            return Packed(), self._first_shown(space)
        packed, start = self._share(space, room)
        if packed.left_out:
            self.cut.append(f"{packed.left_out} recalled messages left out, past the {room} tokens for recall")
        self.cut.extend(packed.cut)
        if start > (usual := self._first_shown(space)):
            lost = self.shown.weight(usual, start)
            need = self.recalled.need
            self.notes.append(f"recall took {lost} tokens of the window for this request (need {need:.2f})")
        return packed, start

    def _first_shown(self, room: int) -> int:
        return self.shown.first_shown(room, strided=len(self.turn) > 1)

    def _share(self, space: int, room: int) -> tuple[Packed, int]:
        """Recall with at most `room` tokens and the window with the rest; nothing is in both."""
        narrow = self._first_shown(space - room)
        packed = self._pack(room, narrow)
        start = self._first_shown(space - (packed.attachment.tokens if packed.attachment else 0))
        if start < narrow:
            # The window grows back over what recall does not use; what it shows is not quoted twice.
            regained = self.shown.seqs(start, narrow)
            if any(hit.entry.seq in regained for hit in packed.hits):
                packed = self._pack(min(room, space - self.shown.weight(start)), start)
        return packed, start

    def _pack(self, room: int, start: int) -> Packed:
        anchor = self.query if self.anchor is None or self.query is not None else self.turn[self.anchor].message
        return pack(
            self.recalled.hits,
            room=room,
            # Recall itself left out what is below the threshold for this need.
            threshold=self.config.recall.threshold * (1.0 - self.recalled.need),
            present=self.shown.seqs(start) | {e.seq for e in (*self.carried, *self.view.pending)},
            query=anchor.text if anchor is not None else "",
            count=self.counter.count,
        )

    def _summary_text(self, summary: str, short: str) -> str:
        return rendering.summary_block(
            summary,
            summarised=self.view.summary.upto_seq if self.view.summary is not None else 0,
            extract=short,
            waiting=self.waiting,
        )

    def _written(self, plan: _Plan) -> tuple[list[Line], list[Line], open_turn.Fitted]:
        """The lines before the new part, and the new part."""
        hidden = sum(len(exchange) for exchange in self.shown.exchanges[self.shown.fold.start : plan.start])
        block = self._summary_text(plan.summary, plan.extract) if plan.pair else ""
        if not block and hidden and plan.pair:
            block = rendering.hidden_block()
        pair = [Line(user(block)), Line(assistant(rendering.summary_answer(hidden)))] if block else []
        head = join([self.provided.lines(), pair, *self.shown.exchange_lines(plan.start)])
        before = (plan.attached.text if plan.attached else "") + self.provided.before()
        turn = list(self.turn)
        fitted = open_turn.fit(turn, room=plan.turn_room, counter=self.counter, awaiting=self.awaiting)
        if before and self.anchor is not None:
            target = self.turn[self.anchor]
            fitted = replace(fitted, lines=tuple(x._replace(before=before) if x is target else x for x in fitted.lines))
        new = repair(fitted.lines, awaiting=self.awaiting)
        if self.as_pair:
            if before:
                new = join([new, [Line(user(before.rstrip())), Line(assistant("Noted."))]])
            elif (last := [*head, *new][-1:]) and last[0].message.role is not Role.ASSISTANT:
                new.append(Line(assistant(NO_ANSWER)))
        return head, new, fitted

    def _finished(self, plan: _Plan) -> Context:
        while True:
            head, new, fitted = self._written(plan)
            conversation = unique_ids(join([head, new]))
            used = self.fixed + self.reserved + sum(map(self._tokens, conversation))
            excess = used - self.budget.prompt
            if excess <= 0:
                break
            self._smaller(plan, excess)
        return self._reported(plan, conversation, boundary=len(conversation) - len(new), fitted=fitted)

    def _smaller(self, plan: _Plan, excess: int) -> None:
        """Take at least one thing out of the plan; estimates were short by `excess` tokens."""
        last = len(self.shown.exchanges) - 1
        if plan.start < last:
            while plan.start < last and excess > 0:
                excess -= self.shown.weight(plan.start, plan.start + 1)
                plan.start += 1
        elif plan.attached is not None:
            self.cut.append(f"recalled block left out ({plan.attached.tokens} tokens)")
            plan.packed = Packed()
        elif plan.start == last:
            plan.start += 1
        elif self.provided.drop():
            pass
        elif plan.extract:
            plan.extract = ""
        elif plan.summary:
            self.cut.append(f"summary left out ({self._count(plan.summary)} tokens)")
            plan.summary = ""
        elif plan.pair:
            plan.pair = False
        elif plan.turn_room > 0:
            plan.turn_room = max(0, plan.turn_room - max(excess, 16))
        else:
            raise BudgetTooSmall(
                needed=self.budget.prompt + excess,
                available=self.budget.prompt,
                constraints=len(self.view.constraints),
            )

    def _reported(self, plan: _Plan, conversation: list[Line], *, boundary: int, fitted: open_turn.Fitted) -> Context:
        items: list[Item] = []
        if self.system_line is not None:
            items.append(self._item("system", self.system_line))
        paired = (stands := len(self.provided.lines())) + (2 if self._has_pair(plan) else 0)
        for position, line in enumerate(conversation):
            early: Segment = "documents" if position < stands else "summary" if position < paired else "window"
            segment: Segment = "new" if position >= boundary else early
            items.append(self._item(segment, line))
        by_segment = {"system": 0, "documents": 0, "summary": 0, "window": 0, "new": 0}
        for item in items:
            by_segment[item.segment] += item.tokens
        recall = min(by_segment["new"], plan.attached.tokens if plan.attached else 0)
        documents = min(by_segment["new"] - recall, self._count(self.provided.before()))
        first = self.shown.exchanges[plan.start][0].seq if plan.start < len(self.shown.exchanges) else 0
        hidden = self.shown.exchanges[self.shown.fold.start : plan.start]
        if hidden:
            lost = self.shown.weight(self.shown.fold.start, plan.start)
            self.cut.append(f"{sum(map(len, hidden))} older messages of the window left out ({lost} tokens)")
        tokens = {
            "system": self.system_tokens + self.counter.priming,
            "constraints": self.constraint_tokens,
            "summary": by_segment["summary"],
            "recall": recall,
            "window": by_segment["window"],
            "documents": documents + by_segment["documents"],
            "new": by_segment["new"] - recall - documents + self.reserved,
            "tools": self.tool_tokens,
        }
        quoted = set(plan.attached.seqs) if plan.attached else set()
        hits = plan.packed.hits or tuple(hit for hit in self.recalled.hits if hit.entry.seq in quoted)
        report = ContextReport(
            version=self.view.version,
            budget=self.budget.prompt,
            tokens=tokens,
            segments=self.provided.tokens(tokens["documents"]),
            window_from=first,
            window_messages=sum(map(len, self.shown.exchanges[plan.start :])),
            summarised=self.view.summary.upto_seq if self.view.summary is not None else 0,
            **self.view.scores,
            waiting=self.waiting,
            constraints=self.view.constraints,
            hits=hits,
            need=self.recalled.need,
            legs=self.recalled.legs,
            cut=(*self.cut, *self.provided.cut, *fitted.cut),
            notes=tuple(self.notes),
        )
        return Context(items=tuple(items), report=report, attachment=plan.attached)

    def _has_pair(self, plan: _Plan) -> bool:
        return plan.pair and (
            bool(self._summary_text(plan.summary, plan.extract)) or plan.start > self.shown.fold.start
        )

    def _item(self, segment: Segment, line: Line) -> Item:
        return Item(
            segment=segment, message=line.message, tokens=self._tokens(line), seq=line.seq, altered=line.altered
        )

    def _tokens(self, line: Line) -> int:
        if line.tokens is not None:
            return line.tokens
        found = self._counted.get(id(line.message))
        if found is None or found[0] is not line.message:
            found = self._counted[id(line.message)] = (line.message, self.counter.count_message(line.message))
        return found[1]

    def _count(self, text: str) -> int:
        return self.counter.count(text) if text else 0
