"""The ways into LangChain and LangGraph."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import matrix_kit as kit
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import ContextEditingMiddleware, SummarizationMiddleware
from langchain_classic.chains import ConversationChain
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from langchain_langmem_plugin import (
    HybridChainMemory,
    HybridChatMessageHistory,
    HybridMemoryMiddleware,
    from_core,
    to_core,
    with_memory,
)
from langmem_plugin import Budget, Memory
from langmem_plugin.messages import Message

RecordingModel = kit.load(kit.FOLDER.parent / "langchain" / "conftest.py", "matrix_langchain_fakes").RecordingModel
SYSTEM = "You are a sailor."


class Model(RecordingModel):
    """Records, and takes its time between the parts of a stream."""

    pause: float = 0.0

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        result = self._generate(messages)
        await asyncio.sleep(self.pause)
        return result

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for part in RecordingModel._stream(self, messages):
            await asyncio.sleep(self.pause)
            yield part

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for part in RecordingModel._stream(self, messages):
            time.sleep(self.pause)
            yield part


Build = Callable[[BaseChatModel, Memory, str], Runnable[Any, Any]]


def way(name: str, build: Build, give: Callable[[str], Any], *, agent: bool = False, **fields: Any) -> kit.Way:
    """A row for anything that is a runnable; the session's id is the config's."""

    def opened(
        memory: Memory, session_id: str, script: Sequence[Any], *, pause: float = 0.0, breaks: bool = False
    ) -> kit.Talk:
        model = Model(script=list(script), pause=pause, break_after=1 if breaks else None)
        runnable = build(model, memory, session_id)
        config = {"configurable": {"thread_id": session_id, "session_id": session_id}}

        def plain(output: Any) -> str:
            model.break_after = None
            return _text(output)

        def say(text: str) -> str:
            return plain(runnable.invoke(give(text), config))

        async def asay(text: str) -> str:
            model.break_after = None
            return plain(await runnable.ainvoke(give(text), config))

        def stream(text: str) -> Iterator[str]:
            if agent:
                yield from (_text(part) for part, _ in runnable.stream(give(text), config, stream_mode="messages"))
            else:
                yield from map(_text, runnable.stream(give(text), config))

        async def astream(text: str) -> AsyncIterator[str]:
            parts = runnable.astream(give(text), config, **({"stream_mode": "messages"} if agent else {}))
            try:
                async for part in parts:
                    yield _text(part[0] if agent else part)
            finally:
                await parts.aclose()

        def requests() -> list[list[Message]]:
            return [[to_core(message) for message in request] for request in model.requests]

        return kit.Talk(requests=requests, asay=asay, say=say, stream=stream, astream=astream)

    return kit.Way(name=name, framework="LangChain", open=opened, **fields)


def _text(output: Any) -> str:
    if isinstance(output, dict):
        output = output["messages"][-1] if "messages" in output else output.get("response", output.get("answer"))
    return output if isinstance(output, str) else str(output.text) if isinstance(output, BaseMessage) else ""


def _messages(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def _mine(memory: Memory, **options: Any) -> HybridMemoryMiddleware:
    return HybridMemoryMiddleware(memory, owner="ann", **options)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def _agent(first: bool | None) -> Build:
    def build(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
        built_in = [
            SummarizationMiddleware(Model(script=["a summary"] * 9), trigger=("messages", 6), keep=("messages", 4)),
            ContextEditingMiddleware(),
        ]
        mine = _mine(memory)
        stack = [mine] if first is None else [mine, *built_in] if first else [*built_in, mine]
        return create_agent(model, tools=[], system_prompt=SYSTEM, middleware=stack, checkpointer=InMemorySaver())

    return build


def _history(memory: Memory) -> Callable[[str], HybridChatMessageHistory]:
    # The prompt and the question come on top of a history: room is left for them.
    room = Budget(max_tokens=900, completion=150)
    return lambda session_id: HybridChatMessageHistory(session_id, memory=memory, owner="ann", budget=room)


PROMPT = ChatPromptTemplate.from_messages([MessagesPlaceholder("history"), ("human", "{question}")])
SYSTEM_PROMPT = ChatPromptTemplate.from_messages(
    [("system", SYSTEM), MessagesPlaceholder("history"), ("human", "{question}")]
)


def _by_hand(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
    """A turn of the session around a plain prompt | model."""
    chain = ChatPromptTemplate.from_messages([MessagesPlaceholder("request")]) | model
    session = memory.session(session_id, owner="ann")

    def answer(question: str) -> AIMessage:
        with session.begin(question) as turn:
            reply: AIMessage = chain.invoke({"request": [from_core(m) for m in turn.context(system=SYSTEM).messages]})
            turn.append(to_core(reply))
        return reply

    async def aanswer(question: str) -> AIMessage:
        with session.begin(question) as turn:
            request = [from_core(message) for message in turn.context(system=SYSTEM).messages]
            reply: AIMessage = await chain.ainvoke({"request": request})
            turn.append(to_core(reply))
        return reply

    return RunnableLambda(answer, afunc=aanswer)


def _graph(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
    remembering = with_memory(model, memory=memory, owner="ann", session_id=session_id, system=SYSTEM)

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [remembering.invoke(state["messages"][-1:])]}

    async def anode(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await remembering.ainvoke(state["messages"][-1:])]}

    graph = StateGraph(MessagesState)
    graph.add_node("talk", RunnableLambda(node, afunc=anode))
    graph.add_edge(START, "talk")
    return graph.compile(checkpointer=InMemorySaver())


def _sub_agent(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
    """A head that hands each question to an agent with a memory of its own, through a tool."""
    inner = create_agent(model, tools=[], system_prompt=SYSTEM, middleware=[_mine(memory, session_id=session_id)])

    @tool
    async def sailor(question: str) -> str:
        """Ask the sailor."""
        return str((await inner.ainvoke(_messages(question)))["messages"][-1].text)

    async def ask(state: dict[str, Any]) -> dict[str, Any]:
        question = state["messages"][-1].text
        call = {"name": "sailor", "args": {"question": question}, "id": "c1"}
        head = Model(script=[AIMessage("", tool_calls=[call]), "done"])
        own = create_agent(head, tools=[sailor], middleware=[_mine(memory, session_id=f"{session_id}-head")])
        state = await own.ainvoke(_messages(question))
        return {"messages": [state["messages"][-2]]}  # the sub-agent's answer

    return RunnableLambda(lambda state: asyncio.run(ask(state)), afunc=ask)


def _classic(as_messages: bool) -> Build:
    def build(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
        prompt = PROMPT if as_messages else PromptTemplate.from_template("{history}\nHuman: {question}\nAI:")
        return ConversationChain(
            llm=model,
            prompt=prompt,
            input_key="question",
            memory=HybridChainMemory(
                memory,
                owner="ann",
                session_id=session_id,
                input_key="question",
                return_messages=as_messages,
                budget=Budget(max_tokens=900, completion=150),
            ),
        )

    return build


def _deep(model: BaseChatModel, memory: Memory, session_id: str) -> Runnable[Any, Any]:
    return create_deep_agent(model, system_prompt=SYSTEM, middleware=[_mine(memory, budget=DEEP)])


DEEP = Budget(max_tokens=20_000, completion=100, constraints=700, summary=100, recall=200, recall_max=600)
"""Its own prompt and its tools take some thousand tokens."""

LARGE = "Measured with a budget of 20,000 tokens: its own prompt and tools alone take some thousand."
ONE_PART = "This way gives its answer in one part."


def _ways() -> list[kit.Way]:
    return [
        way("create_agent, middleware alone", _agent(None), _messages, agent=True),
        way("create_agent, before summarising and clearing middleware", _agent(True), _messages, agent=True),
        way("create_agent, after summarising and clearing middleware", _agent(False), _messages, agent=True),
        way(
            "RunnableWithMessageHistory, list of messages",
            lambda model, memory, _: RunnableWithMessageHistory(model, _history(memory)),
            lambda text: [HumanMessage(text)],
        ),
        way(
            "RunnableWithMessageHistory, input key",
            lambda model, memory, _: RunnableWithMessageHistory(
                RunnableLambda(lambda seen: seen["messages"]) | model, _history(memory), input_messages_key="messages"
            ),
            _messages,
        ),
        way(
            "RunnableWithMessageHistory, input and history keys",
            lambda model, memory, _: RunnableWithMessageHistory(
                PROMPT | model, _history(memory), input_messages_key="question", history_messages_key="history"
            ),
            lambda text: {"question": text},
        ),
        way(
            "RunnableWithMessageHistory, output key",
            lambda model, memory, _: RunnableWithMessageHistory(
                PROMPT | model | RunnableLambda(lambda answer: {"answer": answer}),
                _history(memory),
                input_messages_key="question",
                history_messages_key="history",
                output_messages_key="answer",
            ),
            lambda text: {"question": text},
        ),
        way(
            "with_memory(chat model)",
            lambda model, memory, _: with_memory(model, memory=memory, owner="ann", system=SYSTEM),
            lambda text: text,
        ),
        way(
            "with_memory(prompt | model)",
            lambda model, memory, _: with_memory(
                SYSTEM_PROMPT | model,
                memory=memory,
                owner="ann",
                input_messages_key="question",
                history_messages_key="history",
            ),
            lambda text: {"question": text},
        ),
        way("prompt | model, a turn by hand", _by_hand, lambda text: text, absent=kit.without_stream(ONE_PART)),
        way("StateGraph node with a checkpointer", _graph, _messages, agent=True),
        way("sub-agent behind a tool", _sub_agent, _messages, absent=kit.without_stream(ONE_PART)),
        way(
            "langchain_classic ConversationChain, text",
            _classic(False),
            lambda text: {"question": text},
            absent=kit.without_stream(ONE_PART),
        ),
        way(
            "langchain_classic ConversationChain, messages",
            _classic(True),
            lambda text: {"question": text},
            absent=kit.without_stream(ONE_PART),
        ),
        way("deepagents", _deep, _messages, agent=True, extra=DEEP.prompt - kit.CONFIG.budget.prompt, why_extra=LARGE),
    ]


WAYS = _ways()
