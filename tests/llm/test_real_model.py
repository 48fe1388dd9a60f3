"""Long conversations with SmolLM2-135M behind an OpenAI-style server, through both frameworks."""

from __future__ import annotations

import os

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.llms.openai_like import OpenAILike

from langchain_langmem_plugin import HybridMemoryMiddleware, with_memory
from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.messages import Role, assistant
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, guarded

pytestmark = pytest.mark.filterwarnings("default")

TURNS = int(os.environ.get("LANGMEM_LLM_TURNS", "200"))
CONTEXT = 2_048
"""As the server is started, in conftest.py."""
ANSWER = 24
RULE = "Never mention the sea."
CONFIG = MemoryConfig(budget=Budget(max_tokens=CONTEXT, completion=2 * ANSWER))
TOPICS = ("bread", "trains", "the garden", "a letter", "the old clock", "paper boats", "snow", "a violin")


def question(number):
    if number == 0:
        return RULE
    return f"Message {number}: what do you know about {TOPICS[number % len(TOPICS)]} number {number}?"


@pytest.fixture
def memory(tmp_path, counter):
    with Memory.open(f"sqlite:///{tmp_path / 'memory.db'}", config=CONFIG, model=counter) as opened:
        yield opened


def chat_openai(proxy, timeout):
    # The server knows max_tokens only; the class would send max_completion_tokens.
    return ChatOpenAI(
        base_url=proxy.url, api_key="none", model="smollm2", max_retries=0, timeout=timeout, temperature=0,
        extra_body={"max_tokens": ANSWER},
    )  # fmt: skip


@pytest.fixture
def patient_model(proxy):
    return chat_openai(proxy, 300)


@pytest.fixture
def llm(proxy):
    return OpenAILike(
        api_base=proxy.url, api_key="none", model="smollm2", max_tokens=ANSWER, max_retries=0, timeout=120,
        temperature=0, is_chat_model=True, is_function_calling_model=True, context_window=CONTEXT,
    )  # fmt: skip


def said(session):
    return [entry.message.text for entry in session.history() if entry.message.role is Role.USER]


def tell(name, counted, proxy):
    """A line every twenty turns, so that a run that is ended early has said something."""
    if len(counted) % 20 == 0 and len(counted) == len(proxy.prompts):
        errors = [100 * (ours - theirs) / theirs for ours, theirs in zip(counted, proxy.prompts, strict=True)]
        lost = sum(RULE not in str(request["messages"][0]["content"]) for request in proxy.requests[1:])
        print(
            f"\n{name}, {len(counted)} turns: prompt_tokens at most {max(proxy.prompts)}, "
            f"{sum(one > CONTEXT - 2 * ANSWER for one in proxy.prompts)} over, {lost} without the rule, "
            f"our count {min(errors):+.1f} % to {max(errors):+.1f} %, median {sorted(errors)[len(errors) // 2]:+.1f} %",
            flush=True,
        )


def judge(name, counted, prompts, proxy):
    """Print our count beside the server's, and hold what the suite promises."""
    assert len(counted) == len(prompts)
    errors = [(ours - theirs) / theirs for ours, theirs in zip(counted, prompts, strict=True)]
    over = sum(theirs > CONTEXT - 2 * ANSWER for theirs in prompts)
    print(
        f"\n{name}: {len(prompts)} requests, server's prompt_tokens at most {max(prompts)} of {CONTEXT}, {over} over; "
        f"our count {100 * min(errors):+.1f} % to {100 * max(errors):+.1f} % of it"
    )
    assert over == 0
    assert min(errors) >= 0
    for request in proxy.requests[1:]:
        assert request["messages"][0]["role"] == "system"
        assert RULE in str(request["messages"][0]["content"])


def test_a_langchain_agent_for_two_hundred_turns(memory, proxy, patient_model):
    """G1, G2: every prompt of an agent is within the context by the server's own count, and has the constraint."""
    agent = create_agent(patient_model, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann")])
    session = memory.session("long", owner="ann")
    counted = []
    for number in range(TURNS):
        agent.invoke({"messages": [HumanMessage(question(number))]}, {"configurable": {"thread_id": "long"}})
        counted.append(session.report.tokens_used)
        tell("LangChain agent", counted, proxy)
    judge("LangChain agent", counted, proxy.prompts, proxy)
    assert said(session) == [question(number) for number in range(TURNS)]


def test_a_llama_index_chat_engine_for_two_hundred_turns(memory, proxy, llm):
    """G1, G2: the same through a chat engine."""
    buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, session_id="long", owner="ann")
    engine = SimpleChatEngine.from_defaults(llm=guarded(llm, buffer), memory=buffer)
    counted = []
    for number in range(TURNS):
        engine.chat(question(number))
        counted.append(buffer.report.tokens_used)
        tell("LlamaIndex chat engine", counted, proxy)
    judge("LlamaIndex chat engine", counted, proxy.prompts, proxy)
    assert said(buffer.session) == [question(number) for number in range(TURNS)]


async def test_streams_and_an_agent_of_llama_index(memory, proxy, llm, patient_model):
    """G6: streamed answers are kept whole, in both frameworks, and a workflow's agent answers."""
    chat = with_memory(patient_model, memory=memory, owner="ann", session_id="a")
    told = "".join([chunk.text async for chunk in chat.astream(question(0))])
    assert memory.session("a", owner="ann").history()[-1].message.text == told
    buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, session_id="b", owner="ann")
    engine = SimpleChatEngine.from_defaults(llm=guarded(llm, buffer), memory=buffer)
    told = "".join(engine.stream_chat(question(0)).response_gen)
    assert buffer.session.history()[-1].message.text.strip() == told.strip()
    agent = FunctionAgent(tools=[], llm=llm, streaming=False)
    await agent.run(user_msg=question(1), memory=buffer)
    assert said(buffer.session) == [question(0), question(1)]


@pytest.mark.parametrize("fault", ["429", "500", "garbage", "stall", "kill"])
def test_a_failing_server_loses_no_turn(memory, proxy, server, patient_model, fault):
    """G5, G6: refused, broken, stalled, killed: the question is pending, and a retry leaves it once with its answer."""
    middleware = HybridMemoryMiddleware(memory, owner="ann")
    agent = create_agent(patient_model, tools=[], middleware=[middleware])
    hasty = create_agent(chat_openai(proxy, 10), tools=[], middleware=[middleware])
    session, config = memory.session(fault, owner="ann"), {"configurable": {"thread_id": fault}}
    agent.invoke({"messages": [HumanMessage(question(0))]}, config)
    if fault == "kill":
        server.kill()
    else:
        proxy.fault = fault
    with pytest.raises(Exception):  # noqa: B017 - each fault has a class of its own
        hasty.invoke({"messages": [HumanMessage(question(1))]}, config)
    assert said(session) == [question(0)]
    assert [message.text for message in session.resume().messages] == [question(1)]
    if fault == "kill":
        server.start()
    agent.invoke({"messages": [HumanMessage(question(1))]}, config)
    assert [entry.message.role.value for entry in session.history()] == ["user", "assistant"] * 2
    assert said(session) == [question(0), question(1)]


@pytest.mark.parametrize("pieces", range(0, 12, 2))
def test_a_dropped_stream_leaves_no_half_turn(memory, proxy, patient_model, llm, pieces):
    """G6: a stream that is dropped at any piece leaves nothing of its answer, in both frameworks."""
    chat = with_memory(patient_model, memory=memory, owner="ann", session_id="a")
    session = memory.session("a", owner="ann")
    proxy.fault = f"drop{pieces}"
    with pytest.raises(Exception):  # noqa: B017
        list(chat.stream(question(1)))
    assert session.history() == []
    assert session.resume() is None
    list(chat.stream(question(1)))
    assert said(session) == [question(1)]
    buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, session_id="b", owner="ann")
    buffer.put(ChatMessage(role="user", content=question(1)))
    proxy.fault = f"drop{pieces}"
    with pytest.raises(Exception):  # noqa: B017
        list(guarded(llm, buffer).stream_chat(buffer.get()))
    assert buffer.session.history() == []
    assert [message.text for message in buffer.session.resume().messages] == [question(1)]


def test_a_request_beyond_the_context_is_survived(tmp_path, counter, proxy, patient_model):
    """G1: a budget larger than the model's context: the server refuses, a smaller request is answered."""
    config = MemoryConfig(budget=Budget(max_tokens=3 * CONTEXT, completion=ANSWER))
    with Memory.open(f"sqlite:///{tmp_path / 'large.db'}", config=config, model=counter) as memory:
        session = memory.session("large", owner="ann")
        for number in range(30):
            session.add(question(number), assistant("Yes, and more than that. " * 12))
        agent = create_agent(patient_model, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann")])
        agent.invoke({"messages": [HumanMessage(question(70))]}, {"configurable": {"thread_id": "large"}})
        assert any("as too long" in note for note in session.report.notes)
        assert session.history()[-1].message.role is Role.ASSISTANT
        assert proxy.prompts[-1] <= CONTEXT
