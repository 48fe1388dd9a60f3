"""The ways into LlamaIndex."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import matrix_kit as kit
from llama_index.core.agent.workflow import AgentStream, AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.tools import QueryEngineTool
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

from langmem_plugin import Memory
from langmem_plugin.messages import Message
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, to_core, with_constraints

fakes = kit.load(kit.FOLDER.parent / "llama_index_tests" / "conftest.py", "matrix_llama_index_fakes")
SYSTEM = "You are a sailor."


class Model(fakes.ScriptedLLM):  # type: ignore[misc, name-defined]
    """Answers from a script and takes its time between the parts of a stream."""

    pause: float = 0.0
    breaks: bool = False

    def _broken(self, messages: Any) -> Any:
        message = self._next(messages)
        if self.breaks:
            self.breaks = False
            return ChatMessage(role="assistant", content="!" + (message.content or ""))
        return message

    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        message = self._broken(messages)

        def parts() -> Iterator[Any]:
            for part in self._parts(message):
                time.sleep(self.pause)
                yield part

        return parts()

    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        message = self._broken(messages)

        async def parts() -> AsyncIterator[Any]:
            for part in self._parts(message):
                await asyncio.sleep(self.pause)
                yield part

        return parts()

    async def achat(self, messages: Any, **kwargs: Any) -> Any:
        answer = self.chat(messages)
        await asyncio.sleep(self.pause)
        return answer


def _buffer(memory: Memory, session_id: str) -> HybridChatMemoryBuffer:
    return HybridChatMemoryBuffer.from_defaults(memory=memory, session_id=session_id, owner="ann")


def _requests(model: Any) -> Callable[[], list[list[Message]]]:
    return lambda: [[to_core(message) for message in request] for request in model.requests]


def engine(name: str, build: Callable[[Any, Any], Any], **fields: Any) -> kit.Way:
    """A row for a chat engine."""

    def opened(
        memory: Memory, session_id: str, script: Sequence[Any], *, pause: float = 0.0, breaks: bool = False
    ) -> kit.Talk:
        model = Model(script=list(script), pause=pause, breaks=breaks)
        chat = build(model, _buffer(memory, session_id))

        def say(text: str) -> str:
            return str(chat.chat(text))

        async def asay(text: str) -> str:
            return str(await chat.achat(text))

        def stream(text: str) -> Iterator[str]:
            yield from chat.stream_chat(text).response_gen

        async def astream(text: str) -> AsyncIterator[str]:
            response = await chat.astream_chat(text)
            async for part in response.async_response_gen():
                yield part

        return kit.Talk(requests=_requests(model), asay=asay, say=say, stream=stream, astream=astream)

    return kit.Way(name=name, framework="LlamaIndex", open=opened, **fields)


def agent(name: str, build: Callable[[Any], Any], *, functions: bool = False, **fields: Any) -> kit.Way:
    """A row for an agent or a workflow of agents, which are async only."""

    def opened(
        memory: Memory, session_id: str, script: Sequence[Any], *, pause: float = 0.0, breaks: bool = False
    ) -> kit.Talk:
        model = Model(script=list(script), pause=pause, breaks=breaks, function_calling=functions)
        runner = build(model)
        buffer = _buffer(memory, session_id)

        async def asay(text: str) -> str:
            return str(await runner.run(user_msg=text, memory=buffer))

        async def astream(text: str) -> AsyncIterator[str]:
            handler = runner.run(user_msg=text, memory=buffer)
            async for event in handler.stream_events():
                if isinstance(event, AgentStream) and event.delta:
                    yield event.delta
            await handler

        return kit.Talk(requests=_requests(model), asay=asay, astream=astream)

    fields.setdefault("absent", {}).setdefault("sync and async", "Agents and workflows of LlamaIndex are async only.")
    return kit.Way(name=name, framework="LlamaIndex", open=opened, **fields)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def react(text: str) -> str:
    """An answer in the form that ReActAgent reads."""
    return f"Thought: I can answer.\nAnswer: {text}"


def _code(model: Any, prompt: str | None) -> CodeActAgent:
    return CodeActAgent(code_execute_fn=lambda code: code, llm=model, system_prompt=prompt)


def _handoff(model: Any) -> AgentWorkflow:
    """A first agent that always hands over; the second one answers."""

    class First(Model):
        def _next(self, messages: Any) -> Any:
            return fakes.tool_call("handoff", "h1", to_agent="two", reason="r")

    one = FunctionAgent(name="one", description="d", llm=First(), can_handoff_to=["two"])
    two = FunctionAgent(name="two", description="d", llm=model, tools=[add], can_handoff_to=[])
    return AgentWorkflow(agents=[one, two], root_agent="one")


def _query_tool(model: Any) -> FunctionAgent:
    """An agent with a query engine among its tools."""
    query_engine = RetrieverQueryEngine(
        retriever=fakes.FixedRetriever(),
        response_synthesizer=get_response_synthesizer(llm=Model(script=["at nine"] * 9)),
    )
    tool = QueryEngineTool.from_defaults(query_engine, name="shop", description="about the shop")
    return FunctionAgent(tools=[tool], llm=model, system_prompt=SYSTEM)


class ByHand(Workflow):
    """A workflow of one's own that puts and gets by itself."""

    def __init__(self, model: Any) -> None:
        super().__init__(timeout=20)
        self.model = model

    @step
    async def answer(self, event: StartEvent) -> StopEvent:
        await event.memory.aput(ChatMessage(role="user", content=event.user_msg))
        response = await self.model.achat(await event.memory.aget())
        await event.memory.aput(response.message)
        return StopEvent(result=response.message.content)


def _condense_question(model: Any, buffer: Any) -> CondenseQuestionChatEngine:
    """Its query engine sees no memory, so its LLM is given the constraints."""
    answering = get_response_synthesizer(llm=with_constraints(model, buffer), streaming=False)
    query_engine = RetrieverQueryEngine(retriever=fakes.FixedRetriever(), response_synthesizer=answering)

    class Condenser(Model):
        """Gives the question back as it is."""

        def _next(self, messages: Any) -> Any:
            text = messages[-1].content or ""
            line = [line for line in text.splitlines() if line.startswith("<Follow Up Message>")]
            return ChatMessage(
                role="assistant", content=text.split("<Follow Up Message>")[-1].split("<")[0].strip() or str(line)
            )

    return CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, llm=Condenser(), memory=buffer)


RETRIEVED = "The engine adds the retrieved text in a prompt of its own, which no memory can count: leave room for it."
FORMAT = "The agent adds its own instructions (tools, format, reasoning so far), which no memory can count: leave room."
ONE_QUESTION = (
    "Its query engine sees one question and no memory, so the answering model is sent no history: the engine's design. "
    "The conversation reaches the condensing model."
)


def _ways() -> list[kit.Way]:
    retriever = fakes.FixedRetriever()
    return [
        engine(
            "SimpleChatEngine",
            lambda model, memory: SimpleChatEngine.from_defaults(llm=model, memory=memory, system_prompt=SYSTEM),
        ),
        engine(
            "ContextChatEngine",
            lambda model, memory: ContextChatEngine.from_defaults(
                retriever=retriever, llm=model, memory=memory, system_prompt=SYSTEM
            ),
            extra=120,
            why_extra=RETRIEVED,
        ),
        engine(
            "CondensePlusContextChatEngine",
            lambda model, memory: CondensePlusContextChatEngine.from_defaults(
                retriever=retriever, llm=model, memory=memory, system_prompt=SYSTEM, skip_condense=True
            ),
            extra=120,
            why_extra=RETRIEVED,
        ),
        engine(
            "CondenseQuestionChatEngine, LLM with_constraints",
            _condense_question,
            history=False,
            why_no_history=ONE_QUESTION,
        ),
        agent("FunctionAgent", lambda model: FunctionAgent(tools=[add], llm=model), functions=True),
        agent(
            "FunctionAgent, system_prompt",
            lambda model: FunctionAgent(tools=[add], llm=model, system_prompt=SYSTEM),
            functions=True,
        ),
        agent(
            "ReActAgent", lambda model: ReActAgent(tools=[add], llm=model), answer=react, extra=600, why_extra=FORMAT
        ),
        agent(
            "ReActAgent, system_prompt",
            lambda model: ReActAgent(tools=[add], llm=model, system_prompt=SYSTEM),
            answer=react,
            extra=600,
            why_extra=FORMAT,
        ),
        agent("CodeActAgent", lambda model: _code(model, None), extra=600, why_extra=FORMAT),
        agent("CodeActAgent, system_prompt", lambda model: _code(model, SYSTEM), extra=600, why_extra=FORMAT),
        agent("AgentWorkflow with a handoff", _handoff, functions=True),
        agent("query engine as a tool", _query_tool, functions=True),
        agent("a Workflow by hand", ByHand, absent=kit.without_stream("This way gives its answer in one part.")),
    ]


WAYS = _ways()
