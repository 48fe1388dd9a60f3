"""Other ways to fill a request for a question about the past, asked and counted as `requests` does.

A window, a search that fills the request in the order it ranks, LangChain's ensemble
retriever, and LlamaIndex's `Memory` with its vector block. A search gets four fifths of
the budget, the newest turns one fifth, which is how these are set up best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, TypeAlias

from langmem_plugin.evaluation.loaders import Conversation
from langmem_plugin.evaluation.metrics import Row, Tally
from langmem_plugin.evaluation.recall import Ranking, asked, rankings_of
from langmem_plugin.evaluation.requests import row
from langmem_plugin.messages import Message, user
from langmem_plugin.models import Embedder
from langmem_plugin.tokens import TokenCounter

NEWEST: Final = 0.2
"""Share of the budget for the newest turns, beside a search."""
Filled: TypeAlias = Callable[[str, datetime], Sequence[Message]]
"""Question and moment -> the request."""


def rivals_level(
    conversations: Sequence[Conversation],
    *,
    embedder: Embedder | None = None,
    budgets: Sequence[int] = (1_000, 2_000, 4_000),
    counter: TokenCounter | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """Share of the evidence turns that stand word for word in each request, one row a method and budget.

    Args:
        conversations: With questions whose evidence is known.
        embedder: For the methods that use vectors; without one they are left out.
        budgets: Tokens of the prompt.
        counter: Counts the requests; the one that a `Memory` has by default, if none is given.
        progress: Told each conversation and method.
    """
    counter = counter or TokenCounter.for_model("gpt-4o")
    tallies: dict[tuple[str, int], Tally] = {}
    for conversation in conversations:
        questions = list(asked([conversation]))
        texts = {turn.id: turn.message.text for turn in conversation.turns}
        for method, budget, fill in _ways(conversation, embedder, budgets, counter):
            if progress:
                progress(f"{conversation.id}: {method}, {budget}")
            tally = tallies.setdefault((method, budget), Tally())
            for one in questions:
                messages = fill(one.question.text, one.now)
                sent = "\n\n".join(message.text for message in messages)
                got = {turn for turn in one.evidence if texts[turn] in sent}
                tally.found("", one.evidence, got, category=one.question.category)
                used = counter.count_request(messages)
                tally.add("tokens", used)
                tally.add("over budget", float(used > budget))
    return [row(method, budget, tally) for (method, budget), tally in tallies.items()]


def _ways(
    conversation: Conversation, embedder: Embedder | None, budgets: Sequence[int], counter: TokenCounter
) -> Iterator[tuple[str, int, Filled]]:
    lines = [f"{turn.message.name}: {turn.message.text}".removeprefix("None: ") for turn in conversation.turns]
    costs = [counter.count(line) + 1 for line in lines]
    for name, ranking in rankings_of(conversation, embedder):
        for budget in budgets:
            newest = 1.0 if name == "newest first" else NEWEST
            yield name, budget, _filled(ranking, lines, costs, budget, newest, counter)
    if embedder is not None:
        from langmem_plugin.evaluation.rival_memory import memory_with_vectors

        for budget in budgets:
            yield (
                "LlamaIndex Memory, vector block",
                budget,
                memory_with_vectors(conversation, embedder, budget, counter),
            )


def _filled(
    ranking: Ranking, lines: Sequence[str], costs: Sequence[int], budget: int, newest: float, counter: TokenCounter
) -> Filled:
    def fill(question: str, now: datetime) -> list[Message]:
        room = budget - counter.count_request([user(question)]) - 8
        chosen: list[int] = []
        left = room * newest
        for place in range(len(lines) - 1, -1, -1):
            left -= costs[place]
            if left < 0:
                break
            chosen.append(place)
        left = room - sum(costs[place] for place in chosen)
        taken = set(chosen)
        for place in ranking(question, now):
            if place not in taken and costs[place] <= left:
                left -= costs[place]
                chosen.append(place)
                taken.add(place)
        while True:
            request = [user("\n".join([*(lines[place] for place in sorted(chosen)), question]))]
            if not chosen or counter.count_request(request) <= budget:
                return request
            chosen.pop()

    return fill
