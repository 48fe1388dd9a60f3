"""Telling that a provider refused a request because it is too long, whoever the provider is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_CLASSES = ("ContextOverflowError", "ContextWindowExceededError", "ContextLengthExceededError")
"""LangChain's, LiteLLM's, and what others call it."""
_CODES = ("context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded")
_LONGEST = 20_000
"""A longer error text is read up to here."""

_TOO_LONG = re.compile(
    r"maximum context length"  # OpenAI, vLLM, Mistral, DeepSeek, OpenRouter
    r"|context_length_exceeded|exceed_context_size|model_context_window_exceeded"
    r"|exceeds? (?:the )?(?:model'?s )?(?:available )?context (?:size|window|length|limit)"  # llama.cpp, OpenAI
    r"|context (?:size|window|length|limit) (?:has been |was |is )?exceed"  # Ollama, LM Studio
    r"|exceeds? (?:the )?context limit|exceed context window of \d+"  # Anthropic, llama-cpp-python
    r"|prompt is too long"  # Anthropic
    r"|prompt .{0,60}is too long|decoder prompt .{0,60}longer than"  # vLLM
    r"|input (?:is|was) too long|input length .{0,40}exceeds"  # Bedrock, Ollama
    r"|input tokens? exceed|input token count .{0,40}exceeds"  # OpenAI, Gemini
    r"|maximum (?:prompt|input|sequence) length|maximum number of (?:input )?tokens"  # xAI, Gemini
    r"|reduce the length of (?:the|your) (?:messages|prompt|input)"  # OpenAI, Groq
    r"|too many tokens in|inputs`? tokens .{0,30}must be"  # Cohere, TGI
    r"|larger than the (?:maximum )?context|greater than the context length"  # LM Studio
    r"|requested tokens .{0,20}exceed",  # llama-cpp-python
    re.IGNORECASE,
)
_OTHER_LIMIT = re.compile(
    r"rate.?limit|tokens? per (?:minute|day)|\btpm\b|\bquota\b|too many requests|max_tokens is too large", re.IGNORECASE
)
_NUMBER = r"(\d[\d,_]{0,14})"
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"exceed context limit: {_NUMBER} \+ [\d,]+ > (?P<limit>[\d,]+)",
        rf"too long: {_NUMBER} tokens > (?P<limit>[\d,]+)",
        rf"maximum context length is (?P<limit>[\d,]+) tokens[^0-9]{{1,120}}?{_NUMBER}",
        rf"maximum prompt length is (?P<limit>[\d,]+)[^0-9]{{1,80}}?{_NUMBER}",
        rf"requested tokens \({_NUMBER}\) exceed context window of (?P<limit>[\d,]+)",
        rf"request \({_NUMBER} tokens\) exceeds the available context size \((?P<limit>[\d,]+)",
        rf"n_prompt_tokens['\"]?\s*[:=]\s*{_NUMBER}.{{0,80}}?n_ctx['\"]?\s*[:=]\s*(?P<limit>[\d,]+)",
        rf"total length {_NUMBER}\) is too long .{{0,80}}?context length (?P<limit>[\d,]+)",
        r"maximum number of tokens allowed \(?(?P<limit>[\d,]+)",
        r"(?:context (?:length|size|window)|limit) (?:of|is) (?P<limit>[\d,]+)",
    )
)


@dataclass(frozen=True, slots=True)
class Overflow:
    """A request that was too long, and the numbers the provider gave."""

    requested: int | None = None
    """Tokens that the provider counted; with the answer's reserve where it counts that in."""
    limit: int | None = None
    """Tokens that the model takes."""


def overflow_of(error: BaseException) -> Overflow | None:
    """What a provider says of a request that is too long; None for every other error.

    Reads the classes, codes and texts of the error and of what caused it. Knows LangChain's
    `ContextOverflowError` and the forms of OpenAI, Anthropic, Gemini, Mistral, xAI, Groq,
    Cohere, Bedrock, LiteLLM, llama.cpp, vLLM, TGI, Ollama and LM Studio. A rate limit in tokens is none.

    Example:
        >>> overflow_of(ValueError("prompt is too long: 201000 tokens > 200000 maximum"))
        Overflow(requested=201000, limit=200000)
    """
    for one in _chain(error):
        text = _text(one)
        named = any(kind.__name__.endswith(_CLASSES) for kind in type(one).__mro__) or _code(one) in _CODES
        if named or (_TOO_LONG.search(text) and not _OTHER_LIMIT.search(text)):
            return _numbers(text)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _text(error: BaseException) -> str:
    parts = [str(error)]
    body = getattr(error, "body", None)
    if body:
        parts.append(str(body))
    return " ".join(parts)[:_LONGEST]


def _code(error: BaseException) -> str:
    code: Any = getattr(error, "code", None)
    body = getattr(error, "body", None)
    if code is None and isinstance(body, dict):
        inner = body.get("error", body)
        code = inner.get("code") or inner.get("type") if isinstance(inner, dict) else None
    return code if isinstance(code, str) else ""


def _numbers(text: str) -> Overflow:
    for pattern in _LIMITS:
        if found := pattern.search(text):
            groups = found.groupdict()
            others = [group for group in found.groups() if group and group != groups["limit"]]
            return Overflow(_whole(others[0]) if others else None, _whole(groups["limit"]))
    return Overflow()


def _whole(digits: str) -> int | None:
    digits = digits.replace(",", "").replace("_", "")
    return int(digits) if digits else None
