"""Requests that a provider refuses as too long: recognised, and made smaller step by step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin import Budget, Memory
from langmem_plugin.context.smaller import ATTEMPTS, Shrinking
from langmem_plugin.messages import ToolCall, assistant, system, tool_result, user
from langmem_plugin.overflow import Overflow, overflow_of
from langmem_plugin.testing.validity import problems
from langmem_plugin.tokens import TokenCounter

TOO_LONG = {
    "OpenAI": (
        (
            "Error code: 400 - {'error': {'message': \"This model's maximum context length is 8192 tokens. However, "
            "your messages resulted in 9100 tokens. Please reduce the length of the messages.\", 'type': "
            "'invalid_request_error', 'param': 'messages', 'code': 'context_length_exceeded'}}"
        ),
        Overflow(9100, 8192),
    ),
    "OpenAI responses": ("Your input exceeds the context window of this model. Please adjust it.", Overflow()),
    "vLLM": (
        (
            "This model's maximum context length is 16384 tokens. However, you requested 122946 tokens (112946 in the "
            "messages, 10000 in the completion). Please reduce the length of the messages or completion."
        ),
        Overflow(122946, 16384),
    ),
    "vLLM prompt": (
        "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
        Overflow(25938, 4096),
    ),
    "Anthropic": ("prompt is too long: 203,456 tokens > 200,000 maximum", Overflow(203456, 200000)),
    "Anthropic with max_tokens": (
        "input length and `max_tokens` exceed context limit: 174167 + 64000 > 200000, decrease input length",
        Overflow(174167, 200000),
    ),
    "llama.cpp": (
        (
            "{'error': {'code': 400, 'message': 'the request exceeds the available context size, try increasing it', "
            "'type': 'exceed_context_size_error', 'n_prompt_tokens': 5012, 'n_ctx': 4096}}"
        ),
        Overflow(5012, 4096),
    ),
    "llama.cpp, newer": (
        "request (5012 tokens) exceeds the available context size (4096 tokens)",
        Overflow(5012, 4096),
    ),
    "llama-cpp-python": ("Requested tokens (2712) exceed context window of 2048", Overflow(2712, 2048)),
    "Ollama": ("ollama error: context length exceeded", Overflow()),
    "Ollama input": ("the input length exceeds the context length", Overflow()),
    "Gemini": (
        "400 The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        Overflow(None, 1048576),
    ),
    "xAI": (
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        Overflow(537812, 131072),
    ),
    "Groq": ("Please reduce the length of the messages or completion.", Overflow()),
    "LM Studio": ("the number of tokens to keep is greater than the context length", Overflow()),
    "Bedrock": ("ValidationException: Input is too long for requested model.", Overflow()),
    "TGI": ("`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens", Overflow()),
}
NOT_TOO_LONG = (
    "Rate limit reached: Limit 30000, Requested 31000 tokens per min (TPM). Please reduce the length of the messages.",
    "max_tokens is too large: 5000. This model supports at most 4096 completion tokens",
    "You exceeded your current quota, please check your plan",
    "Error code: 500 - internal server error",
    "Connection refused",
    "the file name is too long",
    "",
)


@pytest.mark.parametrize("name", TOO_LONG)
def test_every_providers_form_is_recognised(name):
    """A context-length error of each provider is told, with its numbers where it gives them."""
    text, wanted = TOO_LONG[name]
    assert overflow_of(ValueError(text)) == wanted


@pytest.mark.parametrize("text", NOT_TOO_LONG)
def test_other_errors_are_not_taken_for_it(text):
    """Rate limits, quotas, limits of the answer and failures are no overflow."""
    assert overflow_of(RuntimeError(text)) is None


def test_it_is_found_in_causes_classes_and_codes():
    """G1: wrapped errors, LangChain's class and a code in the body are recognised."""
    from langchain_core.exceptions import ContextOverflowError

    class Refused(Exception):
        code = "context_length_exceeded"

    class WithBody(Exception):
        body = {"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 5, "n_ctx": 4}}  # noqa: RUF012

    outer = RuntimeError("the call failed")
    outer.__cause__ = ValueError("prompt is too long: 12 tokens > 10 maximum")
    assert overflow_of(outer) == Overflow(12, 10)
    assert overflow_of(ContextOverflowError("no")) == Overflow()
    assert overflow_of(Refused("no")) == Overflow()
    assert overflow_of(WithBody("no")) == Overflow(5, 4)
    assert overflow_of(ExceptionGroup("several", [ValueError("context length exceeded")])) == Overflow()


def _request(turns, *, loop=0, result=200):
    request = [system("You help.\n<user_constraints>\nNever fly.\n</user_constraints>")]
    request += [user("<conversation_summary>\nLong ago.\n</conversation_summary>"), assistant("Noted.")]
    for number in range(turns):
        request += [user(f"Question {number} about the trip. " * 4), assistant(f"Answer {number}. " * 8)]
    request.append(user("<recalled_messages>\n#1 user: long ago\n</recalled_messages>\n\nWhat is the task now?"))
    for number in range(loop):
        call = ToolCall(id=f"c{number}", name="look", arguments="{}")
        request += [assistant("", call), tool_result(f"row {number} " * result, call_id=f"c{number}")]
    return request


@given(
    turns=st.integers(0, 12),
    loop=st.integers(0, 12),
    numbers=st.sampled_from([(None, None), (5000, 4000), (5000, 100), (3, 9)]),
)
def test_each_request_is_smaller_valid_and_keeps_what_may_not_be_lost(turns, loop, numbers):
    """G1, G2, G3: at most four requests; system prompt, constraints and task in each; pairs whole."""
    counter = TokenCounter.for_model("gpt-4o")
    request = _request(turns, loop=loop, result=20)
    shrinking = Shrinking(request, counter=counter)
    sizes = [counter.count_request(request)]
    while (smaller := shrinking.next(requested=numbers[0], limit=numbers[1])) is not None:
        sizes.append(counter.count_request(smaller))
        assert smaller[0] == request[0]
        assert any("What is the task now?" in message.text for message in smaller)
        assert not problems(smaller)
        assert not any("<recalled_messages>" in message.text for message in smaller)
    assert len(sizes) <= ATTEMPTS
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert len(shrinking.notes) == len(sizes) - 1


def test_the_provider_limit_skips_steps_that_would_be_refused_again():
    """A limit far below the request leads to the new message at once."""
    counter = TokenCounter.for_model("gpt-4o")
    request = _request(20)
    size = counter.count_request(request)
    (first, *_) = [Shrinking(request, counter=counter).next(requested=size, limit=120)]
    assert first is not None
    assert [message.role.value for message in first] == ["system", "user"]


def test_a_long_tool_loop_keeps_its_task_and_its_pairs():
    """G1, G3: one question and 300 tool results fit a budget of 2,000 tokens at every step; old results are cut."""
    budget = Budget(max_tokens=2_000, completion=0)
    with Memory.open() as memory:
        turn = memory.session("s", owner="ann").begin("The task: find the cheapest train to Lyon.")
        for number in range(300):
            call = ToolCall(id=f"c{number}", name="search", arguments="{}")
            turn.append(assistant("", call), tool_result(f"row {number}: " + "data " * 60, call_id=f"c{number}"))
            if number % 7 and number < 290:
                continue
            context = turn.context(system="You help.", budget=budget)
            assert memory.counter.count_request(context.messages) <= 2_000
            assert not problems(context.messages)
            assert any("cheapest train to Lyon" in message.text for message in context.messages)
            assert f"row {number}:" in context.messages[-1].text
        assert any("left out" in cut for cut in context.report.cut)
        turn.abort()
