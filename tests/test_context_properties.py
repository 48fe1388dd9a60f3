"""Properties of every request: budget, validity, constraints, the new message, the prefix."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from langmem_plugin.config import Budget, MemoryConfig, RecallConfig, SegmentConfig, SummaryConfig
from langmem_plugin.context import window
from langmem_plugin.context.assembly import assemble
from langmem_plugin.context.constraints_block import quote_constraint
from langmem_plugin.context.exchanges import EMPTY
from langmem_plugin.context.rendering import sendable_text
from langmem_plugin.context.request import Context, View
from langmem_plugin.errors import BudgetTooSmall
from langmem_plugin.messages import Message, Role, Text, assistant, user
from langmem_plugin.testing import histories
from langmem_plugin.testing.validity import problems


class Words:
    """Counts words and characters; not additive, as tokenizers are not."""

    priming = 3

    def count(self, text: str) -> int:
        return len(text.split()) + -(-len(text) // 6) if text else 0

    def count_message(self, message: Message) -> int:
        tokens = 4 + self.count(message.text) + (1 if message.name else 0)
        tokens += sum(5 + self.count(call.name + call.arguments) for call in message.tool_calls)
        return tokens + 85 * sum(not isinstance(block, Text) for block in message.blocks)

    def count_tools(self, tools) -> int:
        return sum(20 + self.count(str(tool)) for tool in tools)


COUNTER = Words()
CONFIG = MemoryConfig()
SEGMENTED = MemoryConfig(
    segments={
        "project": SegmentConfig(priority=2),
        "file": SegmentConfig(budget=80, priority=-1),
        "hint": SegmentConfig(stable=False),
    }
)
BUDGETS = st.builds(
    Budget,
    max_tokens=st.one_of(st.integers(1, 400), st.integers(200, 3_000), st.integers(1_000, 20_000)),
    completion=st.just(0),
    constraints=st.sampled_from([0.3, 0.85]),
)
CONFIGS = st.sampled_from(
    [
        CONFIG,
        SEGMENTED,
        MemoryConfig(summary=SummaryConfig(enabled=False)),
        MemoryConfig(recall=RecallConfig(sticky=False)),
    ]
)
many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def recount(context: Context, tools=()) -> int:
    return (
        COUNTER.priming
        + sum(COUNTER.count_message(message) for message in context.messages)
        + (COUNTER.count_tools(tools) if tools else 0)
    )


def said(message: Message) -> str:
    """The user's words as a request carries them."""
    parts = [sendable_text(b.text) for b in message.blocks if isinstance(b, Text) and b.text.strip()]
    return parts[-1] if parts else EMPTY


def check(context: Context, view: View, budget: Budget, *, system: str, tools, reserved: int = 0) -> None:
    used = recount(context, tools) + reserved
    assert used <= budget.prompt, "G1: over budget"
    assert used == context.report.tokens_used, "the report tells the truth"
    assert problems(context.messages) == [], "G3: invalid"
    assert context.system.startswith(system) or not system.strip()
    for constraint in view.constraints:
        assert quote_constraint(constraint.text) in context.system, "G2: a constraint is missing"
    order = [item.seq for item in context.items if item.seq is not None and item.message.role is not Role.TOOL]
    assert order == sorted(order), "the log's order is kept; only a late result moves up to its call"


@many
@given(st.data(), BUDGETS, CONFIGS, st.sampled_from(["", "You are kind.\n"]), st.booleans())
def test_any_history_and_any_budget_give_a_valid_request_within_it(data, budget, config, system, with_tools):
    """G1, G2, G3: any history x any budget is valid, within budget, all constraints and the new message in it."""
    view = data.draw(histories.views(COUNTER))
    tools = ({"name": "search", "parameters": {}},) if with_tools else ()
    query = data.draw(st.one_of(st.none(), histories.texts.map(user)))
    recalled = data.draw(histories.recollections(view, COUNTER))
    names = st.sampled_from(["documents", *config.segments])
    documents = [replace(one, segment=data.draw(names)) for one in data.draw(histories.documents)]
    pair = data.draw(st.booleans())
    arguments = {
        "counter": COUNTER,
        "config": config,
        "budget": budget,
        "system": system,
        "tools": tools,
        "query": query,
        "recalled": recalled,
        "documents": documents,
        "recall_as": "pair" if pair else "prefix",
    }
    try:
        context = assemble(view, **arguments)
    except BudgetTooSmall as error:
        event("refused")
        if error.needed <= error.available:
            pytest.fail(str(error))
        return
    reserved = COUNTER.count_message(query) if pair and query else 0
    check(context, view, budget, system=system, tools=tools, reserved=reserved)
    if query is not None and not pair:
        assert context.messages[-1].role is Role.USER
        assert context.messages[-1].text.endswith(said(query))
    if query is not None and pair and context.conversation:
        assert context.messages[-1].role is Role.ASSISTANT, "the framework adds the user's message"
    again = assemble(view, **arguments)
    assert again == context, "two calls are equal"
    report = context.report
    assert sum(report.segments.values()) == report.tokens["documents"], "every token of a segment is told"
    assert set(report.segments) == {one.segment for one in documents}
    shown = [hit.entry.seq for hit in context.report.hits]
    in_window = {item.seq for item in context.items if item.segment == "window"}
    assert not in_window & set(shown), "what the window shows is not recalled"


@many
@given(st.data(), BUDGETS)
def test_an_open_turn_keeps_its_user_message_and_its_newest_step(data, budget):
    """G1, G3: whatever a tool loop brings, the user's words and the newest step are there."""
    view = data.draw(histories.views(COUNTER, pending=True))
    recalled = data.draw(histories.recollections(view, COUNTER))
    try:
        context = assemble(view, counter=COUNTER, config=CONFIG, budget=budget, recalled=recalled)
    except BudgetTooSmall as error:
        event("refused")
        if error.needed <= error.available:
            pytest.fail(str(error))
        return
    check(context, view, budget, system="", tools=())
    new = [item.message for item in context.items if item.segment == "new"]
    asked = [entry.message for entry in view.pending if entry.message.role is Role.USER]
    told = "\n".join(message.text for message in new if message.role is Role.USER)
    for message in asked:
        assert said(message) in told
    calls = [m for m in (e.message for e in view.pending) if m.tool_calls]
    if calls:
        newest = [m for m in new if m.tool_calls][-1]
        assert [c.name for c in newest.tool_calls] == [c.name for c in calls[-1].tool_calls]
    if context.attachment is not None:
        repeated = assemble(view, counter=COUNTER, config=CONFIG, budget=budget, attachment=context.attachment)
        assert repeated.messages == context.messages or repeated.report.tokens_used <= budget.prompt


@many
@given(st.data(), st.integers(600, 6_000))
def test_a_request_begins_with_the_bytes_of_the_one_before_it(data, max_tokens):
    """G13: between two compressions a turn that is added leaves the earlier request as a prefix."""
    budget = Budget(max_tokens=max_tokens, completion=0, constraints=0.85)
    view = replace(data.draw(histories.views(COUNTER)), constraints=())
    query = user(data.draw(histories.words.filter(str.strip)))
    answer = assistant(data.draw(histories.words.filter(str.strip)))
    first = assemble(view, counter=COUNTER, config=CONFIG, budget=budget, query=query)
    start = (view.entries[-1].seq if view.entries else 0) + 1
    turn = histories.entries([query, answer], COUNTER, first=start)
    later = replace(view, entries=(*view.entries, *turn), version=view.version + 1)
    second = assemble(later, counter=COUNTER, config=CONFIG, budget=budget, query=user("and then?"))
    assume(not first.report.cut and not second.report.cut)
    assume(first.report.window_from in (second.report.window_from, 0) and first.report.waiting == second.report.waiting)
    shed = [m.text for m in first.messages] != [m.text for m in second.messages[: len(first.messages)]]
    if shed:  # a recalled block was given up with a compression
        assert any(e.attachment for e in view.entries)
        assert fold_of(later, budget).bare > 0
        return
    assert second.messages[: len(first.messages)] == tuple(first.messages) or any(
        a.id != b.id or a.payload != b.payload for a, b in zip(first.messages, second.messages, strict=False)
    )


def fold_of(view: View, budget: Budget) -> window.Fold:
    room = window.history_room(budget=budget, system_tokens=COUNTER.priming, constraints_tokens=0, tools_tokens=0)
    sticky = window.sticky_room(budget=budget, config=CONFIG)
    weights = [window.weigh(exchange, sticky=sticky) for exchange in window.group(view.entries)]
    return window.fold(
        weights, high=window.display_high(room, budget=budget, config=CONFIG), low=int(room * CONFIG.window.low)
    )


@given(histories.conversations(), st.integers(50, 3_000))
@settings(max_examples=150, deadline=None)
def test_the_plan_moves_forward_only(messages, high):
    """The planned end of the summary never goes back as history grows, and leaves at most the high mark."""
    log = histories.entries(messages, COUNTER)
    planned = 0
    for end in range(len(log) + 1):
        now = window.plan(log[:end], high=high, low=high // 2)
        assert now >= planned
        planned = now
    rest = [entry for entry in log if entry.seq > planned]
    exchanges = window.group(rest)
    assert sum(entry.tokens for entry in rest) <= high or len(exchanges) == 1


@given(histories.conversations())
@settings(max_examples=150, deadline=None)
def test_grouping_loses_nothing(messages):
    """Exchanges together are all entries in order, and all but the first begin with the user."""
    log = histories.entries(messages, COUNTER)
    exchanges = window.group(log)
    assert [entry for exchange in exchanges for entry in exchange] == list(log)
    assert all(exchange[0].message.role in (Role.USER, Role.SYSTEM) for exchange in exchanges[1:])


def test_a_budget_that_cannot_hold_the_new_message_is_refused_with_both_numbers():
    """G1: system prompt and new message that exceed the budget are refused, nothing is cut in silence."""
    with pytest.raises(BudgetTooSmall) as caught:
        assemble(
            View(version=0),
            counter=COUNTER,
            config=CONFIG,
            budget=Budget(max_tokens=20, completion=0),
            system="Be kind.",
            query=user("many words " * 40),
        )
    assert caught.value.available == 20
    assert caught.value.needed == 3 + COUNTER.count_message(user("many words " * 40)) + 4 + COUNTER.count("Be kind.")
