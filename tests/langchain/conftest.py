"""A chat model that records what reaches it, and memories on a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import Field

from langmem_plugin.memory import Memory


class ModelDown(RuntimeError):
    """What the model's server says when it does not answer."""


class RecordingModel(BaseChatModel):
    """Answers from a script, or by number; keeps every request. An exception in the script is raised."""

    script: list[Any] = Field(default_factory=list)
    requests: list[list[BaseMessage]] = Field(default_factory=list)
    tools: list[Any] = Field(default_factory=list)
    break_after: int | None = None
    """A stream breaks after so many chunks."""

    @property
    def _llm_type(self) -> str:
        return "recording"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        self.tools.append(list(tools))
        return self

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        self.requests.append(list(messages))
        answer = self.script.pop(0) if self.script else f"answer {len(self.requests)}"
        if isinstance(answer, Exception):
            raise answer
        return AIMessage(answer) if isinstance(answer, str) else answer

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages)
        pieces: list[AIMessageChunk] = [AIMessageChunk(word + " ") for word in str(answer.content).split()]
        if answer.tool_calls:
            import json

            chunks = [
                ToolCallChunk(name=c["name"], args=json.dumps(c["args"]), id=c["id"], index=n, type="tool_call_chunk")
                for n, c in enumerate(answer.tool_calls)
            ]
            pieces.append(AIMessageChunk("", tool_call_chunks=chunks))
        for number, piece in enumerate(pieces):
            if number == self.break_after:
                raise ModelDown("the stream broke")
            yield ChatGenerationChunk(message=piece)

    @property
    def texts(self) -> list[list[str]]:
        """The requests as lists of "type: text"."""
        return [[f"{m.type}: {m.text}" for m in request] for request in self.requests]


@pytest.fixture
def model() -> RecordingModel:
    return RecordingModel()


@pytest.fixture
def new_model() -> Callable[..., RecordingModel]:
    return lambda *script, **fields: RecordingModel(script=list(script), **fields)


@pytest.fixture
def down() -> type[Exception]:
    return ModelDown


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory.open() as opened:
        yield opened


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'memory.db'}"


@pytest.fixture
def said() -> Callable[..., list[str]]:
    """What a session has committed, as "role: text"."""

    def read(memory: Memory, session_id: str, owner: str = "ann") -> list[str]:
        session = memory.session(session_id, owner=owner)
        return [f"{entry.message.role.value}: {entry.message.text}" for entry in session.history()]

    return read
