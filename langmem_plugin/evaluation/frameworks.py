"""Whole conversations through both adapters: is every request that reaches the model in order?"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.evaluation.loaders import Conversation
from langmem_plugin.evaluation.players import langchain_player, llama_index_player
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session
from langmem_plugin.testing.validity import problems

Framework: TypeAlias = Literal["langchain", "llama-index"]
"""The ways in: `create_agent` with the middleware, and `SimpleChatEngine` with the buffer."""

SYSTEM = "You are a friend of the user and remember what they told you."
_RULES = (
    "Never mention alcohol.",
    "Always answer in two sentences or fewer.",
    "I am allergic to peanuts.",
    "Give distances in kilometres.",
    "Do not use emojis.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a framework's model was sent over one conversation."""

    conversation: str
    framework: str
    budget: int
    requests: int = 0
    over_budget: int = 0
    """Requests with more tokens than the budget, by the model's tokenizer."""
    invalid: int = 0
    """Requests that the strictest provider would refuse."""
    without_constraint: int = 0
    """Requests in which an active constraint does not stand word for word in the system prompt."""
    without_question: int = 0
    """Requests that do not end with what the user just said."""
    largest: int = 0
    median: float = 0.0
    faults: tuple[str, ...] = field(default=())
    """The first few, in words."""

    @property
    def clean(self) -> bool:
        """True if nothing was wrong with any request."""
        return not (self.over_budget or self.invalid or self.without_constraint or self.without_question)


def check(
    conversations: Sequence[Conversation],
    *,
    budgets: Sequence[int] = (1_000, 2_000, 4_000),
    frameworks: Sequence[Framework] = get_args(Framework),
    embedder: object | None = None,
    most: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Outcome]:
    """Replay each conversation through each framework at each budget and look at every request.

    The first speaker is the user; the model answers what the second speaker said. Five
    constraints are added at the start, one is revoked half-way.

    Args:
        conversations: What is said.
        budgets: Tokens of a request, counted by o200k_base; nothing is kept for the answer.
        frameworks: The ways in.
        embedder: For recall by meaning; by keyword alone without one.
        most: Only so many turns of each conversation.
        progress: Called with a line for each outcome.
    """
    outcomes = []
    for conversation in conversations:
        for framework in frameworks:
            for budget in budgets:
                outcome = _replay(conversation, framework, budget, embedder=embedder, most=most)
                outcomes.append(outcome)
                if progress:
                    progress(
                        f"{conversation.id} {framework} {budget}: {outcome.requests} requests, clean={outcome.clean}"
                    )
    return outcomes


def to_markdown(outcomes: Sequence[Outcome]) -> str:
    """One row a framework and budget, over all conversations."""
    columns = ("framework", "budget", "talks", "requests", "over", "invalid", "rule missing", "question missing")
    lines = [f"| {' | '.join(columns)} | largest | median |", f"|---{'|---:' * (len(columns) + 1)}|"]
    for framework, budget in dict.fromkeys((o.framework, o.budget) for o in outcomes):
        rows = [o for o in outcomes if (o.framework, o.budget) == (framework, budget)]
        lines.append(
            f"| {framework} | {budget:,} | {len(rows)} | {sum(o.requests for o in rows):,} "
            f"| {sum(o.over_budget for o in rows)} | {sum(o.invalid for o in rows)} "
            f"| {sum(o.without_constraint for o in rows)} | {sum(o.without_question for o in rows)} "
            f"| {max(o.largest for o in rows):,} | {statistics.median(o.median for o in rows):,.0f} |"
        )
    return "\n".join(lines)


def _replay(
    conversation: Conversation, framework: Framework, budget: int, *, embedder: object | None, most: int | None
) -> Outcome:
    config = MemoryConfig(budget=Budget(max_tokens=budget, completion=0))
    exchanges = list(_exchanges(conversation))[:most]
    with Memory.open(config=config, model="gpt-4o", embedder=embedder) as memory:
        session = memory.session(conversation.id, owner="evaluation")
        added = [session.add_constraint(rule) for rule in _RULES]
        judge = _Judge(memory, session, budget)
        say = adapter(framework, memory, session, judge.look)
        for number, (question, answer) in enumerate(exchanges):
            if number == len(exchanges) // 2:
                session.revoke(added[0].id)
            judge.expect(question)
            say(question, answer)
        return judge.outcome(conversation.id, framework)


class _Judge:
    """Looks at what the model was sent, in the core's own terms."""

    def __init__(self, memory: Memory, session: Session, budget: int) -> None:
        self._memory = memory
        self._session = session
        self._budget = budget
        self._question = ""
        self._sizes: list[int] = []
        self._counts = dict.fromkeys(("over_budget", "invalid", "without_constraint", "without_question"), 0)
        self._faults: list[str] = []

    def expect(self, question: str) -> None:
        """The next request has to end with this."""
        self._question = question

    def look(self, request: Sequence[Message]) -> None:
        """Judge one request."""
        tokens = self._memory.counter.count_request(request)
        self._sizes.append(tokens)
        self._note("over_budget", f"{tokens} tokens" if tokens > self._budget else "")
        self._note("invalid", "; ".join(problems(request)))
        system = request[0].text if request and request[0].role is Role.SYSTEM else ""
        missing = [constraint.id for constraint in self._session.constraints() if constraint.text not in system]
        self._note("without_constraint", f"{missing} missing" if missing else "")
        last = request[-1] if request else None
        asked = last is not None and last.role is Role.USER and last.text.endswith(self._question)
        self._note("without_question", "" if asked else "the question is not last")

    def outcome(self, conversation: str, framework: str) -> Outcome:
        """All that was seen."""
        return Outcome(
            conversation=conversation,
            framework=framework,
            budget=self._budget,
            requests=len(self._sizes),
            largest=max(self._sizes, default=0),
            median=statistics.median(self._sizes) if self._sizes else 0.0,
            faults=tuple(self._faults[:5]),
            **self._counts,
        )

    def _note(self, what: str, fault: str) -> None:
        if fault:
            self._counts[what] += 1
            self._faults.append(f"request {len(self._sizes)}: {fault}")


def _exchanges(conversation: Conversation) -> Iterator[tuple[str, str]]:
    """What the user says, and what is answered; what one of them says in a row is joined."""
    asked: list[str] = []
    answered: list[str] = []
    for turn in conversation.turns:
        if turn.message.role is Role.USER:
            if asked and answered:
                yield "\n".join(asked), "\n".join(answered)
                asked, answered = [], []
            asked.append(turn.message.text)
        elif asked:
            answered.append(turn.message.text)
    if asked and answered:
        yield "\n".join(asked), "\n".join(answered)


def adapter(
    framework: Framework, memory: Memory, session: Session, look: Callable[[Sequence[Message]], None]
) -> Callable[[str, str], Any]:
    """A function that says a question through a framework and answers it; `look` sees each request at the model."""
    return (_langchain if framework == "langchain" else _llama_index)(memory, session, look)


def _langchain(
    memory: Memory, session: Session, look: Callable[[Sequence[Message]], None]
) -> Callable[[str, str], Any]:
    from langchain.agents import create_agent

    from langchain_langmem_plugin import HybridMemoryMiddleware

    answers: list[str] = []
    middleware = HybridMemoryMiddleware(memory, owner=session.owner, session_id=session.id)
    agent: Any = create_agent(
        langchain_player(look, lambda: answers[-1]), system_prompt=SYSTEM, middleware=[middleware]
    )

    def say(question: str, answer: str) -> None:
        answers.append(answer)
        agent.invoke({"messages": [{"role": "user", "content": question}]})

    return say


def _llama_index(
    memory: Memory, session: Session, look: Callable[[Sequence[Message]], None]
) -> Callable[[str, str], Any]:
    from llama_index.core.chat_engine import SimpleChatEngine

    from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer

    answers: list[str] = []
    buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, owner=session.owner, session_id=session.id)
    engine = SimpleChatEngine.from_defaults(
        llm=llama_index_player(look, lambda: answers[-1]), memory=buffer, system_prompt=SYSTEM
    )

    def say(question: str, answer: str) -> None:
        answers.append(answer)
        engine.chat(question)

    return say
