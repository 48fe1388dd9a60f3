"""A model that refuses long requests: the middleware and `with_memory` send smaller ones."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableGenerator, RunnableLambda

from langchain_langmem_plugin import HybridMemoryMiddleware, to_core, with_memory
from langmem_plugin.config import Budget
from langmem_plugin.messages import assistant
from langmem_plugin.testing.validity import problems


def thread(name="t1"):
    return {"configurable": {"thread_id": name, "session_id": name}}


def human(text):
    return {"messages": [HumanMessage(text)]}


class TooLong(ValueError):
    pass


def fill(session, turns=20):
    session.add("Never book a flight for me.", assistant("Noted."))
    for number in range(turns):
        session.add(f"Question {number}, with a few words more.", assistant(f"Answer {number}. " * 5))


def too_long(times):
    return [TooLong("This model's maximum context length is exceeded by your messages")] * times


@pytest.mark.parametrize("refusals", [1, 2, 3])
def test_the_middleware_sends_smaller_requests(memory, new_model, refusals):
    """G1, G2, G3: after up to three refusals the agent answers; each request is smaller, valid and constrained."""
    session = memory.session("t1", owner="ann")
    fill(session)
    model = new_model(*too_long(refusals), "Here you are.")
    agent = create_agent(
        model, tools=[], system_prompt="You help.", middleware=[HybridMemoryMiddleware(memory, owner="ann")]
    )
    assert agent.invoke(human("And now?"), thread())["messages"][-1].text == "Here you are."
    sizes = [memory.counter.count_request(list(map(to_core, request))) for request in model.requests]
    assert len(sizes) == refusals + 1
    assert sizes == sorted(set(sizes), reverse=True)
    for request in model.requests:
        assert not problems(list(map(to_core, request)))
        assert "Never book a flight for me." in request[0].text
        assert request[-1].text == "And now?"
    assert sum("as too long" in note for note in session.report.notes) == refusals
    assert [entry.message.text for entry in session.history()][-2:] == ["And now?", "Here you are."]


async def test_it_gives_up_after_four_requests(memory, new_model):
    """A model that refuses everything is asked four times; the caller gets the error, the question stays pending."""
    session = memory.session("t1", owner="ann")
    fill(session)
    model = new_model(*too_long(9))
    agent = create_agent(model, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann")])
    with pytest.raises(TooLong):
        await agent.ainvoke(human("And now?"), thread())
    assert len(model.requests) == 4
    assert [message.text for message in session.resume().messages] == ["And now?"]


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
async def test_with_memory_sends_smaller_requests(memory, new_model, how):
    """G1: a chat model's refusal is met by a smaller request, streamed or not; the turn is kept once."""
    session = memory.session("t1", owner="ann")
    fill(session)
    model = new_model(*too_long(2), "Here you are.")
    chat = with_memory(model, memory=memory, owner="ann", budget=Budget(max_tokens=2_000, completion=0))
    if how == "invoke":
        chat.invoke("And now?", thread())
    elif how == "ainvoke":
        await chat.ainvoke("And now?", thread())
    elif how == "stream":
        assert list(chat.stream("And now?", thread()))
    else:
        assert [chunk async for chunk in chat.astream("And now?", thread())]
    assert len(model.requests) == 3
    assert len(session.history()) == 44
    assert any("as too long" in note for note in session.report.notes)


def test_a_prompts_history_is_shortened(memory):
    """G1: with a prompt of the application's own, the history it is given becomes shorter."""
    fill(memory.session("t1", owner="ann"))
    lengths = []

    def answer(given):
        lengths.append(len(given["history"]))
        if len(lengths) < 3:
            raise TooLong("prompt is too long: 900 tokens > 800 maximum")
        return AIMessage("Fine.")

    chat = with_memory(
        RunnableLambda(answer), memory=memory, owner="ann", input_messages_key="input", history_messages_key="history"
    )
    assert chat.invoke({"input": "And now?"}, thread()).content == "Fine."
    assert lengths[0] > lengths[1] > lengths[2]


def test_other_errors_are_not_retried(memory, new_model):
    """A model that fails for another reason is asked once."""
    model = new_model(RuntimeError("rate limit reached, 429"))
    with pytest.raises(RuntimeError):
        with_memory(model, memory=memory, owner="ann").invoke("Hello", thread())
    assert len(model.requests) == 1


def test_a_graph_within_a_sequence_is_not_run_again(memory, new_model):
    """A graph may have run its tools by the time its model refuses: it runs once, wherever it stands."""
    session = memory.session("t1", owner="ann")
    fill(session)
    model = new_model(*too_long(1), "Here you are.")
    agent = create_agent(model, tools=[])
    for runnable in (
        agent,
        RunnableLambda(lambda given: given) | agent,
        agent.with_config(tags=["x"]) | RunnableLambda(str),
    ):
        model.requests.clear()
        model.script[:] = [*too_long(1), "Here you are."]
        chat = with_memory(runnable, memory=memory, owner="ann", input_messages_key="messages")
        with pytest.raises(TooLong):
            chat.invoke(human("And now?"), thread())
        assert len(model.requests) == 1
    assert len(session.history()) == 42


@pytest.mark.parametrize(
    ("facts", "partial"),
    [
        ({"model_provider": "openai"}, True),
        ({"model_provider": "openai", "finish_reason": "stop"}, False),
        ({"model_provider": "openai", "finish_reason": "length"}, False),
        ({}, False),
    ],
)
def test_a_stream_without_a_finish_reason_is_marked(memory, facts, partial):
    """G6: what ends in good order without saying why is kept, marked as partial, and the report says so."""

    def answer(_):
        yield AIMessageChunk("Half of an ")
        yield AIMessageChunk("answer", response_metadata=facts)

    chat = with_memory(RunnableGenerator(answer), memory=memory, owner="ann", session_id="s")
    assert "".join(chunk.text for chunk in chat.stream("Go on.")) == "Half of an answer"
    session = memory.session("s", owner="ann")
    last = session.history()[-1].message
    assert last.text == "Half of an answer"
    assert bool(last.metadata.get("partial")) is partial
    assert any("finish reason" in note for note in session.report.notes) is partial
