"""What a request costs beside its text: framing, names, tool schemas, images and files."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Media
from langmem_plugin.tokens.pictures import Pictures, picture_size

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheads:
    """Tokens that a provider adds around the text.

    The defaults are OpenAI's published figures (the cookbook "How to count tokens with
    tiktoken", the vision guide). Where a provider publishes nothing they lean high.
    """

    message: int = 4
    """Around each message: 3, and one for the role."""
    name: int = 1
    """For a message that has a name, beside the name's own tokens."""
    reply: int = 3
    """Once a request: the answer's opening."""
    tool_call: int = 8
    """Around each tool call of an assistant, beside name, id and arguments."""
    tool: int = 10
    """Around each tool schema (the cookbook has 7 for gpt-4o, 10 for gpt-4)."""
    tools: int = 12
    """Once a request that has tools."""
    image_low: int = 85
    """An image sent with detail "low"."""
    image: int = 1_445
    """Any other image whose size is not known, as the largest: gpt-4o takes 85 + 170 for each tile
    of 512 pixels, after scaling to at most 768 x 2048, so at most 8 tiles."""
    pictures: Pictures | None = None
    """What an image of a known size takes; its size is read from data, nothing is fetched."""
    media: int = 2_048
    """Audio, video or a file given by address, and the least for one given as data."""

    @classmethod
    def cautious(cls) -> Overheads:
        """For a chat template that is not known.

        ChatML (Qwen, SmolLM) and Llama 3 put 5 tokens around a message, gpt-oss up to 7; some
        templates add a system prompt of their own (Qwen 2.5 about 25, Llama 3.1 about 30).
        """
        return cls(message=8, reply=48)


def media_tokens(media: Media, overheads: Overheads, count: Count) -> int:
    """Tokens for a picture, recording or file: an estimate that leans high, not a promise.

    Text files are counted as text. Otherwise data counts by its size: Gemini takes 32 tokens
    for a second of audio and about 300 for one of video, and the leanest common codecs spend
    some 30 bytes on a token of either; a PDF spends some 4.
    """
    if media.kind == "image":
        seen = picture_size(media.data) if media.data is not None and overheads.pictures is not None else None
        if seen is not None and overheads.pictures is not None:
            return overheads.pictures(*seen, media.detail)
        return overheads.image_low if media.detail == "low" else overheads.image
    named = count(media.name) if media.name else 0
    if media.data is None:
        return overheads.media + named
    if media.kind == "file" and (media.mime_type or "").startswith("text/"):
        try:
            return count(base64.b64decode(media.data).decode("utf-8", "replace")) + named
        except binascii.Error:
            return count(media.data) + named
    size = len(media.data) * 3 // 4
    return max(overheads.media, size // (4 if media.kind == "file" else 30)) + named


def tool_tokens(tools: Sequence[Mapping[str, Any]], overheads: Overheads, count: Count) -> int:
    """Tokens for the tool schemas of a request; 0 for none.

    OpenAI renders schemas into text it does not publish; the cookbook's formula reproduces the
    billed figure for flat schemas. Here each tool counts as the larger of that formula, applied
    to nested properties as well, and its JSON text, which other providers put into the
    prompt as it stands.

    Raises:
        InvalidSetting: A schema is nested without end.
    """
    if not tools:
        return 0
    total = overheads.tools
    for tool in tools:
        try:
            text = json.dumps(tool, ensure_ascii=False, default=str)
        except (ValueError, RecursionError) as error:
            raise InvalidSetting("tools", type(tool).__name__, "give schemas that JSON can hold") from error
        total += overheads.tool + max(count(text), _formula(tool, count))
    return total


def _formula(tool: Mapping[str, Any], count: Count) -> int:
    inner = tool.get("function")
    spec: Mapping[str, Any] = inner if isinstance(inner, Mapping) else tool
    described = f"{spec.get('name', '')}:{str(spec.get('description') or '').removesuffix('.')}"
    total = count(described)
    for parameters in (spec.get("parameters"), spec.get("input_schema")):
        if isinstance(parameters, Mapping):
            total += sum(_schema_tokens(parameters, count, 0))
    return total


_DEEPEST = 64
"""Levels of nesting that the formula follows; the JSON text covers what lies deeper."""


def _schema_tokens(schema: Mapping[str, Any], count: Count, depth: int) -> Iterator[int]:
    properties = schema.get("properties")
    if depth >= _DEEPEST or not isinstance(properties, Mapping):
        return
    if properties:
        yield 3
    for key, value in properties.items():
        if not isinstance(value, Mapping):
            continue
        described = f"{key}:{value.get('type', '')}:{str(value.get('description') or '').removesuffix('.')}"
        yield 3 + count(described)
        choices = value.get("enum")
        if isinstance(choices, Sequence) and not isinstance(choices, str):
            # The cookbook takes 3 off once for an enum; left out, because the sum may not be low.
            yield sum(3 + count(str(choice)) for choice in choices)
        yield from _schema_tokens(value, count, depth + 1)
        items = value.get("items")
        if isinstance(items, Mapping):
            yield from _schema_tokens(items, count, depth + 1)
