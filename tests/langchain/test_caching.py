"""Marks for Anthropic's prompt cache, and the bytes that they mark."""

from __future__ import annotations

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, SystemMessage

from langchain_langmem_plugin import HybridMemoryMiddleware
from langmem_plugin.config import Budget

MARK = {"type": "ephemeral"}


def texts(message):
    content = message.content
    return [content] if isinstance(content, str) else [block["text"] for block in content]


def marks(message):
    return [] if isinstance(message.content, str) else ["cache_control" in block for block in message.content]


def run(memory, model, turns, **options):
    agent = create_agent(
        model,
        tools=[],
        system_prompt=options.pop("system", "You help."),
        middleware=[
            HybridMemoryMiddleware(memory, owner="ann", budget=Budget(max_tokens=900, completion=100), **options)
        ],
    )
    for number in range(turns):
        said = "Never book a flight." if number == 0 else f"Question {number} " + "word " * 20
        agent.invoke({"messages": [HumanMessage(said)]}, {"configurable": {"thread_id": "t"}})
        memory.wait(5)


def test_marks_stand_at_the_stable_boundaries(memory, new_model):
    """G13: system prompt, constraints, window and newest message end with a mark; never more than four."""
    model = new_model()
    run(memory, model, 16, cache_control=MARK)
    for request in model.requests[2:]:
        assert texts(request[0])[0] == "You help."
        assert marks(request[0]) == [True, True]
        assert marks(request[-1])[-1:] == [True]
        assert marks(request[-2])[-1:] == [True]
        assert sum(sum(marks(message)) for message in request) == 4


def test_marks_change_no_text(memory, new_model):
    """G13: between two compressions each request begins with the bytes of the one before it, marked or not."""
    model, plain = new_model(), new_model()
    run(memory, model, 16, cache_control=MARK)
    stable = 0
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        before = ["".join(texts(message)) for message in earlier]
        after = ["".join(texts(message)) for message in later]
        stable += after[: len(before)] == before
    assert stable >= 12
    memory.session("t", owner="ann").clear()
    run(memory, plain, 16)
    assert all(isinstance(message.content, str) for request in plain.requests for message in request)
    marked = [["".join(texts(m)) for m in request[1:]] for request in model.requests]
    assert marked == [[m.content for m in request[1:]] for request in plain.requests]


def test_marks_of_the_developers_are_kept_and_counted(memory, new_model):
    """A system prompt with marks of its own keeps them, and the request has four at most."""
    model = new_model()
    blocks = [{"type": "text", "text": f"Part {n}.", "cache_control": MARK} for n in range(3)]
    run(memory, model, 6, cache_control=MARK, system=SystemMessage(content=blocks))
    for request in model.requests[2:]:
        assert request[0].content[:3] == blocks
        assert sum(sum(marks(message)) for message in request) == 4


def test_anthropics_client_sends_them(memory, new_model):
    """What langchain-anthropic would post has the marks on its blocks."""
    anthropic = pytest.importorskip("langchain_anthropic")
    model = new_model()
    run(memory, model, 4, cache_control=MARK)
    chat = anthropic.ChatAnthropic(model="claude-sonnet-4-5", api_key="none", max_tokens=10)
    payload = chat._get_request_payload(model.requests[-1])
    assert [block.get("cache_control") for block in payload["system"]] == [MARK, MARK]
    sent = [block.get("cache_control") for message in payload["messages"] for block in message["content"]
            if isinstance(block, dict)]  # fmt: skip
    assert sent.count(MARK) == 2
