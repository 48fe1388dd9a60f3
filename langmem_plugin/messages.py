"""What is said: messages as frozen values, independent of any framework.

Adapters translate a framework's messages into `Message` and back. What the
neutral fields cannot express travels in `payload`, so that the same framework
gets its own message back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal, TypeAlias, assert_never

from langmem_plugin.errors import InvalidMessage

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A JSON value."""

JsonObject: TypeAlias = "dict[str, Json]"
"""A JSON object."""


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """A run of text."""

    text: str
    attached: bool = False
    """It is a file's, handed over beside what is said: shown and found like the rest, but nobody's statement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """An image, audio, video or file: by address or base64 data, never fetched by us."""

    kind: Literal["image", "audio", "video", "file"]
    url: str | None = None
    data: str | None = None
    """Base64."""
    mime_type: str | None = None
    name: str | None = None
    detail: str | None = None
    """A provider's resolution hint, such as "low" or "high"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasoning:
    """A model's thinking, kept apart from its answer."""

    text: str
    signature: str | None = None
    """A provider's proof of the thinking, sent back unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A block that only one framework or provider knows, kept as it was given."""

    framework: str
    """"langchain" or "llama_index"."""
    data: JsonObject


Block: TypeAlias = Text | Media | Reasoning | Other


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A request of the model to run a tool."""

    id: str | None
    name: str
    arguments: str
    """The arguments as JSON text, as the model wrote them where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider reported them."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    """The part of `input_tokens` that a prefix cache served."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """What one framework's message holds beyond the neutral fields, as plain JSON."""

    framework: str
    """"langchain" or "llama_index"."""
    data: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation.

    Equality is by value. `blocks` is empty for an assistant message that only
    calls tools. A tool result has role `tool` and names its call in `tool_call_id`.
    """

    role: Role
    blocks: tuple[Block, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    id: str | None = None
    """The framework's id of the message; what a repeated delivery is recognised by."""
    name: str | None = None
    usage: Usage | None = None
    metadata: JsonObject = field(default_factory=dict)
    """The application's own facts about the message (additional kwargs)."""
    payload: Payload | None = None

    @property
    def text(self) -> str:
        """The text blocks, joined by line breaks; "" if there are none."""
        if len(self.blocks) == 1 and isinstance(self.blocks[0], Text):
            return self.blocks[0].text
        return "\n".join(block.text for block in self.blocks if isinstance(block, Text))

    @property
    def said(self) -> str:
        """`text` with what is attached blanked out, place for place: the part that can state anything."""
        if not any(isinstance(block, Text) and block.attached for block in self.blocks):
            return self.text
        texts = [block for block in self.blocks if isinstance(block, Text)]
        return "\n".join("\n" * len(block.text) if block.attached else block.text for block in texts)

    def prepend(self, text: str) -> Message:
        """The same message with `text` before its first text block, for one request.

        The framework payload is left out, because it would repeat the old text.
        """
        if not text:
            return self
        blocks = list(self.blocks)
        for position, block in enumerate(blocks):
            if isinstance(block, Text):
                blocks[position] = Text(text + block.text)
                break
        else:
            blocks.insert(0, Text(text))
        return replace(self, blocks=tuple(blocks), payload=None)

    def with_text(self, text: str) -> Message:
        """The same message with all its blocks replaced by `text`, for one request."""
        return replace(self, blocks=(Text(text),), payload=None)

    def to_json(self) -> JsonObject:
        """The message as plain JSON; fields at their default are left out."""
        out: JsonObject = {"role": self.role.value}
        if len(self.blocks) == 1 and isinstance(self.blocks[0], Text):
            out["text"] = self.blocks[0].text
        elif self.blocks:
            out["blocks"] = [_block_to_json(block) for block in self.blocks]
        if self.tool_calls:
            out["tool_calls"] = [{"id": c.id, "name": c.name, "arguments": c.arguments} for c in self.tool_calls]
        for key in ("tool_call_id", "id", "name"):
            if (value := getattr(self, key)) is not None:
                out[key] = value
        if self.usage is not None:
            out["usage"] = {
                "input_tokens": self.usage.input_tokens,
                "output_tokens": self.usage.output_tokens,
                "total_tokens": self.usage.total_tokens,
                "cached_tokens": self.usage.cached_tokens,
            }
        if self.metadata:
            out["metadata"] = self.metadata
        if self.payload is not None:
            out["payload"] = {"framework": self.payload.framework, "data": self.payload.data}
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Message:
        """The message that `to_json` wrote.

        Raises:
            InvalidMessage: The data is not a message of this package.
        """
        try:
            if "text" in data:
                blocks: tuple[Block, ...] = (Text(data["text"]),)
            else:
                blocks = tuple(_block_from_json(block) for block in data.get("blocks", ()))
            usage = data.get("usage")
            payload = data.get("payload")
            return cls(
                role=Role(data["role"]),
                blocks=blocks,
                tool_calls=tuple(ToolCall(**call) for call in data.get("tool_calls", ())),
                tool_call_id=data.get("tool_call_id"),
                id=data.get("id"),
                name=data.get("name"),
                usage=Usage(**usage) if usage else None,
                metadata=data.get("metadata", {}),
                payload=Payload(**payload) if payload else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidMessage("the data is not a stored message", "restore it from the log") from error


def user(text: str, *, id: str | None = None, name: str | None = None) -> Message:
    """A user's message."""
    return Message(role=Role.USER, blocks=(Text(text),), id=id, name=name)


def assistant(text: str = "", *tool_calls: ToolCall, id: str | None = None, name: str | None = None) -> Message:
    """An assistant's message; without text it only calls tools."""
    return Message(
        role=Role.ASSISTANT, blocks=(Text(text),) if text else (), tool_calls=tuple(tool_calls), id=id, name=name
    )


def system(text: str) -> Message:
    """A system message."""
    return Message(role=Role.SYSTEM, blocks=(Text(text),))


def tool_result(text: str, *, call_id: str | None, name: str | None = None, id: str | None = None) -> Message:
    """The result of a tool call."""
    return Message(role=Role.TOOL, blocks=(Text(text),), tool_call_id=call_id, name=name, id=id)


FORGOTTEN = "[forgotten]"
"""What stands where a message was forgotten."""


def forgotten(message: Message) -> Message:
    """The tombstone of a message: its role, its id and its place among tool calls, and nothing that was said."""
    return Message(
        role=message.role,
        blocks=(Text(FORGOTTEN),),
        tool_calls=tuple(replace(call, arguments="{}") for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
        id=message.id,
    )


def dump_json(value: Json) -> str:
    """Compact JSON text that every database accepts.

    A NUL is always escaped by JSON; text with a lone surrogate is escaped to ASCII
    as a whole, because UTF-8 cannot hold it. Both come back exactly.

    Raises:
        InvalidMessage: A value is not JSON (an object of a class, NaN, a cycle, too deep).
    """
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        text.encode()
    except UnicodeEncodeError:
        if _PAIR.search(text):
            return _APART + json.dumps(_each_text(value, _set_apart), separators=(",", ":"), allow_nan=False)
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(
            f"a field is not plain JSON ({type(error).__name__})", "pass text, numbers, lists and dicts"
        ) from error
    return text


def load_json(text: str) -> Any:
    """The value that `dump_json` wrote."""
    if text.startswith(_APART):
        return _each_text(json.loads(text), _put_together)
    return json.loads(text)


# Escaped to ASCII, a high and a low surrogate side by side are what a character beyond U+FFFF is, and JSON
# reads them as that: then a mark is put between them, and before the text as a whole a tab, which JSON skips.
_APART = "\t"
_MARK = "\uf8ff"
_PAIR = re.compile("(?<=[\ud800-\udbff])(?=[\udc00-\udfff])")


def _set_apart(text: str) -> str:
    return _PAIR.sub(_MARK + "1", text.replace(_MARK, _MARK + "0"))


def _put_together(text: str) -> str:
    return text.replace(_MARK + "1", "").replace(_MARK + "0", _MARK)


def _each_text(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    if isinstance(value, dict):
        return {change(name): _each_text(one, change) for name, one in value.items()}
    return value


def _block_to_json(block: Block) -> JsonObject:
    match block:
        case Text():
            return {"type": "text", "text": block.text, **({"attached": True} if block.attached else {})}
        case Media():
            fields: JsonObject = {"type": block.kind}
            for key in ("url", "data", "mime_type", "name", "detail"):
                if (value := getattr(block, key)) is not None:
                    fields[key] = value
            return fields
        case Reasoning():
            return {"type": "reasoning", "text": block.text, "signature": block.signature}
        case Other():
            return {"type": "other", "framework": block.framework, "data": block.data}
        case _:
            assert_never(block)


def _block_from_json(data: Mapping[str, Any]) -> Block:
    fields = {key: value for key, value in data.items() if key != "type"}
    match data["type"]:
        case "text":
            return Text(**fields)
        case "image" | "audio" | "video" | "file":
            return Media(kind=data["type"], **fields)
        case "reasoning":
            return Reasoning(**fields)
        case "other":
            return Other(**fields)
        case kind:
            raise ValueError(kind)
