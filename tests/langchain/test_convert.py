"""LangChain messages through the neutral form and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic import BaseModel

from langchain_langmem_plugin import from_core, to_core
from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import (
    Media,
    Message,
    Other,
    Payload,
    Reasoning,
    Role,
    Text,
    ToolCall,
    assistant,
    dump_json,
    load_json,
    tool_result,
    user,
)

PNG = "iVBORw0KGgo="
CALL = {"name": "weather", "args": {"city": "Ōsaka", "days": 2}, "id": "call_1", "type": "tool_call"}


def through(message: BaseMessage) -> BaseMessage:
    """To the neutral form, to JSON text as a store keeps it, and back."""
    return from_core(Message.from_json(load_json(dump_json(to_core(message).to_json()))))


SHAPES: dict[str, BaseMessage] = {
    "text": HumanMessage("hello", id="h1", name="ann"),
    "empty text": HumanMessage(""),
    "empty list": HumanMessage([]),
    "one text block": HumanMessage([{"type": "text", "text": "hi"}]),
    "strings in a list": HumanMessage(["a", "b", {"type": "text", "text": "c"}]),
    "cache mark": HumanMessage([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]),
    "openai image": HumanMessage(
        [
            {"type": "text", "text": "what is it"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ]
    ),
    "openai image as text": HumanMessage([{"type": "image_url", "image_url": "https://example.org/a.png"}]),
    "openai audio": HumanMessage([{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]),
    "openai file": HumanMessage(
        [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}]
    ),
    "openai file id": HumanMessage([{"type": "file", "file": {"file_id": "file-1"}}]),
    "anthropic image": HumanMessage(
        [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}]
    ),
    "anthropic document": HumanMessage(
        [{"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}, "title": "A"}]
    ),
    "gemini media": HumanMessage([{"type": "media", "mime_type": "video/mp4", "data": "AAAA"}]),
    "v0 image": HumanMessage([{"type": "image", "source_type": "base64", "mime_type": "image/png", "data": PNG}]),
    "v0 file": HumanMessage([{"type": "file", "source_type": "url", "url": "https://example.org/a.pdf"}]),
    "v1 media": HumanMessage(
        [
            {"type": "image", "base64": PNG, "mime_type": "image/png", "id": "lc_1"},
            {"type": "audio", "url": "https://example.org/a.wav"},
            {"type": "video", "base64": "AAAA", "mime_type": "video/mp4"},
            {"type": "file", "base64": "AAAA", "mime_type": "application/pdf", "extras": {"filename": "a.pdf"}},
            {"type": "file", "file_id": "file-2"},
            {"type": "text-plain", "text": "plain", "mime_type": "text/plain"},
        ]
    ),
    "v1 content blocks": HumanMessage(content_blocks=[{"type": "text", "text": "hi", "annotations": []}]),
    "non standard": AIMessage([{"type": "non_standard", "value": {"a": 1}}, {"text": "no type"}]),
    "thinking": AIMessage(
        [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "reasoning", "reasoning": "so", "extras": {"signature": "s2"}},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "t"}]},
            {"type": "text", "text": "answer", "index": 3},
        ]
    ),
    "refusal": AIMessage([{"type": "refusal", "refusal": "no"}]),
    "tool call": AIMessage("", tool_calls=[CALL]),
    "two tool calls and text": AIMessage("I look.", tool_calls=[CALL, {"name": "now", "args": {}, "id": None}]),
    "anthropic tool use": AIMessage(
        [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Ōsaka", "days": 2}},
        ],
        tool_calls=[CALL],
    ),
    "responses function call": AIMessage(
        [{"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}", "id": "fc_1"}],
        tool_calls=[CALL],
    ),
    "server tool": AIMessage(
        [
            {"type": "server_tool_call", "id": "s1", "name": "web_search", "args": {"q": "x"}},
            {"type": "server_tool_result", "tool_call_id": "s1", "status": "success", "output": []},
        ]
    ),
    "openai wire calls": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
        },
    ),
    "openai broken call": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{bad"}}]
        },
    ),
    "invalid tool call": AIMessage(
        "", invalid_tool_calls=[{"name": None, "args": "{", "id": "c", "error": "bad", "type": "invalid_tool_call"}]
    ),
    "legacy function call": AIMessage("", additional_kwargs={"function_call": {"name": "f", "arguments": "{}"}}),
    "usage": AIMessage(
        "a",
        id="run-1",
        usage_metadata={
            "input_tokens": 5,
            "output_tokens": 2,
            "total_tokens": 7,
            "input_token_details": {"cache_read": 3, "audio": 1},
            "output_token_details": {"reasoning": 1},
        },
        response_metadata={"model_name": "m", "finish_reason": "stop", "logprobs": None},
        additional_kwargs={"refusal": None, "own": {"a": [1, 2.5, True]}},
    ),
    "usage with cache": AIMessage(
        "a",
        usage_metadata={
            "input_tokens": 5,
            "output_tokens": 2,
            "total_tokens": 7,
            "input_token_details": {"cache_read": 3},
        },
    ),
    "tool result": ToolMessage("21°C", tool_call_id="call_1", name="weather", id="t1"),
    "tool error": ToolMessage("boom", tool_call_id="call_1", status="error", artifact={"rows": [1, {"a": None}]}),
    "tool image": ToolMessage([{"type": "image", "base64": PNG, "mime_type": "image/png"}], tool_call_id="c"),
    "function result": FunctionMessage("r", name="f"),
    "system": SystemMessage([{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]),
    "developer": SystemMessage("x", additional_kwargs={"__openai_role__": "developer"}),
    "chat user": ChatMessage("x", role="user"),
    "chat critic": ChatMessage("x", role="critic", id="9"),
    "extra field": HumanMessage("x", example=True),
    "odd text": HumanMessage("a\x00b\ud800\x85\u2028👩‍👩‍👧 ", name="\ud800"),
}


@pytest.mark.parametrize("message", SHAPES.values(), ids=SHAPES.keys())
def test_the_same_message_comes_back(message):
    """Every shape of message equals itself after a round through the store's JSON."""
    back = through(message)
    assert back == message
    assert type(back) is type(message)


def test_ordinary_messages_need_no_payload():
    """What the neutral form says is not kept twice: base64 data stands once in the stored JSON."""
    for name in ("text", "tool call", "tool result", "usage with cache", "invalid tool call"):
        if name != "invalid tool call":
            assert to_core(SHAPES[name]).payload is None, name
    for name in ("openai image", "anthropic image", "v0 image", "tool image", "v1 media"):
        assert dump_json(to_core(SHAPES[name]).to_json()).count(PNG) <= 1, name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=3)
BLOCK = st.one_of(
    st.text(max_size=20),
    st.builds(lambda text, more: {**more, "type": "text", "text": text}, st.text(max_size=20), OBJECTS),
    st.builds(
        lambda kind, held, more: {**more, "type": kind, **held},
        st.sampled_from(["image", "audio", "video", "file", "image_url", "document", "input_audio", "media"]),
        st.sampled_from(
            [
                {"url": "https://x.org/a"},
                {"base64": "AAAA", "mime_type": "image/png"},
                {"source_type": "base64", "data": "AAAA"},
                {"source": {"type": "base64", "data": "AAAA", "media_type": "a/b"}},
                {"image_url": {"url": "data:image/png;base64,AAAA"}},
                {"input_audio": {"data": "AAAA", "format": "mp3"}},
                {"file": {"file_data": "data:,x"}},
                {"file_id": "f"},
            ]
        ),
        OBJECTS,
    ),
    st.builds(
        lambda kind, more: {**more, "type": kind},
        st.sampled_from(["thinking", "reasoning", "tool_use", "tool_call", "non_standard", "refusal", "x"]),
        OBJECTS,
    ),
    OBJECTS,
)
CONTENT = st.text(max_size=30) | st.lists(BLOCK, max_size=4)
IDS = st.none() | st.text(min_size=1, max_size=8)
CALLS = st.lists(
    st.builds(lambda name, args, key: {"name": name, "args": args, "id": key}, st.text(max_size=8), OBJECTS, IDS),
    max_size=3,
)
BAD_CALLS = st.lists(
    st.builds(
        lambda name, args, key, error: {"name": name, "args": args, "id": key, "error": error}, IDS, IDS, IDS, IDS
    ),
    max_size=2,
)
COUNTS = st.integers(min_value=0, max_value=10**9)
USAGE = st.none() | st.fixed_dictionaries(
    {"input_tokens": COUNTS, "output_tokens": COUNTS, "total_tokens": COUNTS},
    optional={"input_token_details": st.dictionaries(st.sampled_from(["cache_read", "audio"]), COUNTS)},
)
MESSAGES = st.one_of(
    st.builds(HumanMessage, CONTENT, id=IDS, name=IDS, additional_kwargs=OBJECTS, response_metadata=OBJECTS),
    st.builds(
        AIMessage,
        CONTENT,
        id=IDS,
        name=IDS,
        tool_calls=CALLS,
        invalid_tool_calls=BAD_CALLS,
        usage_metadata=USAGE,
        additional_kwargs=OBJECTS,
        response_metadata=OBJECTS,
    ),
    st.builds(SystemMessage, CONTENT, additional_kwargs=OBJECTS),
    st.builds(
        ToolMessage,
        CONTENT,
        tool_call_id=st.text(max_size=8),
        id=IDS,
        name=IDS,
        artifact=JSON,
        status=st.sampled_from(["success", "error"]),
    ),
    st.builds(FunctionMessage, CONTENT, name=st.text(max_size=8)),
    st.builds(ChatMessage, CONTENT, role=st.sampled_from(["user", "assistant", "system", "tool", "critic", ""])),
)


@given(MESSAGES)
def test_any_message_of_plain_json_comes_back(message):
    """Whatever plain JSON a message holds, it equals itself after the round."""
    assert through(message) == message


@given(MESSAGES)
def test_the_neutral_form_is_stable(message):
    """A second round gives the same neutral message, byte for byte, so repeated requests repeat their prefix."""
    once = to_core(message)
    assert to_core(from_core(once)) == once


def test_neutral_fields_say_what_they_can():
    """Another framework can read text, media, thinking, calls, usage and the application's facts."""
    seen = to_core(SHAPES["openai image"])
    assert seen.role is Role.USER
    assert seen.blocks[:2] == (
        Text("what is it"),
        Media(kind="image", data=PNG, mime_type="image/png", detail="low"),
    )
    called = to_core(SHAPES["anthropic tool use"])
    assert called.blocks == (Text("I look."),)
    assert called.tool_calls == (ToolCall(id="call_1", name="weather", arguments='{"city": "Ōsaka", "days": 2}'),)
    thought = to_core(SHAPES["thinking"])
    assert thought.blocks[0] == Reasoning(text="hm", signature="sig")
    used = to_core(SHAPES["usage"])
    assert used.usage is not None
    assert (used.usage.total_tokens, used.usage.cached_tokens) == (7, 3)
    assert used.metadata == {"refusal": None, "own": {"a": [1, 2.5, True]}}
    assert to_core(SHAPES["openai wire calls"]).metadata == {}
    assert [c.arguments for c in to_core(SHAPES["openai broken call"]).tool_calls] == ["{bad"]


def test_only_the_users_own_roles_are_the_user():
    """A chat message of an unknown role counts as the assistant's, so it can never become a constraint."""
    assert to_core(ChatMessage("x", role="critic")).role is Role.ASSISTANT
    assert to_core(ChatMessage("x", role="Human")).role is Role.USER
    assert to_core(ChatMessage("x", role="developer")).role is Role.SYSTEM


def test_a_chunk_becomes_the_message_it_adds_up_to():
    """Streamed chunks are stored as whole messages, tool calls parsed."""
    chunk = AIMessageChunk("", id="r") + AIMessageChunk(
        "hi", tool_call_chunks=[{"name": "f", "args": '{"a": 1}', "id": "c", "index": 0, "type": "tool_call_chunk"}]
    )
    back = through(chunk)
    assert back == AIMessage("hi", id="r", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c"}])
    assert type(through(HumanMessageChunk("x"))) is HumanMessage


def test_what_is_no_message_is_refused():
    """A RemoveMessage and a class with a type of its own are refused with a typed error."""

    class Odd(BaseMessage):
        type: Literal["odd"] = "odd"

    with pytest.raises(InvalidMessage, match="RemoveMessage"):
        to_core(RemoveMessage(id="x"))
    with pytest.raises(InvalidMessage, match="'odd'"):
        to_core(Odd(content="x"))


class Row(BaseModel):
    day: datetime
    count: int


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


def test_fields_that_are_not_json_are_kept_as_json():
    """Models, dataclasses, dates, bytes, tuples and NaN become JSON; an object without a form becomes a marker."""
    day = datetime(2026, 1, 2, tzinfo=UTC)
    artifact: dict[str, Any] = {
        "row": Row(day=day, count=1),
        "point": Point(1, (2, 3)),
        "day": day,
        "raw": b"\xff\x00",
        "nan": float("nan"),
        "set": {1},
        "object": object(),
        3: "key",
    }
    back = through(ToolMessage("x", tool_call_id="c", artifact=artifact))
    assert back.artifact == {
        "row": {"day": "2026-01-02T00:00:00Z", "count": 1},
        "point": {"x": 1, "y": [2, 3]},
        "day": "2026-01-02T00:00:00Z",
        "raw": "_wA=",
        "nan": "nan",
        "set": [1],
        "object": {"not_json": "builtins.object"},
        "3": "key",
    }
    assert json.dumps(back.artifact)


def test_what_the_model_reads_must_be_json():
    """Content and tool arguments that are not JSON are refused, and the field is named."""
    with pytest.raises(InvalidMessage, match="content"):
        to_core(HumanMessage([{"type": "x", "value": object()}]))
    with pytest.raises(InvalidMessage, match="tool_calls"):
        to_core(AIMessage("", tool_calls=[{"name": "f", "args": {"a": object()}, "id": "1"}]))
    loop: dict[str, Any] = {}
    loop["me"] = loop
    with pytest.raises(InvalidMessage, match="holds itself"):
        to_core(ToolMessage("x", tool_call_id="1", artifact=loop))


def test_messages_of_another_framework_can_be_sent():
    """A message that LlamaIndex wrote becomes a LangChain message that every provider takes."""
    image = Media(kind="image", data=PNG, mime_type="image/png", detail="high")
    foreign = Message(
        role=Role.USER,
        blocks=(
            Text("look"),
            image,
            Other(framework="llama_index", data={"block_type": "cache"}),
            Other(framework="llama_index", data={"block_type": "citable", "content": [{"text": "cited"}]}),
        ),
        payload=Payload(framework="llama_index", data={"a": 1}),
        metadata={"own": 1},
    )
    assert from_core(foreign) == HumanMessage(
        [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "high"}},
            {"type": "text", "text": "cited"},
        ],
        additional_kwargs={"own": 1},
    )
    called = assistant("", ToolCall(id="c", name="f", arguments=""), ToolCall(id="d", name="g", arguments="{"))
    message = from_core(called)
    assert isinstance(message, AIMessage)
    assert [call["args"] for call in message.tool_calls] == [{}]
    assert [call["args"] for call in message.invalid_tool_calls] == ["{"]
    assert from_core(tool_result("r", call_id=None)) == ToolMessage("r", tool_call_id="")


def test_a_message_made_for_one_request_keeps_its_media():
    """With recalled text before it, a user's message still has its image, and the recalled text first."""
    altered = to_core(SHAPES["openai image"]).prepend("Recalled.\n\n")
    sent = from_core(altered)
    assert sent.content[0] == {"type": "text", "text": "Recalled.\n\nwhat is it"}
    assert sent.content[1]["type"] == "image_url"


@pytest.mark.parametrize(
    "data",
    [
        {"type": "nonsense"},
        {"content": ["text", "text"]},
        {"content": [{"odd": 1}]},
        {"content": 3},
        {"fields": {"tool_call_id": 1, "additional_kwargs": 5}},
        {"fields": 7},
    ],
)
def test_a_damaged_payload_is_a_typed_error(data):
    """A payload that we did not write is refused, never executed and never a stack trace from pydantic."""
    message = user("x")
    with pytest.raises(InvalidMessage):
        from_core(Message(role=message.role, blocks=message.blocks, payload=Payload(framework="langchain", data=data)))
