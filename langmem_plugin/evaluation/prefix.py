"""How much of each request repeats the beginning of the one before it (guarantee G13)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langmem_plugin.config import Budget
from langmem_plugin.context.prefix import prefix_tokens
from langmem_plugin.evaluation.loaders import Conversation
from langmem_plugin.evaluation.metrics import Row, Tally
from langmem_plugin.evaluation.others import Other
from langmem_plugin.evaluation.requests import Clock, Opener, count, exchanges, row
from langmem_plugin.messages import Message, Role
from langmem_plugin.tokens import TokenCounter


def prefix_level(
    conversations: Sequence[Conversation],
    open_memory: Opener,
    *,
    budgets: Sequence[int] = (1_000, 2_000, 4_000),
    method: str = "langmem-plugin",
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """How much of each request repeats the beginning of the one before it, one row a budget.

    A request is built before each assistant turn, inside the turn that its user
    message opened; the mean is over all requests but the first of a conversation.
    """
    tallies = {budget: Tally() for budget in budgets}
    for conversation in conversations:
        for budget, tally in tallies.items():
            if progress:
                progress(f"{conversation.id} at {budget}")
            clock = Clock()
            previous: tuple[Message, ...] | None = None
            with open_memory(clock) as memory:
                session = memory.session(conversation.id, owner="evaluation")
                for group in exchanges(conversation):
                    clock.now = group[0].created_at
                    messages = [turn.message for turn in group]
                    if messages[0].role is not Role.USER or len(messages) == 1:
                        session.add(*messages)
                        continue
                    with session.begin(messages[0]) as turn:
                        context = turn.context(budget=Budget(max_tokens=budget, completion=0))
                        if previous is not None:
                            same = prefix_tokens(previous, context.messages, memory.counter)
                            tally.add("reuse", same / max(1, context.report.tokens_used))
                            tally.add("recomputed tokens", context.report.tokens_used - same)
                        previous = context.messages
                        tally.add("need", context.report.need)
                        tally.add("small need", float(context.report.need < 0.2))
                        count(tally, context, budget)
                        turn.append(*messages[1:])
                    memory.wait()
    return [row(method, budget, tally) for budget, tally in tallies.items()]


def prefix_of(
    conversations: Sequence[Conversation],
    make: Callable[[TokenCounter, int], Other],
    *,
    counter: TokenCounter,
    method: str,
    budgets: Sequence[int] = (1_000, 2_000, 4_000),
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """The same figures for another way to build requests, one row a budget."""
    rows = []
    for budget in budgets:
        tally = Tally()
        for conversation in conversations:
            if progress:
                progress(f"{method}, {conversation.id} at {budget}")
            other = make(counter, budget)
            previous: Sequence[Message] | None = None
            for group in exchanges(conversation):
                messages = [turn.message for turn in group]
                if messages[0].role is not Role.USER or len(messages) == 1:
                    other.hear(*messages)
                    continue
                request = other.ask(messages[0])
                used = counter.count_request(request)
                if previous is not None:
                    same = prefix_tokens(previous, request, counter)
                    tally.add("reuse", same / max(1, used))
                    tally.add("recomputed tokens", used - same)
                previous = request
                tally.add("tokens", used)
                tally.add("over budget", float(used > budget))
                other.hear(*messages[1:])
        rows.append(row(method, budget, tally))
    return rows
