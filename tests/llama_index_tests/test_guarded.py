"""`guarded`: an LLM that survives requests that are too long, and reports what they cost."""

from __future__ import annotations

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.chat_engine import SimpleChatEngine

from langmem_plugin.messages import Usage
from langmem_plugin.testing.validity import problems
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, guarded, to_core
from llama_index.memory.langmem_plugin.guarded import usage_of


class TooLong(ValueError):
    pass


def too_long(times):
    return [TooLong("Requested tokens (2712) exceed context window of 2048")] * times


@pytest.fixture
def buffer():
    filled = HybridChatMemoryBuffer.from_defaults(token_limit=2_000)
    filled.put(ChatMessage(role="user", content="Never book a flight for me."))
    filled.put(ChatMessage(role="assistant", content="Noted."))
    for number in range(20):
        filled.put(ChatMessage(role="user", content=f"Question {number}, with a few words more."))
        filled.put(ChatMessage(role="assistant", content=f"Answer {number}. " * 5))
    yield filled
    filled.memory.close()


@pytest.mark.parametrize("how", ["chat", "achat", "stream_chat", "astream_chat"])
async def test_a_chat_engine_gets_smaller_requests(buffer, scripted, how):
    """G1, G2: after two refusals the engine answers; the constraint and the question are in each request."""
    llm = scripted(*too_long(2), "Here you are.")
    engine = SimpleChatEngine.from_defaults(llm=guarded(llm, buffer), memory=buffer)
    if how == "chat":
        text = engine.chat("And now?").response
    elif how == "achat":
        text = (await engine.achat("And now?")).response
    elif how == "stream_chat":
        text = "".join(engine.stream_chat("And now?").response_gen)
    else:
        response = await engine.astream_chat("And now?")
        text = "".join([token async for token in response.async_response_gen()])
    assert text.strip() == "Here you are."
    sizes = [buffer.memory.counter.count_request(list(map(to_core, request))) for request in llm.requests]
    assert len(sizes) == 3
    assert sizes == sorted(set(sizes), reverse=True)
    for request in llm.requests:
        assert not problems(list(map(to_core, request)))
        assert "Never book a flight" in str(request[0].content)
        assert request[-1].content == "And now?"
    assert sum("as too long" in note for note in buffer.session.report.notes) == 2


async def test_an_agent_gets_smaller_requests(buffer, scripted):
    """G1: an agent's streamed call is sent again smaller; its run ends with the answer."""
    llm = scripted(*too_long(1), "Done.")
    agent = FunctionAgent(tools=[], llm=guarded(llm, buffer))
    result = await agent.run(user_msg="And now?", memory=buffer)
    assert "Done." in str(result)
    assert len(llm.requests) == 2


def test_it_gives_up_after_four_requests(buffer, scripted):
    """A model that refuses everything is asked four times."""
    llm = scripted(*too_long(9))
    with pytest.raises(TooLong):
        guarded(llm, buffer).chat(buffer.get("And now?"))
    assert len(llm.requests) <= 4


@pytest.mark.parametrize(
    "raw",
    [
        {"usage": {"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35}},
        {"usage": {"input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 5}},
        {"usage_metadata": {"prompt_token_count": 30, "candidates_token_count": 5}},
        {"prompt_eval_count": 30, "eval_count": 5},
    ],
)
def test_usage_is_read_in_every_form(raw):
    """The raw response of OpenAI, Anthropic, Gemini and Ollama gives the tokens of prompt and answer."""
    found = usage_of(ChatResponse(message=ChatMessage(role="assistant", content="x"), raw=raw))
    assert isinstance(found, Usage)
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (30, 5, 35)


def test_reported_usage_corrects_the_count(buffer, scripted):
    """G1: a provider that reports a fifth more makes later requests that much smaller."""

    class Reporting(type(scripted())):
        def chat(self, messages, **kwargs):
            response = super().chat(messages, **kwargs)
            counted = buffer.memory.counter.count_request(list(map(to_core, messages)))
            response.raw = {"usage": {"prompt_tokens": int(counted * 1.2), "completion_tokens": 1}}
            return response

    llm = Reporting()
    engine = SimpleChatEngine.from_defaults(llm=guarded(llm, buffer), memory=buffer)
    engine.chat("First?")
    (correction,) = buffer.memory.status()["corrections"].values()
    assert correction.ratio == pytest.approx(1.2, abs=0.02)
    engine.chat("Second?")
    assert any("kept free" in note for note in buffer.report.notes)
