"""The last look before the model: does the request really carry every constraint?"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import LLM

from langmem_plugin.session import Session
from llama_index.memory.langmem_plugin.base import HybridChatMemoryBuffer

AnyLLM = TypeVar("AnyLLM", bound=LLM)


def verified(llm: AnyLLM, source: HybridChatMemoryBuffer | Session) -> AnyLLM:
    """The same LLM; a request that lacks an active constraint raises `ConstraintMissing` instead of being sent.

    The LLM that is given is not changed, and the one returned is of a subclass of its
    class. Put it innermost, so that it sees what is really sent:
    `with_constraints(verified(llm, buffer), buffer)`.

    Example:
        >>> engine = SimpleChatEngine.from_defaults(llm=verified(llm, buffer), memory=buffer)  # doctest: +SKIP
    """
    wrapped: AnyLLM = copy.copy(llm)
    kind: Any = type(llm)
    wrapped.__class__ = type(kind)(kind.__name__, (_Verified, kind), _methods(source))
    return wrapped


class _Verified:
    """What every LLM of this module is."""


def _methods(source: HybridChatMemoryBuffer | Session) -> dict[str, Any]:
    """The overriding methods; they hold their source by closure, so the model gets no new field."""
    roles = (MessageRole.SYSTEM, MessageRole.DEVELOPER)

    def look(text: str) -> None:
        session = source.session if isinstance(source, HybridChatMemoryBuffer) else source
        session.verify_request(text)

    def look_at(messages: Sequence[ChatMessage]) -> None:
        look("\n".join(message.content or "" for message in messages if message.role in roles))

    def chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        look_at(messages)
        return _next(self, "chat")(messages, **kwargs)

    def stream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        look_at(messages)
        return _next(self, "stream_chat")(messages, **kwargs)

    async def achat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        look_at(messages)
        return await _next(self, "achat")(messages, **kwargs)

    async def astream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        look_at(messages)
        return await _next(self, "astream_chat")(messages, **kwargs)

    def complete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        look(prompt)
        return _next(self, "complete")(prompt, formatted=formatted, **kwargs)

    async def acomplete(self: Any, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        look(prompt)
        return await _next(self, "acomplete")(prompt, formatted=formatted, **kwargs)

    methods = (chat, stream_chat, achat, astream_chat, complete, acomplete)
    return {"__module__": __name__, **{method.__name__: method for method in methods}}


def _next(llm: Any, name: str) -> Any:
    """The LLM's own method, behind ours."""
    return getattr(super(_Verified, llm), name)
