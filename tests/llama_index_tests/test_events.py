"""The memory's numbers reach LlamaIndex's instrumentation."""

from __future__ import annotations

import pytest
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from pydantic import Field

from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, MemoryRequestEvent


class Listener(BaseEventHandler):
    """Keeps the memory's events."""

    told: list = Field(default_factory=list)

    @classmethod
    def class_name(cls):
        return "Listener"

    def handle(self, event, **kwargs):
        if isinstance(event, MemoryRequestEvent):
            self.told.append(event)


@pytest.fixture
def listener():
    root, listener = get_dispatcher(), Listener()
    root.add_event_handler(listener)
    yield listener
    root.event_handlers.remove(listener)


async def test_a_request_is_an_event(listener, scripted):
    """One event a request, within the engine's span, with the report's numbers and no text; sync and async."""
    memory = HybridChatMemoryBuffer.from_defaults(token_limit=2_000)
    engine = SimpleChatEngine.from_defaults(llm=scripted(), memory=memory)
    engine.chat("Never call me before noon.")
    await engine.achat("And now?")
    first, second = listener.told
    assert second.numbers == memory.report.numbers()
    assert first.numbers["budget"] == 2_000
    assert first.span_id.startswith("SimpleChatEngine.chat")
    assert second.span_id.startswith("SimpleChatEngine.achat")
    assert "noon" not in first.model_dump_json()
    assert first.model_dump()["class_name"] == "MemoryRequestEvent"
