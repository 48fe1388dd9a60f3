"""The LlamaIndex half: a chat engine, and a FunctionAgent where tools are called, on one buffer's session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from pydantic import PrivateAttr, create_model

from langmem_plugin.config import Budget
from langmem_plugin.demo.desk import Desk
from langmem_plugin.demo.player import Player
from langmem_plugin.demo.script import Exchange
from langmem_plugin.errors import MissingExtra
from langmem_plugin.memory import Memory

try:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import (
        ChatMessage,
        ChatResponse,
        CompletionResponse,
        LLMMetadata,
        ToolCallBlock,
    )
    from llama_index.core.chat_engine import SimpleChatEngine
    from llama_index.core.llms.function_calling import FunctionCallingLLM
    from llama_index.core.llms.llm import ToolSelection
    from llama_index.core.tools import FunctionTool
except ImportError as error:
    raise MissingExtra("the demonstration", "llama-index-core", "demo") from error

from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, from_core, to_core

_PYTHON = {"string": str, "integer": int, "boolean": bool, "number": float, "array": list}
_SCRATCHPAD = 250
"""Tokens kept free for the calls and results of one turn."""


class PlayerLLM(FunctionCallingLLM):  # type: ignore[misc, unused-ignore]
    """The player as LlamaIndex sees an LLM; a real model answers questions if there is one."""

    _player: Player = PrivateAttr()
    _real: Any = PrivateAttr(default=None)

    def __init__(self, player: Player, real: Any = None) -> None:
        super().__init__()
        self._player = player
        self._real = real

    @property
    def metadata(self) -> LLMMetadata:
        """A chat model that calls functions."""
        return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name="player")

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """The answer to a request."""
        request = [to_core(message) for message in messages]
        if self._real is not None and self._player.at_question:
            self._player.note(request)
            return self._real.chat(messages)
        return ChatResponse(message=from_core(self._player.speak(request)))

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """See `chat`."""
        return self.chat(messages)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> Iterator[ChatResponse]:
        """The answer in one piece."""
        response = self.chat(messages)
        response.delta = response.message.content
        yield response

    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> AsyncIterator[ChatResponse]:
        """The answer in one piece."""
        return _async(self.stream_chat(messages))

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """The answer to a prompt."""
        return CompletionResponse(text=self.chat([ChatMessage(content=prompt)]).message.content or "")

    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """See `complete`."""
        return self.complete(prompt)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Iterator[CompletionResponse]:
        """The answer in one piece."""
        yield self.complete(prompt)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> AsyncIterator[CompletionResponse]:
        """The answer in one piece."""
        return _async(self.stream_complete(prompt))

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[Any],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return {"messages": list(chat_history or [])}

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tools that an answer asks for."""
        return [
            ToolSelection(tool_id=block.tool_call_id, tool_name=block.tool_name, tool_kwargs=_arguments(block))
            for block in response.message.blocks
            if isinstance(block, ToolCallBlock)
        ]


class LlamaIndexSide:
    """Says the user's part to a chat engine, or to an agent where the script calls tools."""

    name = "LlamaIndex engine"

    def __init__(
        self,
        memory: Memory,
        *,
        player: Player,
        desk: Desk,
        system: str,
        session_id: str,
        owner: str,
        budget: Budget,
        real: Any = None,
    ) -> None:
        def buffer(limit: int) -> HybridChatMemoryBuffer:
            return HybridChatMemoryBuffer.from_defaults(
                memory=memory, session_id=session_id, owner=owner, system=system, token_limit=limit
            )

        llm = PlayerLLM(player, real)
        self._schemas = desk.schemas
        self._engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer(budget.prompt))
        # Beside what the buffer gives, an agent sends its tools and, while a turn lasts, its scratchpad.
        beside = memory.counter.count_tools(desk.schemas) + _SCRATCHPAD
        self._agent_buffer = buffer(max(1, budget.prompt - beside))
        self._agent = FunctionAgent(
            llm=llm, tools=[_tool(desk, schema["function"]) for schema in desk.schemas], streaming=False
        )

    def tools(self, exchange: Exchange) -> tuple[dict[str, Any], ...]:
        """The schemas that go with the requests of an exchange: a chat engine sends none."""
        return self._schemas if exchange.calls else ()

    def say(self, exchange: Exchange) -> str:
        """One exchange, from the user's words to the answer."""
        if not exchange.calls:
            return str(self._engine.chat(exchange.user).response)
        return asyncio.run(self._run(exchange.user))

    async def _run(self, words: str) -> str:
        output = await self._agent.run(user_msg=words, memory=self._agent_buffer)
        return str(output.response.content)


async def _async(parts: Iterator[Any]) -> AsyncIterator[Any]:
    for part in parts:
        yield part


def _arguments(block: ToolCallBlock) -> dict[str, Any]:
    given = block.tool_kwargs
    arguments: dict[str, Any] = json.loads(given) if isinstance(given, str) else given
    return arguments


def _tool(desk: Desk, function: dict[str, Any]) -> FunctionTool:
    name = function["name"]

    def run(**arguments: Any) -> str:
        return desk.run(name, arguments)

    fields: dict[str, Any] = {
        field: (_PYTHON[schema["type"]] | None, None) for field, schema in function["parameters"]["properties"].items()
    }
    return FunctionTool.from_defaults(
        fn=run, name=name, description=function["description"], fn_schema=create_model(name, **fields)
    )
