"""The replay: every exchange through its framework, measured as the model received it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from langmem_plugin.config import Budget
from langmem_plugin.context.request import ContextReport
from langmem_plugin.demo.baseline import everything, sliding_window
from langmem_plugin.demo.player import Player, text_of
from langmem_plugin.demo.script import Day, Exchange
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, user
from langmem_plugin.messages import system as system_message
from langmem_plugin.records import Constraint

_BETWEEN = timedelta(seconds=70)
"""From one exchange to the next."""


class Side(Protocol):
    """One framework's half of the conversation."""

    name: str

    def tools(self, exchange: Exchange) -> Sequence[Mapping[str, Any]]:
        """The schemas that go with the requests of an exchange."""
        ...

    def say(self, exchange: Exchange) -> str:
        """One exchange, from the user's words to the answer."""
        ...


class Clock:
    """The present moment of the script."""

    def __init__(self, begins: datetime) -> None:
        self.now = begins

    def __call__(self) -> datetime:
        """The moment that the memory writes down."""
        return self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """How much of what matters a request holds."""

    needs: tuple[bool, ...]
    """For each of the exchange's needs, in order."""
    constraints: int
    """How many of the constraints in force stand in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One exchange as it went."""

    exchange: Exchange
    side: str
    when: datetime
    answer: str
    requests: tuple[tuple[Message, ...], ...]
    """As they reached the model."""
    tokens: tuple[int, ...]
    """Of each of them, tools included."""
    everything: int
    """Tokens of the first if the whole conversation were sent."""
    report: ContextReport | None
    """Of the first request; only for a question."""
    constraints: tuple[Constraint, ...]
    """All of them, in whichever state, before the exchange."""
    ours: Held
    window: Held
    """The same of a sliding window with the same budget and counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A conversation, the memory it goes through, and who takes which day."""

    days: tuple[Day, ...]
    memory: Memory
    clock: Clock
    player: Player
    sides: tuple[Side, ...]
    system: str
    session_id: str
    owner: str
    budget: Budget

    def run(
        self,
        day_begins: Callable[[int, Day, str], None] = lambda *_: None,
        day_ends: Callable[[list[Step]], None] = lambda *_: None,
    ) -> Iterator[Step]:
        """Go through the days, one framework a day in turn; gives each exchange when it is answered.

        Args:
            day_begins: Called with the day's number from 1, the day and who takes it.
            day_ends: Called with its exchanges.
        """
        for number, day in enumerate(self.days):
            side = self.sides[number % len(self.sides)]
            self.memory.wait(60)  # days lie between; what works behind is done
            day_begins(number + 1, day, side.name)
            steps = []
            for place, exchange in enumerate(day.exchanges):
                self.clock.now = day.begins + place * _BETWEEN
                if exchange.is_question:
                    self.memory.wait(60)
                steps.append(self._step(side, exchange))
                yield steps[-1]
            day_ends(steps)

    def _step(self, side: Side, exchange: Exchange) -> Step:
        session = self.memory.session(self.session_id, owner=self.owner)
        counter, tools = self.memory.counter, side.tools(exchange)
        known = session.constraints(all=True)
        active = session.constraints()
        report = None
        if exchange.is_question:  # what is behind has caught up, so this is the request that the framework will send
            report = session.context(exchange.user, system=self.system, tools=tools, budget=self.budget).report
        history = [entry.message for entry in session.history()]
        head, new = system_message(self.system), user(exchange.user)
        window = sliding_window(head, history, new, counter=counter, budget=self.budget.prompt, tools=tools)
        self.player.expect(exchange)
        answer = side.say(exchange)
        sent = tuple(self.player.requests)
        return Step(
            exchange=exchange,
            side=side.name,
            when=self.clock.now,
            answer=answer,
            requests=sent,
            tokens=tuple(counter.count_request(request, tools) for request in sent),
            everything=counter.count_request(everything(head, history, new), tools),
            report=report,
            constraints=known,
            ours=_held(sent[0], exchange, active),
            window=_held(window, exchange, active),
        )


def _held(request: Sequence[Message], exchange: Exchange, constraints: Sequence[Constraint]) -> Held:
    text = text_of(request)
    return Held(
        needs=tuple(need in text for need in exchange.needs),
        constraints=sum(constraint.text in text for constraint in constraints),
    )
