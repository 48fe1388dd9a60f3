"""What LangChain stored, LlamaIndex says; and back."""

import base64

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock

from langmem_plugin import Memory
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, from_core, to_core

messages = pytest.importorskip("langchain_core.messages")
langchain = pytest.importorskip("langchain_langmem_plugin")

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()


def test_an_agents_session_from_langchain(tmp_path):
    """Images, tool calls with their arguments, results and thinking of LangChain arrive as LlamaIndex's blocks."""
    said = [
        messages.HumanMessage(
            content=[{"type": "text", "text": "See."}, {"type": "image", "base64": PNG, "mime_type": "image/png"}]
        ),
        messages.AIMessage(content="", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c1"}], id="run-1"),
        messages.ToolMessage(content="2", tool_call_id="c1", name="add"),
        messages.AIMessage(content=[{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "two"}]),
    ]
    with Memory.open(f"sqlite:///{tmp_path}/a.db") as memory:
        memory.session("s", owner="ann").add(*map(langchain.to_core, said))
        got = HybridChatMemoryBuffer.from_defaults(memory=memory, session_id="s", owner="ann").get_all()
    assert [m.role.value for m in got] == ["user", "assistant", "tool", "assistant"]
    assert isinstance(got[0].blocks[1], ImageBlock)
    assert got[0].blocks[1].image == PNG.encode()
    call = got[1].blocks[-1]
    assert isinstance(call, ToolCallBlock)
    assert (call.tool_call_id, call.tool_name, call.tool_kwargs) == ("c1", "add", {"a": 1})
    assert got[2].additional_kwargs["tool_call_id"] == "c1"
    assert [type(block) for block in got[3].blocks] == [ThinkingBlock, TextBlock]


def test_a_session_of_llama_index_in_langchain():
    """Images, tool calls in LlamaIndex's new and old form, and results arrive as LangChain's."""
    image = ChatMessage(role="user", blocks=[TextBlock(text="See."), ImageBlock(image=base64.b64decode(PNG))])
    human = langchain.from_core(to_core(image))
    assert isinstance(human, messages.HumanMessage)
    assert PNG in str(human.content)
    for form in (
        ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="c1", tool_name="add", tool_kwargs={"a": 1})]),
        ChatMessage(
            role="assistant",
            content="",
            additional_kwargs={
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
            },
        ),
    ):
        (call,) = langchain.from_core(to_core(form)).tool_calls
        assert (call["id"], call["name"], call["args"]) == ("c1", "add", {"a": 1})
    result = langchain.from_core(
        to_core(ChatMessage(role="tool", content="2", additional_kwargs={"tool_call_id": "c1"}))
    )
    assert isinstance(result, messages.ToolMessage)
    assert result.tool_call_id == "c1"


def test_there_and_back():
    """A LlamaIndex message that went through LangChain keeps its text, calls and result."""
    for chat in (
        ChatMessage(role="user", content="hi"),
        ChatMessage(role="assistant", blocks=[ToolCallBlock(tool_call_id="c1", tool_name="f", tool_kwargs={"a": 1})]),
        ChatMessage(role="tool", content="2", additional_kwargs={"tool_call_id": "c1"}),
    ):
        back = from_core(langchain.to_core(langchain.from_core(to_core(chat))))
        assert back.model_dump() == chat.model_dump()
