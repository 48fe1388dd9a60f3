"""A long conversation with many constraints: which of them still stand in the requests?

Constraints are said in passing, some are taken back, some replaced; budgets change, turns
are compressed, the process restarts in the middle. The same conversation goes through what
the frameworks bring along, with the same deterministic summariser.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context.extract import extract
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.evaluation import frameworks, others
from langmem_plugin.evaluation.frameworks import Framework
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role, assistant, user
from langmem_plugin.tokens import TokenCounter

_THINGS = [
    "peanuts",
    "olives",
    "mushrooms",
    "hostels",
    "casinos",
    "malls",
    "motorways",
    "cruises",
    "karaoke",
    "zoos",
    "oysters",
    "cilantro",
    "saunas",
    "golf",
    "skiing",
    "museums",
    "ferries",
    "buffets",
    "camping",
    "opera",
    "fondue",
    "haggis",
    "sushi",
    "bowling",
    "chess",
]
_STATED = (
    "Never suggest {}.",
    "Never mention {} again.",
    "I hate {}.",
    "I'm allergic to {}.",
    "Always warn me about {}.",
)
_REPLACED = (
    ("My budget is {} euros.", "Our budget is {} euros now."),
    ("I live in {}.", "I moved to {}."),
    ("My deadline is {}.", "The deadline has been moved to {}."),
    ("My seat is {}.", "My seat is {} now."),
    ("My phone number is {}.", "My new phone number is {}."),
)
_VALUES = (
    ("500", "700"),
    ("Lyon", "Ghent"),
    ("3 May", "9 June"),
    ("14C", "22A"),
    ("555-1200", "555-9911"),
)
_TALK = (
    "What could we do on day {}?",
    "How far is stop number {} from the station?",
    "Tell me more about option {}, and about the way there.",
    "Is number {} open in the evening?",
    "Compare the first plan with plan {}.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One user message, and what holds once it was answered."""

    text: str
    stated: str = ""
    """The constraint in it."""
    ended: str = ""
    """The constraint that it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How one way of building requests kept the constraints."""

    name: str
    requests: int
    due: int
    """Active constraints, over all requests."""
    held: int
    """Of those, word for word in the request."""
    ended_sent: int = 0
    """Requests whose constraints block holds one that was revoked or replaced."""
    compressions: int = 0
    smallest: int = 0
    """The smallest budget, tokens."""
    largest: int = 0
    restarts: int = 0
    last_held: int = 0
    """Of the constraints due in the last request."""
    last_due: int = 0

    @property
    def share(self) -> float:
        """Of the active constraints, the part that was there, 0..1."""
        return self.held / self.due if self.due else 1.0


def script(*, turns: int = 500, constraints: int = 30, seed: int = 0) -> list[Utterance]:
    """What the user says: chat, with constraints in its first two thirds; a sixth revoked, a sixth replaced.

    Args:
        turns: User messages; each is answered, so the conversation has twice as many messages.
        constraints: How many are stated, at least 6; those that replace others come on top.
        seed: The same seed gives the same conversation.

    Raises:
        InvalidSetting: Not 6 to 30 constraints, or too few turns to say them in.
    """
    if not 6 <= constraints <= len(_THINGS) + 5:
        raise InvalidSetting("constraints", constraints, f"give 6 to {len(_THINGS) + 5}")
    if turns < constraints * 2:
        raise InvalidSetting("turns", turns, f"give at least {constraints * 2} for {constraints} constraints")
    chance = random.Random(seed)  # noqa: S311 - a reproducible conversation, nothing secret
    ended = min(5, constraints // 6)
    plain = [
        _STATED[place % len(_STATED)].format(thing)
        for place, thing in enumerate(chance.sample(_THINGS, constraints - ended))
    ]
    said = [Utterance(text=text, stated=text) for text in plain]
    said += [
        Utterance(text=text, stated=text)
        for text in (first.format(value) for (first, _), (value, _) in zip(_REPLACED, _VALUES, strict=True))
    ][:ended]
    chance.shuffle(said)
    places = sorted(chance.sample(range(1, turns * 2 // 3), len(said)))
    lines = [Utterance(text=chance.choice(_TALK).format(number)) for number in range(turns)]
    for place, utterance in zip(places, said, strict=True):
        lines[place] = utterance
    later = iter(sorted(chance.sample(range(turns * 2 // 3, turns - 1), 2 * ended)))
    for text in chance.sample(plain, ended):
        topic = text.removesuffix(".").removesuffix(" again").split()[-1]
        lines[next(later)] = Utterance(text=f"Forget what I said about {topic}.", ended=text)
    for (first, second), (old, new) in list(zip(_REPLACED, _VALUES, strict=True))[:ended]:
        text = second.format(new)
        lines[next(later)] = Utterance(text=text, stated=text, ended=first.format(old))
    return lines


def summarised(prompt: str) -> str:
    """The one deterministic summariser of all: an extract."""
    counter = TokenCounter.for_model("gpt-4o")
    return extract([user(prompt)], count=counter.count, max_tokens=300) or prompt[:200]


def measure(
    *,
    turns: int = 500,
    constraints: int = 30,
    seed: int = 0,
    budgets: tuple[int, int] = (2_000, 5_000),
    only: Literal["all", "ours", "others"] = "all",
    progress: Callable[[str], None] = lambda _text: None,
) -> list[Retention]:
    """Send the conversation through both adapters and, beside them, through what the frameworks bring along.

    Args:
        turns: User messages.
        constraints: How many are stated.
        seed: For the conversation and the budgets.
        budgets: From and to; the adapters get a new one at random every 25 turns, the others the mean.
        only: What to measure: this memory's adapters, the others, or all.
        progress: Told what begins.
    """
    lines = script(turns=turns, constraints=constraints, seed=seed)
    results = []
    for framework in get_args(Framework) if only != "others" else ():
        progress(framework)
        results.append(_ours(framework, lines, budgets=budgets, seed=seed))
    if only != "ours":
        ways = {name: make for name, make in others.others().items() if "Summar" in name}
        for name, make in {**ways, "Memory with FactExtractionMemoryBlock": _Blocks}.items():
            progress(name)
            results.append(through(name, make(TokenCounter.for_model("gpt-4o"), sum(budgets) // 2), lines))
    return results


class _Watch:
    """Counts what each request holds; stands where `frameworks` looks at requests."""

    def __init__(self) -> None:
        self.due: list[str] = []
        self.ended: list[str] = []
        self.result = Retention(name="", requests=0, due=0, held=0)

    def look(self, request: Sequence[Message]) -> None:
        """One request."""
        system = request[0].text if request and request[0].role is Role.SYSTEM else ""
        held = sum(text in system for text in self.due)
        block = system.splitlines()
        ended = any(line.endswith(f": {text}") for text in self.ended for line in block)
        self._count(held, ended=ended)

    def look_anywhere(self, request: Sequence[Message]) -> None:
        """One request of a way that has no place for constraints: anywhere will do."""
        whole = "\n".join(message.text for message in request)
        self._count(sum(text in whole for text in self.due), ended=False)

    def _count(self, held: int, *, ended: bool) -> None:
        was = self.result
        self.result = replace(
            was,
            requests=was.requests + 1,
            due=was.due + len(self.due),
            held=was.held + held,
            ended_sent=was.ended_sent + ended,
            last_held=held,
            last_due=len(self.due),
        )

    def heard(self, line: Utterance) -> None:
        """The turn is over: what it stated is due, what it ended is not."""
        if line.ended:
            self.due.remove(line.ended)
            self.ended.append(line.ended)
        if line.stated:
            self.due.append(line.stated)


_EVERY = 25
"""Turns with one budget."""


def _ours(framework: Framework, lines: Sequence[Utterance], *, budgets: tuple[int, int], seed: int) -> Retention:
    chance = random.Random(seed)  # noqa: S311 - reproducible budgets
    watch = _Watch()
    given = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'memory.db'}"
        compressions = 0
        for start in range(0, len(lines), _EVERY):
            budget = chance.randint(*budgets)
            given.append(budget)
            config = MemoryConfig(budget=Budget(max_tokens=budget, completion=0))
            # A new process would not know more: every stretch opens the file anew.
            with Memory.open(url, config=config, summarizer=summarised) as memory:
                session = memory.session("talk", owner="ann")
                say = frameworks.adapter(framework, memory, session, watch.look)
                for number, line in enumerate(lines[start : start + _EVERY], start=start):
                    say(line.text, f"That is answer {number}. " + _filler(number))
                    watch.heard(line)
                memory.wait(30)
                compressions = sum(event.kind == "summary" for event in session.events())
    name = {"langchain": "HybridMemoryMiddleware", "llama-index": "HybridChatMemoryBuffer"}[framework]
    return replace(
        watch.result,
        name=name,
        compressions=compressions,
        smallest=min(given),
        largest=max(given),
        restarts=len(given) - 1,
    )


def _filler(number: int) -> str:
    return " ".join(f"Place {number + step} has a garden, a view and a quiet room for {step + 2}." for step in range(3))


def through(name: str, way: others.Other, lines: Sequence[Utterance]) -> Retention:
    """The conversation through another way of building requests; a constraint may stand anywhere in them."""
    watch = _Watch()
    for number, line in enumerate(lines):
        watch.look_anywhere(way.ask(user(line.text)))
        way.hear(assistant(f"That is answer {number}. " + _filler(number)))
        watch.heard(line)
    return replace(watch.result, name=name)


class _Blocks(others.Buffer):
    """LlamaIndex's `Memory` with a `FactExtractionMemoryBlock`, its facts by the same extract."""

    def made(self, budget: int) -> Any:
        """See `Buffer.made`."""
        from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
        from llama_index.core.memory import FactExtractionMemoryBlock
        from llama_index.core.memory import Memory as LlamaMemory

        class Extracts(CustomLLM):  # type: ignore[misc, unused-ignore]
            @property
            def metadata(self) -> LLMMetadata:
                return LLMMetadata(context_window=10**6)

            def complete(self, prompt: str, **_: object) -> CompletionResponse:
                facts = "".join(f"<fact>{line}</fact>" for line in summarised(prompt).splitlines() if line.strip())
                return CompletionResponse(text=f"<facts>{facts}</facts>")

            def stream_complete(self, prompt: str, **_: object) -> Iterator[CompletionResponse]:
                return iter((self.complete(prompt),))

        return LlamaMemory.from_defaults(
            session_id="talk",
            token_limit=budget,
            chat_history_token_ratio=0.7,
            token_flush_size=max(1, budget // 10),
            tokenizer_fn=self.tokens,
            memory_blocks=[FactExtractionMemoryBlock(name="facts", llm=Extracts(), max_facts=50, priority=1)],
        )


def to_markdown(results: Sequence[Retention]) -> str:
    """One row each."""
    columns = (
        "requests built by",
        "requests",
        "active constraints held",
        "in the last request",
        "ended ones in force",
        "compressions",
        "restarts",
        "budgets",
    )
    lines = [f"| {' | '.join(columns)} |", "|---|---:|---:|---:|---:|---:|---:|---|"]
    for one in results:
        ours = one.compressions or one.restarts
        lines.append(
            f"| {one.name} | {one.requests:,} | {100 * one.share:.1f} % | {one.last_held} of {one.last_due} "
            f"| {one.ended_sent if ours else ''} | {one.compressions if ours else ''} "
            f"| {one.restarts if ours else ''} | {f'{one.smallest:,} to {one.largest:,}' if ours else ''} |"
        )
    return "\n".join(lines) + "\n"
