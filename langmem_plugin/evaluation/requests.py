"""What stands in the requests: evidence, tokens, and how much repeats the request before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from langmem_plugin.config import Budget
from langmem_plugin.context.prefix import prefix_tokens
from langmem_plugin.context.request import Context
from langmem_plugin.evaluation.loaders import Conversation, Turn
from langmem_plugin.evaluation.metrics import Row, Tally
from langmem_plugin.evaluation.recall import asked
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role


class Clock:
    """A clock that stands where it is put: at the time of the turn being fed."""

    def __init__(self) -> None:
        self.now = datetime(2000, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        """The present moment."""
        return self.now


Opener = Callable[[Clock], Memory]
"""Opens a new, empty memory with the given clock."""


def exchanges(conversation: Conversation) -> Iterator[tuple[Turn, ...]]:
    """The turns, grouped so that each group begins with a user's message where it can."""
    group: list[Turn] = []
    for turn in conversation.turns:
        if turn.message.role is Role.USER and group:
            yield tuple(group)
            group = []
        group.append(turn)
    if group:
        yield tuple(group)


def evidence_level(
    conversations: Sequence[Conversation],
    open_memory: Opener,
    *,
    budgets: Sequence[int] = (1_000, 2_000, 4_000),
    method: str = "langmem-plugin",
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Share of the evidence turns that stand word for word in the request, one row a budget.

    Each conversation is fed exchange by exchange into a memory of its own; then each
    question is asked as the next user message.

    Args:
        conversations: With questions whose evidence is known.
        open_memory: Opens an empty memory; closed again here.
        budgets: Tokens of the prompt.
        method: What to call the rows.
        progress: Told each conversation before it is fed.
    """
    tallies = {budget: Tally() for budget in budgets}
    for conversation in conversations:
        if progress:
            progress(conversation.id)
        texts = {turn.id: turn.message.text for turn in conversation.turns}
        clock = Clock()
        with open_memory(clock) as memory:
            session = memory.session(conversation.id, owner="evaluation")
            for group in exchanges(conversation):
                clock.now = group[0].created_at
                session.add(*(turn.message for turn in group))
            memory.wait()
            for one in asked([conversation]):
                clock.now = one.now
                for budget, tally in tallies.items():
                    context = session.context(one.question.text, budget=Budget(max_tokens=budget, completion=0))
                    sent = "\n\n".join(message.text for message in context.messages)
                    got = {turn for turn in one.evidence if texts[turn] in sent}
                    tally.found("", one.evidence, got, category=one.question.category)
                    _count(tally, context, budget)
    return [_row(method, budget, tally) for budget, tally in tallies.items()]


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
                        _count(tally, context, budget)
                        turn.append(*messages[1:])
                    memory.wait()
    return [_row(method, budget, tally) for budget, tally in tallies.items()]


def _count(tally: Tally, context: Context, budget: int) -> None:
    used = context.report.tokens_used
    tally.add("tokens", used)
    tally.add("over budget", float(used > budget))


def _row(method: str, budget: int, tally: Tally) -> Row:
    figures = tally.means()
    figures["over budget"] = sum(tally.values.get("over budget", ()))
    return Row(method=f"{method}, {budget} tokens", figures=figures)
