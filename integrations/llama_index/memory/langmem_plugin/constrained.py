"""An LLM that never forgets the constraints, for the places that no memory reaches.

`CondenseQuestionChatEngine` answers through a query engine that sees one question and no
memory, and early stopping, structured output or a tool of your own may call the LLM with
messages of their own. There the last moment before the model is the only safe place.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock
from llama_index.core.llms import LLM

from langmem_plugin.context import constraints_block
from langmem_plugin.session import Session
from llama_index.memory.langmem_plugin.base import HybridChatMemoryBuffer

AnyLLM = TypeVar("AnyLLM", bound=LLM)


def with_constraints(llm: AnyLLM, source: HybridChatMemoryBuffer | Session) -> AnyLLM:
    """The same LLM, with the session's constraints in every request it sends.

    All system messages of a request become one, the first message, with the constraints at
    its end; a request that holds them already gets no second copy. The LLM that is given is
    not changed, and the one returned is of a subclass of its class.

    Example:
        >>> engine = index.as_query_engine(llm=with_constraints(llm, memory))  # doctest: +SKIP
    """
    constrained: AnyLLM = copy.copy(llm)
    kind: Any = type(llm)
    constrained.__class__ = type(kind)(kind.__name__, (_Constrained, kind), _methods(source))
    return constrained


class _Constrained:
    """What every LLM of this module is, so that wrapping twice does nothing twice."""


def _methods(source: HybridChatMemoryBuffer | Session) -> dict[str, Any]:
    """The overriding methods; they hold their source by closure, so the model gets no new field."""

    def block() -> str:
        session = source.session if isinstance(source, HybridChatMemoryBuffer) else source
        return constraints_block.render(session.constraints())

    def chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return _next(self, "chat")(one_system(messages, block()), **kwargs)

    def stream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return _next(self, "stream_chat")(one_system(messages, block()), **kwargs)

    async def achat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return await _next(self, "achat")(one_system(messages, block()), **kwargs)

    async def astream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        return await _next(self, "astream_chat")(one_system(messages, block()), **kwargs)

    def complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        return _next(self, "complete")(_before(prompt, block()), formatted=formatted, **kwargs)

    def stream_complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        return _next(self, "stream_complete")(_before(prompt, block()), formatted=formatted, **kwargs)

    async def acomplete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        return await _next(self, "acomplete")(_before(prompt, block()), formatted=formatted, **kwargs)

    async def astream_complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        return await _next(self, "astream_complete")(_before(prompt, block()), formatted=formatted, **kwargs)

    methods = (chat, stream_chat, achat, astream_chat, complete, stream_complete, acomplete, astream_complete)
    return {"__module__": __name__, **{method.__name__: method for method in methods}}


def _next(llm: Any, name: str) -> Any:
    """The LLM's own method, behind ours."""
    return getattr(super(_Constrained, llm), name)


def one_system(messages: Sequence[ChatMessage], block: str) -> list[ChatMessage]:
    """The messages with one system message, first, that ends with `block`; they are not changed.

    Nothing is touched if there is no block, or if one message holds all of it already and
    it is the only system message.
    """
    if not block:
        return list(messages)
    roles = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
    standing = [message for message in messages if message.role in roles]
    texts = [text for message in standing if (text := (message.content or "").strip("\n"))]
    if not any(block in text for text in texts):
        texts.append(block)
    first = ChatMessage(
        role=standing[0].role if standing else MessageRole.SYSTEM,
        blocks=[TextBlock(text="\n\n".join(texts) + "\n")],
        additional_kwargs=dict(standing[0].additional_kwargs) if standing else {},
    )
    return [first, *(message for message in messages if message.role not in roles)]


def _before(prompt: str, block: str) -> str:
    return prompt if not block or block in prompt else f"{block}\n\n{prompt}"
