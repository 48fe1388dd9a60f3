"""Ways of a conversation to a model, through both adapters, with a tool loop where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

from langmem_plugin.config import Budget
from langmem_plugin.evaluation.frameworks import SYSTEM
from langmem_plugin.evaluation.players import langchain_player, llama_index_player
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, user
from langmem_plugin.session import Session
from langmem_plugin.testing.random_histories import TOOL, Ask

Way: TypeAlias = Literal["LangChain agent", "LangChain with_memory", "LlamaIndex chat engine", "LlamaIndex buffer"]
"""`create_agent` with the middleware; `with_memory` around a model; `SimpleChatEngine` with the
buffer; the buffer alone, put and got by hand as agents do."""

Look: TypeAlias = Callable[[Sequence[Message], Sequence[dict[str, Any]]], None]
"""Is shown each request where the model receives it, and the schemas of the tools beside it."""

ANSWER = "All right."
"""What the model says in the end."""


class LangChain:
    """Says what histories ask through LangChain; its agents are made once for each budget."""

    def __init__(self, memory: Memory, look: Look) -> None:
        self._memory = memory
        self._look = look
        self._agents: dict[int, Any] = {}
        self._session: Any = None
        self._answers: list[Message] = []
        self._results: dict[int, str] = {}
        self._schemas: list[dict[str, Any]] = []
        self._model = langchain_player(lambda request: self._look(request, self._schemas), self._answer)

    def write(self, session: Session, messages: Sequence[Message]) -> None:
        """Keep what was said before, in LangChain's own messages."""
        from langchain_langmem_plugin import HybridChatMessageHistory, from_core

        history = HybridChatMessageHistory(session.id, memory=self._memory, owner=session.owner)
        history.add_messages([from_core(message) for message in messages])

    def agent(self, session: Session, budget: int, *, state: Sequence[Message] = ()) -> Callable[[Ask], None]:
        """A function that asks an agent; the first time it is handed `state` before what is asked."""
        from langchain_langmem_plugin import from_core

        if budget not in self._agents:
            self._agents[budget] = self._made(budget)
        agent, before = self._agents[budget], [from_core(message) for message in state]

        def say(ask: Ask) -> None:
            self._session, self._schemas = session, self._tool_schemas
            self._answers = [step[0] for step in ask.steps]
            results = [message.text for step in ask.steps for message in step[1:]]
            self._results = dict(enumerate(results))
            given = [*before, from_core(ask.message)]
            before.clear()
            agent.invoke({"messages": given})

        return say

    def chain(self, session: Session, budget: int) -> Callable[[Ask], None]:
        """A function that asks the model by way of `with_memory`."""
        from langchain_langmem_plugin import from_core, with_memory

        chain = with_memory(
            self._model,
            memory=self._memory,
            owner=session.owner,
            session_id=session.id,
            system=SYSTEM,
            budget=Budget(max_tokens=budget, completion=0),
        )

        def say(ask: Ask) -> None:
            self._session, self._schemas = session, []
            self._answers = [step[0] for step in ask.steps]
            chain.invoke([from_core(ask.message)])
            for step in ask.steps:
                chain.invoke([from_core(message) for message in step[1:]])

        return say

    def _made(self, budget: int) -> Any:
        from langchain.agents import create_agent
        from langchain_core.tools import StructuredTool
        from langchain_core.utils.function_calling import convert_to_openai_tool

        from langchain_langmem_plugin import HybridMemoryMiddleware

        def look_up(n: int) -> str:
            """Look something up."""
            return self._results[n]

        tool = StructuredTool.from_function(look_up, name=TOOL)
        self._tool_schemas = [convert_to_openai_tool(tool)]
        middleware = HybridMemoryMiddleware(
            self._memory,
            owner=lambda _runtime: cast("str", self._session.owner),
            session_id=lambda _runtime: cast("str", self._session.id),
            budget=Budget(max_tokens=budget, completion=0),
        )
        return create_agent(self._model, [tool], system_prompt=SYSTEM, middleware=[middleware])

    def _answer(self) -> Message | str:
        return self._answers.pop(0) if self._answers else ANSWER


class LlamaIndex:
    """Says what histories ask through LlamaIndex."""

    def __init__(self, memory: Memory, look: Look) -> None:
        self._memory = memory
        self._model = llama_index_player(lambda request: look(request, []), lambda: ANSWER)

    def write(self, session: Session, messages: Sequence[Message]) -> None:
        """Keep what was said before, in LlamaIndex's own messages."""
        from llama_index.memory.langmem_plugin import from_core

        self._buffer(session, 1).put_messages([from_core(message) for message in messages])

    def engine(self, session: Session, budget: int) -> Callable[[Ask], None]:
        """A function that asks a chat engine, which takes text alone."""
        from llama_index.core.chat_engine import SimpleChatEngine

        buffer = self._buffer(session, budget)
        engine = SimpleChatEngine.from_defaults(llm=self._model, memory=buffer, system_prompt=SYSTEM)

        def say(ask: Ask) -> None:
            engine.chat(ask.message.text)

        return say

    def buffer(self, session: Session, budget: int) -> Callable[[Ask], None]:
        """A function that puts and gets as agents do, and asks the model itself."""
        from llama_index.memory.langmem_plugin import from_core

        buffer = self._buffer(session, budget, system=SYSTEM)

        def say(ask: Ask) -> None:
            buffer.put(from_core(ask.message))
            for step in ask.steps:
                self._model.chat(buffer.get())
                for message in step:
                    buffer.put(from_core(message))
            buffer.put(self._model.chat(buffer.get()).message)

        return say

    def _buffer(self, session: Session, budget: int, *, system: str = "") -> Any:
        from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer

        return HybridChatMemoryBuffer.from_defaults(
            memory=self._memory, owner=session.owner, session_id=session.id, token_limit=budget, system=system
        )


def as_text(ask: Ask) -> Ask:
    """The same for a way that takes text and knows no tools."""
    return Ask(message=user(ask.message.text))
