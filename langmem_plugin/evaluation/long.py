"""A long made-up conversation with planted facts and rules, asked at several lengths: a gate against regressions.

The conversation is the same at each run. Facts are asked in words that they share with what
was said, so the figures tell whether something got lost on the way, not how well a paraphrase
is understood; `eval recall` measures that on real conversations.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role, assistant, user
from langmem_plugin.tokens import TokenCounter

TURNS = (50, 100, 200, 600, 1_000)
"""Exchanges after which the questions are asked, unless told otherwise."""
_WAIT_EVERY = 20
_FACT_EVERY = 4


class LongMemory(Protocol):
    """What a memory must do to be measured: take an exchange, and give the request for a question."""

    def add(self, question: str, answer: str) -> None:
        """One exchange was said."""
        ...

    def request(self, question: str) -> Sequence[Message]:
        """The messages that a model would be sent for this question now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LongRow:
    """What stood in the requests after so many exchanges."""

    turns: int
    facts: int
    """How many were planted by then and asked for."""
    recall: float
    """Share of the facts whose answer stands in the request for their question, 0..1."""
    rules: int
    """Rules in force."""
    constraints: float
    """Share of the pairs of request and rule in force where the rule stands in it word for word."""
    ended: float
    """Share of the pairs of request and ended rule where it still stands in the system prompt; 0 is right."""
    tokens: float
    """The median request."""
    largest: int
    everything: int
    """What all that was said would take, with a question."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What is planted in an exchange and asked for later."""

    said: str
    question: str
    value: str


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    said_at: int
    ended_at: int | None = None
    ended_by: str = ""


_RULES = (
    _Rule("Never suggest flights.", 2, 31, "Forget the rule about flights."),
    _Rule("Always answer in two sentences.", 6),
    _Rule("I am allergic to peanuts.", 11),
    _Rule("I live in Paris.", 17, 43, "I live in Lyon now."),
    _Rule("I live in Lyon now.", 43),
    _Rule("Do not use emojis.", 90),
)
_THINGS = ("bicycle", "garden gate", "wine cellar", "old radio", "letter box", "sewing machine", "ladder", "piano")
_PEOPLE = ("Greta", "Ignatius", "Marlene", "Tobias", "Wilhelmina", "Casimir", "Rosalind", "Ferdinand", "Ottilie")
_CHATTER = ("the weather", "lunch", "a film", "the neighbours", "a late train", "the new shelf", "a walk", "the news")


def conversation(turns: int, *, seed: int = 7) -> Iterator[tuple[str, str, Fact | None]]:
    """So many exchanges: what the user says, the answer, and the fact that was planted, if one was."""
    chance = random.Random(seed)  # noqa: S311 - the same conversation at each run
    rules = {rule.said_at: rule.text for rule in _RULES} | {r.ended_at: r.ended_by for r in _RULES if r.ended_at}
    number = 0
    for turn in range(turns):
        fact = None
        if turn in rules:
            said = rules[turn]
        elif turn % _FACT_EVERY == 0:
            thing, owner = _THINGS[number % len(_THINGS)], _PEOPLE[number // len(_THINGS) % len(_PEOPLE)]
            shelf = number // (len(_THINGS) * len(_PEOPLE))
            name = f"{thing} number {shelf + 1}" if shelf else thing
            value = str(chance.randint(10_000, 99_999))
            fact = Fact(
                f"By the way, the code of {owner}'s {name} is {value}.", f"What is the code of {owner}'s {name}?", value
            )
            said = fact.said
            number += 1
        else:
            said = f"Let us speak of {chance.choice(_CHATTER)}; it was on my mind on day {turn} of this year."
        answer = f"I see, {chance.choice(_CHATTER)} comes to mind as well. Tell me more about it when you like."
        yield said, answer, fact


def measure(
    memory: LongMemory,
    *,
    turns: Sequence[int] = TURNS,
    counter: TokenCounter,
    most_questions: int = 50,
    progress: Callable[[str], None] | None = None,
) -> list[LongRow]:
    """Feed the conversation and ask at each of these lengths.

    Args:
        memory: What is measured.
        turns: Exchanges after which all planted facts are asked for, ascending.
        counter: Counts the requests.
        most_questions: Questions at each length at most; of more facts, evenly chosen ones.
        progress: Told each length before its questions.
    """
    planted: list[Fact] = []
    log: list[Message] = []
    rows: list[LongRow] = []
    stops = sorted(set(turns))
    for place, (said, answer, fact) in enumerate(conversation(stops[-1]), start=1):
        memory.add(said, answer)
        log += [user(said), assistant(answer)]
        if fact:
            planted.append(fact)
        if place in stops:
            if progress:
                progress(f"{place} exchanges")
            rows.append(_ask(memory, place, planted, log, counter, most_questions))
    return rows


def _ask(
    memory: LongMemory,
    place: int,
    planted: Sequence[Fact],
    log: Sequence[Message],
    counter: TokenCounter,
    most_questions: int,
) -> LongRow:
    step = max(1, -(-len(planted) // most_questions))
    asked = planted[::step]
    in_force = [r.text for r in _RULES if r.said_at < place and (r.ended_at is None or r.ended_at >= place)]
    over = [r.text for r in _RULES if r.ended_at is not None and r.ended_at < place]
    found = kept = stale = 0
    tokens: list[int] = []
    for fact in asked:
        request = memory.request(fact.question)
        texts = "\n".join(message.text for message in request)
        standing = "\n".join(message.text for message in request if message.role is Role.SYSTEM)
        found += fact.value in texts
        kept += sum(rule in texts for rule in in_force)
        stale += sum(rule in standing for rule in over)
        tokens.append(counter.count_request(request))
    return LongRow(
        turns=place,
        facts=len(asked),
        recall=found / len(asked) if asked else 1.0,
        rules=len(in_force),
        constraints=kept / (len(asked) * len(in_force)) if asked and in_force else 1.0,
        ended=stale / (len(asked) * len(over)) if asked and over else 0.0,
        tokens=statistics.median(tokens) if tokens else 0.0,
        largest=max(tokens, default=0),
        everything=counter.count_request([*log, *(user(fact.question) for fact in asked[:1])]),
    )


def to_markdown(rows: Sequence[LongRow]) -> str:
    """One line a length."""
    columns = ("exchanges", "facts", "recall", "rules in force", "rule in the request", "ended rule sent")
    lines = [
        f"| {' | '.join(columns)} | median | largest | everything |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.turns:,} | {row.facts} | {row.recall:.3f} | {row.rules} | {row.constraints:.3f} | {row.ended:.3f} "
        f"| {row.tokens:,.0f} | {row.largest:,} | {row.everything:,} |"
        for row in rows
    ]
    return "\n".join(lines)


class OwnMemory:
    """This package's memory, to be measured."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._session = memory.session("long", owner="evaluation")
        self._added = 0

    @classmethod
    def opened(cls, *, budget: int, embedder: Any = None) -> OwnMemory:
        """An empty one in memory, with a budget of so many tokens."""
        config = MemoryConfig(budget=Budget(max_tokens=budget, completion=0))
        return cls(Memory.open(config=config, embedder=embedder))

    def add(self, question: str, answer: str) -> None:
        """One exchange."""
        self._session.add(user(question), assistant(answer))
        self._added += 1
        if self._added % _WAIT_EVERY == 0:
            self._memory.wait(timeout_s=60)

    def request(self, question: str) -> Sequence[Message]:
        """The request for a question."""
        return self._session.context(question).messages

    def close(self) -> None:
        """Close the memory."""
        self._memory.close()


class _History:
    """A LangChain chat history, and the new question at its end."""

    def __init__(self, history: Any) -> None:
        self._history = history

    def add(self, question: str, answer: str) -> None:
        from langchain_core.messages import AIMessage, HumanMessage

        self._history.add_messages([HumanMessage(question), AIMessage(answer)])

    def request(self, question: str) -> Sequence[Message]:
        from langchain_langmem_plugin import to_core

        return [*map(to_core, self._history.messages), user(question)]


class _Chain:
    """A memory of langchain-classic, and the new question at its end."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    def add(self, question: str, answer: str) -> None:
        self._memory.save_context({"input": question}, {"output": answer})

    def request(self, question: str) -> Sequence[Message]:
        from langchain_langmem_plugin import to_core

        (history,) = self._memory.load_memory_variables({"input": question}).values()
        return [*([user(history)] if isinstance(history, str) else map(to_core, history)), user(question)]


class _Buffer:
    """A LlamaIndex memory, read as its agents do: the question is put first, and taken back."""

    def __init__(self, memory: Any) -> None:
        self._memory = memory

    def add(self, question: str, answer: str) -> None:
        from llama_index.core.base.llms.types import ChatMessage

        self._memory.put(ChatMessage(role="user", content=question))
        self._memory.put(ChatMessage(role="assistant", content=answer))

    def request(self, question: str) -> Sequence[Message]:
        from llama_index.memory.langmem_plugin import to_core

        messages = [to_core(message) for message in self._memory.get(input=question)]
        return messages if messages and question in messages[-1].text else [*messages, user(question)]


def as_long_memory(given: Any) -> LongMemory:
    """A memory of either framework in the form that is measured; one that has that form is given back.

    Args:
        given: Has `add` and `request`, or is a `Memory` of this package, a LangChain chat
            history, a memory of langchain-classic (of one input and one output) or a
            LlamaIndex memory.

    Raises:
        InvalidSetting: It is none of these.
    """
    if isinstance(given, Memory):
        return OwnMemory(given)
    for wrap, methods in (
        (_same, ("add", "request")),
        (_Chain, ("save_context", "load_memory_variables")),
        (_Buffer, ("put", "get")),
        (_History, ("add_messages", "messages")),
    ):
        if all(hasattr(given, method) for method in methods):
            wrapped: LongMemory = wrap(given)
            return wrapped
    raise InvalidSetting("memory", type(given).__name__, "give it methods add(question, answer) and request(question)")


def _same(given: Any) -> Any:
    return given
