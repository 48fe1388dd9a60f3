"""What stands in the requests: evidence and tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context
from langmem_plugin.evaluation.loaders import Conversation, Turn
from langmem_plugin.evaluation.metrics import Row, Tally
from langmem_plugin.evaluation.recall import asked
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Role


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
                    count(tally, context, budget)
    return [row(method, budget, tally) for budget, tally in tallies.items()]


def count(tally: Tally, context: Context, budget: int) -> None:
    """Count a request's tokens, and whether they are too many."""
    used = context.report.tokens_used
    tally.add("tokens", used)
    tally.add("over budget", float(used > budget))


def row(method: str, budget: int, tally: Tally) -> Row:
    """The means of all figures, requests over their budget as a sum."""
    figures = tally.means()
    figures["over budget"] = sum(tally.values.get("over budget", ()))
    return Row(method=f"{method}, {budget} tokens", figures=figures)
