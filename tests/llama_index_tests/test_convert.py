"""What LlamaIndex says is kept exactly, and what LangChain says arrives."""

import base64
import io
import json

import pytest
from llama_index.core.base.llms.types import (
    AudioBlock,
    CacheControl,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from llama_index.core.llms.llm import ToolSelection
from openai.types.chat import ChatCompletionMessageToolCall
from openai.types.chat.chat_completion_message_tool_call import Function

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import (
    Media,
    Message,
    Other,
    Reasoning,
    Role,
    Text,
    ToolCall,
    assistant,
    dump_json,
    tool_result,
    user,
)
from llama_index.memory.langmem_plugin.convert import from_core, to_core

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
OPENAI_CALL = ChatCompletionMessageToolCall(
    id="c1", type="function", function=Function(name="add", arguments='{"a": 1}')
)

MESSAGES = {
    "text": ChatMessage(role="user", content="hello"),
    "empty text": ChatMessage(role="user", content=""),
    "no blocks": ChatMessage(role="assistant", blocks=[]),
    "two texts": ChatMessage(role="user", blocks=[TextBlock(text="a"), TextBlock(text="b")]),
    "system": ChatMessage(role="system", content="be kind"),
    "developer": ChatMessage(role="developer", content="be kind"),
    "chatbot": ChatMessage(role="chatbot", content="hi"),
    "model": ChatMessage(role="model", content="hi"),
    "function": ChatMessage(role="function", content="3", additional_kwargs={"name": "add"}),
    "tool": ChatMessage(role="tool", content="3", additional_kwargs={"tool_call_id": "c1"}),
    "named": ChatMessage(role="user", content="hi", additional_kwargs={"name": "Ada"}),
    "facts": ChatMessage(role="user", content="hi", additional_kwargs={"channel": "web", "n": [1, {"x": None}]}),
    "image data": ChatMessage(role="user", blocks=[TextBlock(text="see"), ImageBlock(image=PNG, detail="low")]),
    "image url": ChatMessage(role="user", blocks=[ImageBlock(url="https://example.org/a.png")]),
    "audio": ChatMessage(role="user", blocks=[AudioBlock(audio=b"RIFF0000WAVE", format="wav")]),
    "audio url": ChatMessage(role="user", blocks=[AudioBlock(url="https://example.org/a.mp3", format="mp3")]),
    "video": ChatMessage(role="user", blocks=[VideoBlock(video=b"0000ftyp", video_mimetype="video/mp4", fps=2)]),
    "document": ChatMessage(
        role="user", blocks=[DocumentBlock(data=b"%PDF-1.4", title="a.pdf", document_mimetype="application/pdf")]
    ),
    "document path": ChatMessage(role="user", blocks=[DocumentBlock(path="missing/a.pdf")]),
    "cache point": ChatMessage(
        role="user", blocks=[TextBlock(text="a"), CachePoint(cache_control=CacheControl(type="ephemeral"))]
    ),
    "citable": ChatMessage(role="user", blocks=[CitableBlock(title="t", source="s", content="quoted")]),
    "citation": ChatMessage(
        role="assistant",
        blocks=[
            TextBlock(text="a"),
            CitationBlock(cited_content="b", source="s", title="t", additional_location_info={"page": 2}),
        ],
    ),
    "citation of an image": ChatMessage(
        role="assistant",
        blocks=[CitationBlock(cited_content=ImageBlock(image=PNG), source="s", title="t", additional_location_info={})],
    ),
    "thinking": ChatMessage(
        role="assistant",
        blocks=[ThinkingBlock(content="hm", additional_information={"signature": "x"}), TextBlock(text="yes")],
    ),
    "thinking with tokens": ChatMessage(
        role="assistant", blocks=[ThinkingBlock(content=None, num_tokens=7, additional_information={"id": 3})]
    ),
    "tool call": ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1, "ü": "ß"})]
    ),
    "tool call before text": ChatMessage(
        role="assistant",
        blocks=[ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={}), TextBlock(text="wait")],
    ),
    "tool call with text arguments": ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id=None, tool_name="add", tool_kwargs='{"a": 1}')]
    ),
    "tool call with broken arguments": ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id=None, tool_name="add", tool_kwargs='{"a": ')]
    ),
    "legacy OpenAI objects": ChatMessage(
        role="assistant", content=None, additional_kwargs={"tool_calls": [OPENAI_CALL]}
    ),
    "legacy dicts": ChatMessage(
        role="assistant", content="", additional_kwargs={"tool_calls": [OPENAI_CALL.model_dump()]}
    ),
    "legacy selections": ChatMessage(
        role="assistant",
        content="",
        additional_kwargs={"tool_calls": [ToolSelection(tool_id="c1", tool_name="add", tool_kwargs={"a": 1})]},
    ),
    "both forms": ChatMessage(
        role="assistant",
        blocks=[ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})],
        additional_kwargs={"tool_calls": [OPENAI_CALL]},
    ),
    "function call": ChatMessage(
        role="assistant", content="", additional_kwargs={"function_call": {"name": "add", "arguments": '{"a": 1}'}}
    ),
    "returned directly": ChatMessage(role="assistant", content="3", additional_kwargs={"tool_call_id": "c1"}),
    "bytes in kwargs": ChatMessage(role="assistant", content="3", additional_kwargs={"thought_signatures": [b"\x00"]}),
    "odd text": ChatMessage(role="user", content="a\x00b\x85c \U0001f600 {query_str} </memory>"),
}


def through_store(message):
    """As a store keeps it: JSON text and back."""
    return Message.from_json(json.loads(dump_json(message.to_json())))


@pytest.mark.parametrize("name", MESSAGES)
def test_same_framework_round_trip_is_exact(name):
    """Every LlamaIndex message comes back equal from the store, as LlamaIndex dumps it."""
    given = MESSAGES[name]
    assert from_core(through_store(to_core(given))).model_dump() == given.model_dump()


@pytest.mark.parametrize("name", ["text", "two texts", "image data", "tool", "tool call", "thinking", "named", "facts"])
def test_no_payload_where_the_neutral_form_is_enough(name):
    """What the neutral fields can express carries no second copy of itself."""
    assert to_core(MESSAGES[name]).payload is None


@pytest.mark.parametrize(
    "name", ["tool call", "legacy OpenAI objects", "legacy dicts", "legacy selections", "both forms", "function call"]
)
def test_every_form_of_tool_call_is_neutral(name):
    """Tool calls are found in each form that LlamaIndex's integrations use."""
    (call,) = to_core(MESSAGES[name]).tool_calls
    assert call.name == "add"
    assert json.loads(call.arguments)["a"] == 1
    assert call.id == (None if name == "function call" else "c1")


def test_langchain_messages_arrive_whole():
    """Tool calls, images, thinking and results that another framework stored become LlamaIndex's own blocks."""
    data = base64.b64encode(PNG).decode()
    said = Message(role=Role.USER, blocks=(Text("see"), Media(kind="image", data=data, mime_type="image/png")))
    chat = from_core(said)
    assert chat.blocks[1].resolve_image().read() == PNG
    assert chat.blocks[1].image_mimetype == "image/png"

    called = Message(
        role=Role.ASSISTANT,
        blocks=(Reasoning(text="hm", signature="sig"),),
        tool_calls=(ToolCall(id="c1", name="add", arguments='{"a":1}'), ToolCall(id="c2", name="add", arguments="{")),
        id="run-1",
    )
    chat = from_core(called)
    assert [block.block_type for block in chat.blocks] == ["thinking", "tool_call", "tool_call"]
    assert chat.blocks[0].additional_information == {"signature": "sig"}
    assert chat.blocks[1].tool_kwargs == {"a": 1}
    assert chat.blocks[2].tool_kwargs == "{"

    result = from_core(tool_result("3", call_id="c1", name="add"))
    assert result.role == "tool"
    assert result.additional_kwargs == {"tool_call_id": "c1", "name": "add"}


def test_foreign_blocks_keep_their_text():
    """A block that only LangChain knows is shown by its text, and left out if it has none."""
    chat = from_core(
        Message(
            role=Role.ASSISTANT,
            blocks=(
                Other(framework="langchain", data={"type": "x", "text": "shown"}),
                Other(framework="langchain", data={"type": "server_tool_call"}),
            ),
        )
    )
    assert [block.text for block in chat.blocks] == ["shown"]


def test_a_stream_of_bytes_is_kept_as_its_bytes():
    """An image given as an open file is stored as base64 data."""
    chat = from_core(through_store(to_core(ChatMessage(blocks=[ImageBlock(image=io.BytesIO(PNG))]))))
    assert chat.blocks[0].resolve_image().read() == PNG


def test_a_vanished_file_does_not_break_the_history(tmp_path):
    """An image block by path can be read back after the file was deleted."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    stored = through_store(to_core(ChatMessage(blocks=[ImageBlock(path=path)])))
    assert from_core(stored).blocks[0].path == path
    path.unlink()
    assert str(from_core(stored).blocks[0].url).endswith("/a.png")


def test_what_json_cannot_hold_is_kept_as_text():
    """An odd object in additional_kwargs does not lose the message."""
    chat = from_core(through_store(to_core(ChatMessage(content="x", additional_kwargs={"raw": {1, 2}, "o": object}))))
    assert chat.content == "x"
    assert "object" in chat.additional_kwargs["o"]


def test_a_cycle_is_refused():
    """additional_kwargs that contain themselves give a typed error."""
    loop: dict = {}
    loop["again"] = loop
    message = ChatMessage.model_construct(role="user", blocks=[], additional_kwargs={"loop": loop})
    with pytest.raises(InvalidMessage):
        to_core(message)


def test_neutral_helpers_round_trip():
    """A message made without a framework is the same after a visit to LlamaIndex."""
    for message in (user("hi"), assistant("yes", ToolCall(id="1", name="f", arguments='{"a": 1}'))):
        assert to_core(from_core(message)) == message
