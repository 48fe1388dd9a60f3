"""An LLM that answers from a script and remembers each request, and memories with constraints."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    LLMMetadata,
    MessageRole,
    TextBlock,
    ToolCallBlock,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import Field, PrivateAttr

from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer


class ScriptedLLM(FunctionCallingLLM):
    """Answers with the next of `script` ("ok" when it is used up) and keeps a copy of each request.

    A text is an answer, a `ChatMessage` is sent as it is, an exception is raised; a text that
    begins with "!" is streamed and then breaks.
    """

    function_calling: bool = True
    chat_model: bool = True
    script: list[Any] = Field(default_factory=list)
    _requests: list[list[ChatMessage]] = PrivateAttr(default_factory=list)

    @property
    def requests(self) -> list[list[ChatMessage]]:
        """Every request, oldest first."""
        return self._requests

    @property
    def last(self) -> str:
        """The last request as one text, roles in front."""
        return "\n".join(f"{m.role.value}: {m.content}" for m in self._requests[-1])

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=8_000, is_chat_model=self.chat_model, is_function_calling_model=self.function_calling
        )

    def _next(self, messages: Sequence[ChatMessage]) -> ChatMessage:
        self._requests.append(copy.deepcopy(list(messages)))
        answer = self.script.pop(0) if self.script else "ok"
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, ChatMessage) else ChatMessage(role="assistant", content=answer)

    def _parts(self, message: ChatMessage):
        text = message.content or ""
        broken = text.startswith("!")
        so_far = ""
        for word in text.removeprefix("!").split(" "):
            delta = word if not so_far else " " + word
            so_far += delta
            part = ChatMessage(
                role=MessageRole.ASSISTANT,
                blocks=[TextBlock(text=so_far), *(b for b in message.blocks if not isinstance(b, TextBlock))],
                additional_kwargs=message.additional_kwargs,
            )
            yield ChatResponse(message=part, delta=delta)
        if broken:
            raise ConnectionError("the stream broke")

    def chat(self, messages, **kwargs):
        return ChatResponse(message=self._next(messages))

    async def achat(self, messages, **kwargs):
        return self.chat(messages)

    def stream_chat(self, messages, **kwargs):
        return self._parts(self._next(messages))

    async def astream_chat(self, messages, **kwargs):
        message = self._next(messages)

        async def parts():
            for part in self._parts(message):
                yield part

        return parts()

    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self._next([ChatMessage(content=prompt)]).content or "")

    async def acomplete(self, prompt, formatted=False, **kwargs):
        return self.complete(prompt)

    def stream_complete(self, prompt, formatted=False, **kwargs):
        message = self._next([ChatMessage(content=prompt)])
        return (CompletionResponse(text=part.message.content, delta=part.delta) for part in self._parts(message))

    async def astream_complete(self, prompt, formatted=False, **kwargs):
        message = self._next([ChatMessage(content=prompt)])

        async def parts():
            for part in self._parts(message):
                yield CompletionResponse(text=part.message.content, delta=part.delta)

        return parts()

    def _prepare_chat_with_tools(self, tools, user_msg=None, chat_history=None, **kwargs):
        return {"messages": list(chat_history or [])}

    def get_tool_calls_from_response(self, response, error_on_no_tool_call=True, **kwargs):
        return [
            ToolSelection(tool_id=b.tool_call_id, tool_name=b.tool_name, tool_kwargs=b.tool_kwargs)
            for b in response.message.blocks
            if isinstance(b, ToolCallBlock)
        ]


class FixedRetriever(BaseRetriever):
    """Always the same document."""

    def _retrieve(self, query_bundle):
        return [NodeWithScore(node=TextNode(text="The shop opens at nine."), score=1.0)]


def tool_call(name: str, call_id: str = "c1", **arguments: Any) -> ChatMessage:
    return ChatMessage(
        role="assistant", blocks=[ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)]
    )


@pytest.fixture
def scripted():
    """A new LLM with this script."""
    return lambda *script, **settings: ScriptedLLM(script=list(script), **settings)


@pytest.fixture
def retriever():
    return FixedRetriever()


@pytest.fixture
def call():
    return tool_call


@pytest.fixture
def said():
    """Roles and texts of a transcript."""
    return lambda messages: [(m.role.value, m.content) for m in messages]


@pytest.fixture
def open_buffer():
    """A buffer that is closed when the test ends."""
    opened = []

    def make(**settings: Any) -> HybridChatMemoryBuffer:
        buffer = HybridChatMemoryBuffer.from_defaults(**settings)
        opened.append(buffer.memory)
        return buffer

    yield make
    for memory in opened:
        memory.close()


@pytest.fixture
def buffer(open_buffer):
    return open_buffer(token_limit=2_000)


UPSTREAM = (
    "ignore::pydantic.warnings.PydanticDeprecationWarning",  # workflows looks at every attribute of an agent
    "ignore:is_running called from within a step:DeprecationWarning",  # ReActAgent's own use
    "ignore:unclosed",  # LlamaIndex's asyncio_run and asyncio.get_event_loop leave loops to the collector
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
    "ignore:There is no current event loop:DeprecationWarning",
)


def pytest_collection_modifyitems(items):
    """Warnings of LlamaIndex's own making are no errors in this folder; any other is."""
    for item in items:
        if item.path.parent.name == "llama_index_tests":
            for warning in UPSTREAM:
                item.add_marker(pytest.mark.filterwarnings(warning))
