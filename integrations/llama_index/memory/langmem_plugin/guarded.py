"""An LLM that survives requests that are too long, and reports what they cost.

Engines and agents call the LLM themselves, after the memory gave its messages: what the
provider says to a request can only be met where it is sent.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.llms import LLM

from langmem_plugin.context.smaller import Shrinking
from langmem_plugin.messages import Message, Usage
from langmem_plugin.overflow import overflow_of
from langmem_plugin.session import Session
from langmem_plugin.tokens import TokenCounter
from llama_index.memory.langmem_plugin.base import HybridChatMemoryBuffer
from llama_index.memory.langmem_plugin.convert import from_core, to_core

AnyLLM = TypeVar("AnyLLM", bound=LLM)


def guarded(llm: AnyLLM, buffer: HybridChatMemoryBuffer) -> AnyLLM:
    """The same LLM; a request that it refuses as too long is sent again, smaller.

    Recall goes first, then half of the window, then three quarters, then all but the system
    prompt and the new message: at most four requests for one call, and `buffer.session.report`
    says what was done. What the provider reports of each request (`usage` of the raw
    response) corrects the memory's counting and counts towards its spending limits. The LLM
    that is given is not changed, and the one returned is of a subclass of its class.

    Example:
        >>> engine = SimpleChatEngine.from_defaults(llm=guarded(llm, buffer), memory=buffer)  # doctest: +SKIP
    """
    wrapped: AnyLLM = copy.copy(llm)
    kind: Any = type(llm)
    wrapped.__class__ = type(kind)(kind.__name__, (_Guarded, kind), _methods(buffer))
    return wrapped


class _Guarded:
    """What every LLM of this module is."""


def _methods(buffer: HybridChatMemoryBuffer) -> dict[str, Any]:
    """The overriding methods; they hold the buffer by closure, so the model gets no new field."""
    methods = (_chat(buffer), _achat(buffer), _stream_chat(buffer), _astream_chat(buffer))
    return {"__module__": __name__, **{method.__name__: method for method in methods}}


def _chat(buffer: HybridChatMemoryBuffer) -> Any:
    def chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        call = _Call(messages, buffer)
        while True:
            try:
                response = _next(self, "chat")(call.messages, **kwargs)
            except Exception as error:
                if not call.shrink(error):
                    raise
            else:
                call.report(response)
                return response

    return chat


def _achat(buffer: HybridChatMemoryBuffer) -> Any:
    async def achat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        call = _Call(messages, buffer)
        while True:
            try:
                response = await _next(self, "achat")(call.messages, **kwargs)
            except Exception as error:
                if not call.shrink(error):
                    raise
            else:
                call.report(response)
                return response

    return achat


def _stream_chat(buffer: HybridChatMemoryBuffer) -> Any:
    def stream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        call = _Call(messages, buffer)
        while True:
            try:
                stream = iter(_next(self, "stream_chat")(call.messages, **kwargs))
                first = next(stream, None)  # many clients send the request with the first step
            except Exception as error:
                if not call.shrink(error):
                    raise
            else:
                return _streamed(first, stream, call)

    return stream_chat


def _astream_chat(buffer: HybridChatMemoryBuffer) -> Any:
    async def astream_chat(self: Any, messages: Sequence[ChatMessage], **kwargs: Any) -> Any:
        call = _Call(messages, buffer)
        while True:
            try:
                stream = aiter(await _next(self, "astream_chat")(call.messages, **kwargs))
                first = await anext(stream, None)
            except Exception as error:
                if not call.shrink(error):
                    raise
            else:
                return _astreamed(first, stream, call)

    return astream_chat


def _streamed(first: Any, stream: Iterator[Any], call: _Call) -> Iterator[Any]:
    last = first
    if first is not None:
        yield first
    for last in stream:
        yield last
    call.report(last)


async def _astreamed(first: Any, stream: AsyncIterator[Any], call: _Call) -> AsyncIterator[Any]:
    last = first
    if first is not None:
        yield first
    async for last in stream:
        yield last
    call.report(last)


def _next(llm: Any, name: str) -> Any:
    """The LLM's own method, behind ours."""
    return getattr(super(_Guarded, llm), name)


class _Call:
    """One call of the LLM, with as many requests as it takes."""

    def __init__(self, messages: Sequence[ChatMessage], buffer: HybridChatMemoryBuffer) -> None:
        self.messages = list(messages)
        self._session: Session = buffer.session
        self._counter: TokenCounter = buffer.memory.counter
        core = [to_core(message) for message in self.messages]
        self._sent: Sequence[Message] = core
        self._known = {id(one): message for one, message in zip(core, self.messages, strict=True)}
        self._shrinking = Shrinking(core, counter=self._counter)

    def shrink(self, error: Exception) -> bool:
        """Make the request smaller; False if the error is another one, or nothing smaller is left."""
        overflow = overflow_of(error)
        if overflow is None:
            return False
        noted = len(self._shrinking.notes)
        smaller = self._shrinking.next(requested=overflow.requested, limit=overflow.limit)
        self._session.add_notes(*self._shrinking.notes[noted:])
        if smaller is None:
            return False
        self._sent = smaller
        self.messages = [self._known.get(id(one)) or from_core(one) for one in smaller]
        return True

    def report(self, response: Any) -> None:
        """Pass on what the provider reported."""
        usage = usage_of(response)
        if usage is None:
            return
        counted = self._counter.count_request(self._sent)
        model = _field(getattr(response, "raw", None), "model")
        self._session.report_usage(usage, counted=counted, model=model if isinstance(model, str) else "")


def usage_of(response: Any) -> Usage | None:
    """Tokens as the raw response reports them, in OpenAI's, Anthropic's, Gemini's or Ollama's form; None without."""
    raw = getattr(response, "raw", None)
    for source in (
        _field(raw, "usage"),
        _field(raw, "usage_metadata"),
        raw,
        getattr(response, "additional_kwargs", {}),
    ):
        prompt = _first(source, ("prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count"))
        if prompt is None:
            continue
        cached = _first(source, ("cache_read_input_tokens",)) or 0
        written = _first(source, ("cache_creation_input_tokens",)) or 0  # Anthropic counts both apart
        prompt += cached + written
        answer = _first(source, ("completion_tokens", "output_tokens", "candidates_token_count", "eval_count")) or 0
        return Usage(input_tokens=prompt, output_tokens=answer, total_tokens=prompt + answer, cached_tokens=cached)
    return None


def _field(source: Any, name: str) -> Any:
    return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)


def _first(source: Any, names: Sequence[str]) -> int | None:
    for name in names:
        value = _field(source, name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None
