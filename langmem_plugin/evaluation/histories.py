"""Random histories and budgets through both adapters: is any request too long, broken or incomplete?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self, get_args

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context.constraints_block import quote_constraint
from langmem_plugin.context.exchanges import EMPTY
from langmem_plugin.context.open_turn import LEFT_OUT
from langmem_plugin.context.rendering import sendable_text
from langmem_plugin.errors import BudgetTooSmall
from langmem_plugin.evaluation.ways import LangChain, LlamaIndex, Way, as_text
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Media, Message, Role, Text
from langmem_plugin.session import Session
from langmem_plugin.testing.random_histories import Ask, History, random_history
from langmem_plugin.testing.validity import problems, split_pairs

_EACH_MEMORY = 250
"""Histories that share a memory."""
_FAULTS = 20
"""So many are told in words."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a way's model was sent, over all histories."""

    way: Way
    histories: int = 0
    longer: int = 0
    """Histories that hold more tokens than their budget."""
    requests: int = 0
    constraints: int = 0
    """Pairs of request and constraint in force that were looked for."""
    refused: int = 0
    """Questions that ended with `BudgetTooSmall`."""
    over_budget: int = 0
    split_pairs: int = 0
    """Requests with a call without its result or a result without its call."""
    invalid: int = 0
    """Requests that the strictest provider would refuse for another reason: order of roles, empty text."""
    without_message: int = 0
    """Requests in which what the user just said is not the user's last word, verbatim; a retry keeps its place."""
    without_constraint: int = 0
    """Requests in which a constraint in force does not stand in the system prompt."""
    errors: int = 0
    """Questions that ended in any other error, or were refused by figures that do not add up."""
    faults: list[str] = field(default_factory=list)
    """The first of them in words, each with its history's seed."""

    @property
    def clean(self) -> bool:
        """True if nothing was wrong with any request."""
        return not any(
            (
                self.over_budget,
                self.split_pairs,
                self.invalid,
                self.without_message,
                self.without_constraint,
                self.errors,
            )
        )


def measure(count: int, *, seed: int = 0, progress: Callable[[str], None] | None = None) -> list[Tally]:
    """Send `count` histories, with the numbers from `seed` on, through each adapter.

    Each goes one way through LangChain and one through LlamaIndex. Every second is handed over in the
    framework's own messages, the others are written as they are; one in eight is summarised as it is
    written. A history with the same seed is treated the same whatever else is run.

    Returns:
        One tally for each way.
    """
    tallies = {way: Tally(way=way) for way in get_args(Way)}
    told = dict.fromkeys(tallies, 0)
    began = time.monotonic()
    for start in range(seed, seed + count, _EACH_MEMORY):
        with _Replay(tallies) as replay:
            for number in range(start, min(start + _EACH_MEMORY, seed + count)):
                replay.run(random_history(number))
        if progress:
            requests = sum(tally.requests for tally in tallies.values())
            progress(f"{number + 1 - seed:,} histories, {requests:,} requests, {time.monotonic() - began:.0f} s")
            for tally in tallies.values():
                for fault in tally.faults[told[tally.way] :]:
                    progress(f"{tally.way}: {fault}")
                told[tally.way] = len(tally.faults)
    return list(tallies.values())


def to_markdown(tallies: Sequence[Tally]) -> str:
    """One row a way, then the faults."""
    columns = (
        ("histories", "histories"),
        ("longer than the budget", "longer"),
        ("requests", "requests"),
        ("refused, too small", "refused"),
        ("over budget", "over_budget"),
        ("split pairs", "split_pairs"),
        ("invalid order", "invalid"),
        ("new message missing", "without_message"),
        ("constraint missing", "without_constraint"),
        ("of", "constraints"),
        ("other errors", "errors"),
    )
    lines = [f"| way | {' | '.join(title for title, _ in columns)} |", f"|---{'|---:' * len(columns)}|"]
    lines += [f"| {t.way} | {' | '.join(f'{getattr(t, name):,}' for _, name in columns)} |" for t in tallies]
    return "\n".join([*lines, *(f"\n{tally.way}: {fault}" for tally in tallies for fault in tally.faults)])


class Judge:
    """Looks at each request of one history on one way."""

    def __init__(self, tally: Tally, memory: Memory, session: Session, history: History) -> None:
        self._tally = tally
        self._memory = memory
        self._session = session
        self._history = history
        self._ask: Ask | None = None

    def expect(self, ask: Ask) -> None:
        """The next requests have to hold this."""
        self._ask = ask

    def look(self, request: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> None:
        """Judge one request, and the tools' schemas that are sent beside it."""
        self._tally.requests += 1
        tokens = self._memory.counter.count_request(request, tools)
        budget = self._history.budget
        self.note("over_budget", f"{tokens} tokens, the budget is {budget}" if tokens > budget else "")
        has_system = bool(request) and request[0].role is Role.SYSTEM
        pairs = split_pairs(request[1:] if has_system else request)
        self.note("split_pairs", "; ".join(pairs))
        self.note("invalid", "; ".join(one for one in problems(request) if one not in pairs))
        self.note("without_message", "" if self._asks(request) else "the new message is missing")
        system = request[0].text if has_system else ""
        active = self._session.constraints()
        self._tally.constraints += len(active)
        missing = [one.text for one in active if quote_constraint(one.text) not in system]
        self.note("without_constraint", f"constraints are missing: {missing}" if missing else "")

    def note(self, what: str, fault: str) -> None:
        """Count a fault, if it is one."""
        if fault:
            setattr(self._tally, what, getattr(self._tally, what) + 1)
            if len(self._tally.faults) < _FAULTS:
                self._tally.faults.append(f"seed {self._history.seed}: {fault}")

    def refused(self, error: BudgetTooSmall) -> None:
        """Count a refusal; one whose figures say that it would fit is an error."""
        self._tally.refused += 1
        told = f"needs {error.needed}, has {error.available}, the budget is {self._history.budget}"
        wrong = error.needed <= error.available or error.available > self._history.budget
        self.note("errors", f"refused for nothing: {told}" if wrong else "")

    def _asks(self, request: Sequence[Message]) -> bool:
        asked = self._ask.message if self._ask is not None else None
        last = next((message for message in reversed(request) if message.role is Role.USER), None)
        if asked is None or last is None:
            return False
        texts = [block.text for block in asked.blocks if isinstance(block, Text) and block.text.strip()]
        pictures = [block for block in asked.blocks if isinstance(block, Media)]
        kept = [block for block in last.blocks if isinstance(block, Media)]
        if len(kept) < len(pictures):
            return False
        said = LEFT_OUT.sub("", last.text)
        new = sendable_text(texts[-1]) if texts else "" if pictures else EMPTY
        earlier = (*self._history.messages, *(ask.message for ask in self._history.asks))
        # Said again while it waits for an answer, it is a retry: it stands where it stood (G5).
        retried = sum(message.role is Role.USER and message.text == asked.text for message in earlier) > 1
        return said.endswith(new) or (retried and f"{new}\n\n" in said)


class _Replay:
    """Memories that some histories share: one that summarises what is written, and one that does not."""

    def __init__(self, tallies: dict[Way, Tally]) -> None:
        self._tallies = tallies
        self._judge: Judge | None = None
        self._now = datetime(2024, 2, 28, 23, 30, tzinfo=UTC)
        config = MemoryConfig(budget=Budget(max_tokens=600, completion=0))
        self._memories = (
            Memory.open(config=config, clock=self._tick, background=False),
            Memory.open(config=config, clock=self._tick, summarizer=_summarise, sync=True),
        )
        self._ways = [(LangChain(memory, self._look), LlamaIndex(memory, self._look)) for memory in self._memories]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for memory in self._memories:
            memory.close()

    def run(self, history: History) -> None:
        """One history, one way through each adapter."""
        native, by_hand, which = history.seed % 2 == 1, history.seed // 2 % 2, int(history.seed // 4 % 8 == 0)
        memory, (langchain, llama_index) = self._memories[which], self._ways[which]
        ways: tuple[Way, Way] = (
            ("LangChain with_memory", "LlamaIndex buffer") if by_hand else ("LangChain agent", "LlamaIndex chat engine")
        )
        for way in ways:
            self._now = datetime(2024, 2, 28, 23, 30, tzinfo=UTC)
            session = memory.session(way, owner=f"owner of {history.seed}")
            judge = self._judge = Judge(self._tallies[way], memory, session, history)
            for text in history.constraints:
                session.add_constraint(text)
            state: Sequence[Message] = ()
            if way == "LangChain agent" and native:
                # A state's system messages are the application's own, and are sent on as they are.
                state = [message for message in history.messages if message.role is not Role.SYSTEM]
            elif native:
                (langchain if way == "LangChain with_memory" else llama_index).write(session, history.messages)
            else:
                session.add(*history.messages)
            match way:
                case "LangChain agent":
                    say = langchain.agent(session, history.budget, state=state)
                case "LangChain with_memory":
                    say = langchain.chain(session, history.budget)
                case "LlamaIndex chat engine":
                    say = llama_index.engine(session, history.budget)
                case "LlamaIndex buffer":
                    say = llama_index.buffer(session, history.budget)
            self._ask_all(
                judge, say, [as_text(ask) if way == "LlamaIndex chat engine" else ask for ask in history.asks]
            )
            tally = self._tallies[way]
            tally.histories += 1
            tally.longer += sum(entry.tokens for entry in session.history()) > history.budget

    def _ask_all(self, judge: Judge, say: Callable[[Ask], None], asks: Sequence[Ask]) -> None:
        for ask in asks:
            judge.expect(ask)
            try:
                say(ask)
            except BudgetTooSmall as error:
                judge.refused(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and named
                judge.note("errors", f"{type(error).__name__}: {error}")

    def _look(self, request: Sequence[Message], tools: Sequence[dict[str, Any]]) -> None:
        if self._judge is not None:
            self._judge.look(request, tools)

    def _tick(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def _summarise(prompt: str) -> str:
    """A summary of the prompt's own words."""
    return "They spoke of " + " ".join(prompt.split()[-40:])
