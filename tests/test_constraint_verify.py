"""The last look before the model: a request without an active constraint is not sent."""

from __future__ import annotations

import asyncio

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import wrap_model_call
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import SystemMessage
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM

from langchain_langmem_plugin import HybridMemoryMiddleware, VerifyConstraints
from langmem_plugin import Memory
from langmem_plugin.errors import ConstraintMissing
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, verified


@wrap_model_call
def forgetful(request, handler):
    """A middleware after ours that rewrites the system prompt."""
    return handler(request.override(system_message=SystemMessage("Be brief.")))


def test_the_text_of_a_request_is_verified():
    """An error names the ids that are missing and how many there are, and no text."""
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        session.verify_request("")
        session.add("Never use emojis. My name is Sam.")
        session.verify_request(session.context(system="Be kind.").system)
        with pytest.raises(ConstraintMissing, match="2 of 2") as caught:
            session.verify_request("Be kind.")
        assert caught.value.missing == tuple(one.id for one in session.constraints())
        assert "emojis" not in str(caught.value)


@pytest.mark.parametrize("broken", [False, True])
def test_langchain_requests_are_verified_at_the_model(broken):
    """What a later middleware drops is seen; a request in order passes."""
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        session.add("Never use emojis.")
        ours = HybridMemoryMiddleware(memory, owner="ann", session_id="s")
        agent = create_agent(FakeListChatModel(responses=["Yes."]), middleware=[ours, forgetful] if broken else [ours])
        said = {"messages": [{"role": "user", "content": "Hello?"}]}
        config = {"callbacks": [VerifyConstraints(lambda: memory.session("s", owner="ann"))]}
        if broken:
            with pytest.raises(ConstraintMissing):
                agent.invoke(said, config)
        else:
            assert agent.invoke(said, config)["messages"][-1].text == "Yes."


def test_llama_index_requests_are_verified_at_the_model():
    """Chat, its asynchronous form and completion pass with the constraints and fail without them."""
    with Memory.open() as memory:
        buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, owner="ann", session_id="s")
        buffer.session.add("Never use emojis.")
        llm = verified(MockLLM(), buffer)
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer, system_prompt="Be kind.")
        assert engine.chat("Hello?").response
        bare = [ChatMessage(role="system", content="Be kind."), ChatMessage(role="user", content="Hello?")]
        for call in (lambda: llm.chat(bare), lambda: llm.stream_chat(bare), lambda: llm.complete("Hello?")):
            with pytest.raises(ConstraintMissing):
                call()
        for make in (lambda: llm.achat(bare), lambda: llm.acomplete("Hello?"), lambda: llm.astream_chat(bare)):
            with pytest.raises(ConstraintMissing):
                asyncio.run(make())
