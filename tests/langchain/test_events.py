"""The memory's numbers reach LangChain's callbacks while a run is active."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda

from langchain_langmem_plugin import REQUEST_EVENT, HybridMemoryMiddleware, with_memory

THREAD = {"configurable": {"thread_id": "t"}}


class Listener(BaseCallbackHandler):
    """Keeps every custom event."""

    def __init__(self):
        self.told = []

    def on_custom_event(self, name, data, *, run_id, tags=None, metadata=None, **kwargs):
        self.told.append((name, data))


class AsyncListener(AsyncCallbackHandler):
    """Keeps every custom event, in async code."""

    def __init__(self):
        self.told = []

    async def on_custom_event(self, name, data, *, run_id, tags=None, metadata=None, **kwargs):
        self.told.append((name, data))


def checked(told, session):
    (event,) = told
    assert event == (REQUEST_EVENT, session.report.numbers())
    assert event[1]["tokens_used"] > 0
    assert "noon" not in str(event)


@pytest.mark.parametrize("kind", [Listener, AsyncListener])
async def test_an_agents_callbacks_are_told(memory, model, kind):
    """One event a request with the report's numbers and no text, sync and async."""
    agent = create_agent(model, middleware=[HybridMemoryMiddleware(memory, owner="ann")])
    listener = kind()
    await agent.ainvoke({"messages": "Never call me before noon."}, {**THREAD, "callbacks": [listener]})
    checked(listener.told, memory.session("t", owner="ann"))
    if kind is Listener:
        listener.told.clear()
        agent.invoke({"messages": "And now?"}, {**THREAD, "callbacks": [listener]})
        checked(listener.told, memory.session("t", owner="ann"))


async def test_an_event_stream_holds_it(memory, model):
    """`astream_events` of an agent shows the event among the others."""
    agent = create_agent(model, middleware=[HybridMemoryMiddleware(memory, owner="ann")])
    seen = [e async for e in agent.astream_events({"messages": "Hello"}, THREAD, version="v2")]
    assert [e["data"]["budget"] for e in seen if e["event"] == "on_custom_event" and e["name"] == REQUEST_EVENT]


async def test_with_memory_within_a_run(memory, model):
    """Inside a chain the event belongs to the chain's run; alone, with no run, there is none."""
    bot = with_memory(model, memory=memory, owner="ann", session_id="t")
    chain = RunnableLambda(bot.invoke)
    listener = Listener()
    chain.invoke("Never call me before noon.", {"callbacks": [listener]})
    checked(listener.told, memory.session("t", owner="ann"))
    listener.told.clear()

    async def asked(said, config):
        return [chunk async for chunk in bot.astream(said, config)][-1]

    await RunnableLambda(asked).ainvoke("Hello", {"callbacks": [listener]})
    checked(listener.told, memory.session("t", owner="ann"))
    listener.told.clear()
    bot.invoke("Hello", {"callbacks": [listener]})
    assert [e async for e in bot.astream_events("Hello", version="v2")]
    assert listener.told == []
