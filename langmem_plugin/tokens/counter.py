"""The counter: one source of counts, a cache, and the sums for messages and requests."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, assert_never

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Block, Media, Message, Other, Reasoning, Text
from langmem_plugin.tokens.discover import callable_source, is_model, model_source, named_source, names_of
from langmem_plugin.tokens.huggingface import huggingface_source, is_huggingface
from langmem_plugin.tokens.overheads import Overheads, media_tokens, tool_tokens
from langmem_plugin.tokens.pictures import Pictures, pictures_for
from langmem_plugin.tokens.source import Source, bound

_CACHED = 16_384
_FIGURES = tuple(name for name in Overheads.__dataclass_fields__ if name != "pictures")


class TokenCounter:
    """Counts tokens as one model does; the same text always gives the same number.

    Thread-safe. Counts are cached under a keyed hash of the text (16,384 of them), so the cache
    holds nothing that anyone said.

    Example:
        >>> TokenCounter.approximate().count("day")
        4
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cache: OrderedDict[bytes, int] = OrderedDict()
        self._lock = threading.Lock()
        self._key = os.urandom(16)

    @classmethod
    def for_model(cls, name: str) -> TokenCounter:
        """The counter for a model's name, such as "gpt-4o" or "azure/gpt-4.1-2025-04-14".

        A name whose vocabulary is not known, or cannot be had offline, gives a counter that
        never under-counts and a `TokenizerWarning`. A path counts as `from_huggingface`.

        Raises:
            InvalidSetting: The name is empty, or a path and nothing is there.
        """
        return cls(_seeing(named_source(name), name))

    @classmethod
    def from_huggingface(cls, tokenizer: object) -> TokenCounter:
        """The counter of a loaded tokenizer, a `tokenizer.json` or a folder that holds one.

        Raises:
            InvalidSetting: Nothing usable is there.
            MissingExtra: The package `tokenizers` is not installed.
        """
        return cls(huggingface_source(tokenizer))

    @classmethod
    def from_callable(cls, fn: Callable[[str], int]) -> TokenCounter:
        """The counter that asks `fn` for each text; it must be thread-safe and give the same each time."""
        return cls(callable_source(fn))

    @classmethod
    def from_model(cls, model: object) -> TokenCounter:
        """The counter for a chat model of LangChain or an LLM of LlamaIndex.

        Raises:
            InvalidSetting: The object says neither its name nor how it counts.
        """
        return cls(_seeing(model_source(model), *names_of(model)))

    @classmethod
    def approximate(cls) -> TokenCounter:
        """The counter that needs no vocabulary: one token a byte of UTF-8, never too few.

        It is about 4.5 times too high for English. Use it where nothing better is at hand.
        """
        return cls(bound())

    @property
    def name(self) -> str:
        """What counts, for reports: "tiktoken o200k_base"."""
        return self._source.name

    @property
    def exact(self) -> bool:
        """True if a tokenizer counts the text; False for the upper bound."""
        return self._source.exact

    @property
    def overheads(self) -> Overheads:
        """What is added around the text."""
        return self._source.overheads

    @property
    def priming(self) -> int:
        """What a request adds once for the answer's opening."""
        return self.overheads.reply

    def with_overheads(self, **changes: int) -> TokenCounter:
        """The same counter with other framing figures, for example `image=85` for images of any size.

        Raises:
            InvalidSetting: No such figure, or one below 0.
        """
        for name, value in changes.items():
            if name not in _FIGURES:
                raise InvalidSetting("overheads", name, f"use one of {', '.join(_FIGURES)}")
            if not isinstance(value, int) or value < 0:
                raise InvalidSetting(name, value, "give a whole number of tokens >= 0")
        overheads = replace(self.overheads, pictures=None) if "image" in changes else self.overheads
        figures: dict[str, Any] = dict(changes)
        return TokenCounter(replace(self._source, overheads=replace(overheads, **figures)))

    def with_pictures(self, formula: str | Pictures) -> TokenCounter:
        """The same counter with another formula for images of a known size.

        Args:
            formula: The name of a model whose provider's formula is known, such as "claude-sonnet-4-5",
                or a function from width, height (pixels) and detail to tokens.

        Raises:
            InvalidSetting: No formula is known for that name.
        """
        found = pictures_for(formula) if isinstance(formula, str) else formula
        if found is None:
            raise InvalidSetting("pictures", formula, "name a model of OpenAI, Anthropic or Google, or give a function")
        return TokenCounter(replace(self._source, overheads=replace(self.overheads, pictures=found)))

    def __repr__(self) -> str:
        return f"TokenCounter({self.name!r}, exact={self.exact})"

    def count(self, text: str) -> int:
        """Tokens of a text; 0 for the empty one. Special tokens in it count as ordinary text."""
        if not text:
            return 0
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        counted = self._source.count(text)
        with self._lock:
            self._cache[key] = counted
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return counted

    def count_message(self, message: Message) -> int:
        """Tokens of a message with its framing, tool calls, name and media."""
        overheads = self.overheads
        total = overheads.message + sum(self._block(block) for block in message.blocks)
        # Text blocks reach some models joined by line breaks.
        total += max(0, len(message.blocks) - 1)
        for call in message.tool_calls:
            total += overheads.tool_call + self.count(call.name) + self._arguments(call.arguments)
            total += self.count(call.id or "")
        if message.tool_call_id:
            total += self.count(message.tool_call_id)
        if message.name:
            total += overheads.name + self.count(message.name)
        return total

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of tool schemas in OpenAI's, Anthropic's or plain JSON form; 0 for none.

        Raises:
            InvalidSetting: A schema is nested without end.
        """
        return tool_tokens(tools, self.overheads, self.count)

    def count_request(self, messages: Iterable[Message], tools: Sequence[Mapping[str, Any]] = ()) -> int:
        """Tokens of a whole request: messages, tool schemas and the answer's opening."""
        return sum(self.count_message(message) for message in messages) + self.count_tools(tools) + self.priming

    def _arguments(self, text: str) -> int:
        """Of a call's arguments as they are or as a framework writes them again, whichever is more."""
        return max(self.count(text), self.count(_written_again(text)))

    def _block(self, block: Block) -> int:
        match block:
            case Text():
                return self.count(block.text)
            case Reasoning():
                # A signature carries the full thinking encrypted; the text may be a digest of it.
                return max(self.count(block.text), len(block.signature or "") // 4)
            case Media():
                return media_tokens(block, self.overheads, self.count)
            case Other():
                return self.count(json.dumps(block.data, ensure_ascii=False, default=str))
            case _:
                assert_never(block)


def _written_again(arguments: str) -> str:
    """Both frameworks read a call's arguments and write them anew; none at all become an empty object."""
    try:
        read = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        return arguments
    return json.dumps(read, ensure_ascii=False) if isinstance(read, dict) else arguments


def _seeing(source: Source, *names: str) -> Source:
    """The source with its provider's formula for images."""
    found = next((formula for name in names if (formula := pictures_for(name)) is not None), None)
    return source if found is None else replace(source, overheads=replace(source.overheads, pictures=found))


def as_counter(given: object) -> TokenCounter:
    """A counter from whatever says how to count.

    Args:
        given: A `TokenCounter`, a model's name, a path or loaded tokenizer of Hugging Face, a
            model of LangChain or LlamaIndex, an object with `encode`, or a function from text
            to a number of tokens.

    Raises:
        InvalidSetting: It is none of these.
        MissingExtra: A package it needs is not installed.
    """
    match given:
        case TokenCounter():
            return given
        case str():
            return TokenCounter.for_model(given)
        case Path():
            return TokenCounter.from_huggingface(given)
    if is_huggingface(given):
        return TokenCounter.from_huggingface(given)
    if is_model(given):
        return TokenCounter.from_model(given)
    encode = getattr(given, "encode_ordinary", None) or getattr(given, "encode", None)
    if callable(encode):
        return TokenCounter.from_callable(lambda text: len(encode(text)))
    if callable(given):
        return TokenCounter.from_callable(given)
    raise InvalidSetting("model", type(given).__name__, "pass a model's name, a tokenizer or a function that counts")
