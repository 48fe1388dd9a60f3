"""What a session's request becomes as the payload of OpenAI, Anthropic and Gemini, built without sending it."""

from __future__ import annotations

import json

import pytest

from langmem_plugin import Memory, Message, Role
from langmem_plugin.messages import Media, Text, ToolCall, assistant, tool_result

RULE = "Never call me before noon."
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
pytestmark = pytest.mark.filterwarnings("ignore")  # of the providers' own packages, while they are imported


@pytest.fixture
def request_messages():
    """A request with a rule, parallel tool calls, a lost one, an image and a question."""
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        session.add(RULE, assistant("Noted."))
        calls = [ToolCall(id=f"call_{n}", name="add", arguments=f'{{"a": 1, "b": {n}}}') for n in range(2)]
        session.add(
            "Add.",
            assistant("", *calls),
            *(tool_result(str(n), call_id=c.id) for n, c in enumerate(calls)),
            assistant("1"),
        )
        session.add("Once more.", assistant("", ToolCall(id="call_lost", name="add", arguments='{"a": 2, "b": 2}')))
        image = Message(
            role=Role.USER, blocks=(Text("What is this?"), Media(kind="image", data=PIXEL, mime_type="image/png"))
        )
        session.add(image, assistant("A pixel."))
        yield session.context("And now?", system="You are a sailor.").messages


def langchain_openai(messages):
    model = pytest.importorskip("langchain_openai").ChatOpenAI(model="gpt-4o", api_key="x")
    payload = model._get_request_payload(messages)["messages"]
    system = [m["content"] for m in payload if m["role"] == "system"]
    calls = [c["id"] for m in payload for c in m.get("tool_calls") or ()]
    results = [m["tool_call_id"] for m in payload if m["role"] == "tool"]
    return system, calls, results, payload


def langchain_anthropic(messages):
    model = pytest.importorskip("langchain_anthropic").ChatAnthropic(model="claude-sonnet-4-5", api_key="x")
    payload = model._get_request_payload(messages)
    return [payload["system"]], *anthropic_pairs(payload["messages"]), payload["messages"]


def langchain_gemini(messages):
    package = pytest.importorskip("langchain_google_genai")
    model = package.ChatGoogleGenerativeAI(model="gemini-2.5-flash", google_api_key="x")
    payload = model._prepare_request(messages)
    config = payload.get("config") or payload
    instruction = getattr(config, "system_instruction", None) or payload.get("system_instruction")
    system = [part.text for part in instruction.parts]
    return system, *gemini_pairs(payload["contents"]), payload["contents"]


def llama_index_openai(messages):
    utils = pytest.importorskip("llama_index.llms.openai.utils")
    payload = utils.to_openai_message_dicts(messages, model="gpt-4o")
    system = [m["content"] for m in payload if m["role"] in ("system", "developer")]
    calls = [c["id"] for m in payload for c in m.get("tool_calls") or ()]
    results = [m["tool_call_id"] for m in payload if m["role"] == "tool"]
    return system, calls, results, payload


def llama_index_anthropic(messages):
    utils = pytest.importorskip("llama_index.llms.anthropic.utils")
    try:
        payload, system = utils.messages_to_anthropic_messages(messages)
    except TypeError as error:
        if "typing.Union" not in str(error):
            raise
        pytest.skip("this llama-index-llms-anthropic does not run with the anthropic package that is installed")
    return [system], *anthropic_pairs(payload), payload


async def llama_index_gemini(messages):
    utils = pytest.importorskip("llama_index.llms.google_genai.utils")
    newest, params, _ = await utils.prepare_chat_params("gemini-2.5-flash", messages, file_mode="inline")
    config = params["config"]
    system = config["system_instruction"] if isinstance(config, dict) else config.system_instruction
    contents = [*params["history"], newest]
    return [system if isinstance(system, str) else str(system)], *gemini_pairs(contents), contents


def anthropic_pairs(payload):
    blocks = [b for m in payload if isinstance(m["content"], list) for b in m["content"] if isinstance(b, dict)]
    calls = [b["id"] for b in blocks if b["type"] == "tool_use"]
    return calls, [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]


def gemini_pairs(contents):
    parts = [part for content in contents for part in content.parts]
    return (
        [part.function_call.name for part in parts if part.function_call],
        [part.function_response.name for part in parts if part.function_response],
    )


@pytest.mark.parametrize(
    ("framework", "build"),
    [
        ("langchain", langchain_openai),
        ("langchain", langchain_anthropic),
        ("langchain", langchain_gemini),
        ("llama_index", llama_index_openai),
        ("llama_index", llama_index_anthropic),
        ("llama_index", llama_index_gemini),
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
async def test_a_payload(request_messages, framework, build):
    """G2, G3: one system text with the rule, each call with its result, the image, and the question last."""
    if framework == "langchain":
        from langchain_langmem_plugin import from_core
    else:
        from llama_index.memory.langmem_plugin import from_core
    built = build([from_core(message) for message in request_messages])
    system, calls, results, payload = await built if hasattr(built, "__await__") else built
    assert len(system) == 1
    assert RULE in str(system[0])
    assert "You are a sailor." in str(system[0])
    assert calls == results
    assert len(calls) >= 2
    assert "And now?" in str(payload[-1])
    whole = json.dumps(payload, default=str)
    assert "image" in whole
    assert "A pixel." in whole
