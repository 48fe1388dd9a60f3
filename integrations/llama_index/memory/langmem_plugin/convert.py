"""LlamaIndex's `ChatMessage` to the neutral `Message`, and back without loss.

A payload is kept only where the neutral fields cannot give the same `ChatMessage` back:
a legacy form of tool calls, a role that only LlamaIndex has, blocks in an unusual order.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterable, Mapping
from dataclasses import replace
from io import IOBase
from pathlib import Path
from typing import Any, Final

from llama_index.core.base.llms.types import (
    AudioBlock,
    CachePoint,
    ChatMessage,
    CitableBlock,
    CitationBlock,
    DocumentBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
    VideoBlock,
)
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import (
    Block,
    JsonObject,
    Media,
    Message,
    Other,
    Payload,
    Reasoning,
    Role,
    Text,
    ToolCall,
)

FRAMEWORK: Final = "llama_index"

_ROLES: Final = {
    MessageRole.SYSTEM: Role.SYSTEM,
    MessageRole.DEVELOPER: Role.SYSTEM,
    MessageRole.USER: Role.USER,
    MessageRole.ASSISTANT: Role.ASSISTANT,
    MessageRole.CHATBOT: Role.ASSISTANT,
    MessageRole.MODEL: Role.ASSISTANT,
    MessageRole.TOOL: Role.TOOL,
    MessageRole.FUNCTION: Role.TOOL,
}
_ONLY_HERE: Final = {"cache": CachePoint, "citable": CitableBlock, "citation": CitationBlock}
_OWN_FIELDS: Final = frozenset({"tool_calls", "function_call", "tool_call_id", "name", "images"})
"""Keys of `additional_kwargs` that are part of the message rather than facts about it."""


def to_core(chat: ChatMessage) -> Message:
    """The neutral form of a `ChatMessage`.

    Bytes become base64, and a value that JSON has no form for is kept as its text.

    Raises:
        InvalidMessage: A field cannot be written as JSON (text with broken encoding, a cycle).
    """
    extra = _plain(chat.additional_kwargs)
    blocks: list[Block] = []
    calls: list[ToolCall] = []
    for block in chat.blocks:
        if isinstance(block, ToolCallBlock):
            calls.append(_call_from_block(block))
        else:
            blocks.append(_from_block(block))
    if not calls:
        calls = list(_legacy_calls(extra))
    call_id, name = extra.get("tool_call_id"), extra.get("name")
    message = Message(
        role=_ROLES[chat.role],
        blocks=tuple(blocks),
        tool_calls=tuple(calls),
        tool_call_id=call_id if isinstance(call_id, str) else None,
        name=name if isinstance(name, str) else None,
        metadata={key: value for key, value in extra.items() if key not in _OWN_FIELDS},
    )
    if _same(from_core(message), chat):
        return message
    return replace(message, payload=Payload(framework=FRAMEWORK, data=_dump(chat, extra)))


def from_core(message: Message) -> ChatMessage:
    """A new `ChatMessage`; exactly the stored one if it came from LlamaIndex."""
    if message.payload is not None and message.payload.framework == FRAMEWORK:
        try:
            return ChatMessage.model_validate(message.payload.data)
        except ValidationError:
            pass  # a file that an image block named is gone; the neutral form keeps its address
    extra: dict[str, Any] = json.loads(json.dumps(message.metadata)) if message.metadata else {}
    if message.tool_call_id is not None:
        extra["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        extra["name"] = message.name
    blocks = [made for block in message.blocks if (made := _to_block(block)) is not None]
    blocks.extend(_call_to_block(call) for call in message.tool_calls)
    return ChatMessage(role=MessageRole(message.role.value), blocks=blocks, additional_kwargs=extra)


def with_payload(message: Message) -> Message:
    """The message with LlamaIndex's own form beside it, so that its neutral fields may differ from that."""
    if message.payload is not None:
        return message
    chat = from_core(message)
    return replace(message, payload=Payload(framework=FRAMEWORK, data=_dump(chat, _plain(chat.additional_kwargs))))


def _same(one: ChatMessage, other: ChatMessage) -> bool:
    """Equal as LlamaIndex dumps them."""
    try:
        return bool(one.model_dump() == other.model_dump())
    except (PydanticSerializationError, ValueError, TypeError):
        return False


def _dump(chat: ChatMessage, extra: JsonObject) -> JsonObject:
    """The whole message as plain JSON that `ChatMessage.model_validate` accepts."""
    try:
        blocks = [_with_bytes_as_text(block.model_dump()) for block in chat.blocks]
        data = to_jsonable_python(blocks, fallback=str)
    except (PydanticSerializationError, ValueError, UnicodeError) as error:
        raise InvalidMessage(
            f"a message block is not plain JSON ({type(error).__name__})", "pass text, base64 or addresses"
        ) from error
    kept = {key: value for key, value in extra.items() if key != "images"}  # they are blocks by now
    return {"role": chat.role.value, "blocks": data, "additional_kwargs": kept}


def _with_bytes_as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return _base64_text(value)
    if isinstance(value, Mapping):
        return {key: _with_bytes_as_text(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_bytes_as_text(item) for item in value]
    return value


def _plain(extra: Mapping[str, Any]) -> JsonObject:
    """`additional_kwargs` as LlamaIndex would dump them: models as dicts, bytes as base64."""

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return plain(value.model_dump())
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return value

    if not extra:
        return {}
    try:
        known: JsonObject = to_jsonable_python(
            plain({key: value for key, value in extra.items() if key != "images"}), fallback=str
        )
    except (PydanticSerializationError, ValueError, UnicodeError, RecursionError) as error:
        raise InvalidMessage(
            f"additional_kwargs are not plain JSON ({type(error).__name__})", "pass text, numbers, lists and dicts"
        ) from error
    return known


# -- blocks -------------------------------------------------------------------------------


def _from_block(block: Any) -> Block:
    match block:
        case TextBlock():
            return Text(block.text)
        case ThinkingBlock():
            signature = block.additional_information.get("signature")
            return Reasoning(text=block.content or "", signature=signature if isinstance(signature, str) else None)
        case ImageBlock():
            return Media(
                kind="image",
                url=_address(block),
                data=_data(block.image),
                mime_type=block.image_mimetype,
                detail=block.detail,
            )
        case AudioBlock():
            return Media(
                kind="audio",
                url=_address(block),
                data=_data(block.audio),
                mime_type=f"audio/{block.format}" if block.format else None,
            )
        case VideoBlock():
            return Media(
                kind="video",
                url=_address(block),
                data=_data(block.video),
                mime_type=block.video_mimetype,
                detail=block.detail,
            )
        case DocumentBlock():
            return Media(
                kind="file",
                url=_address(block),
                data=_data(block.data),
                mime_type=block.document_mimetype,
                name=block.title,
            )
        case _:
            return Other(framework=FRAMEWORK, data=_with_bytes_as_text(block.model_dump(mode="json")))


def _to_block(block: Block) -> Any:
    """LlamaIndex's block, or None for what LlamaIndex has no block for."""
    match block:
        case Text():
            return TextBlock(text=block.text)
        case Reasoning():
            proof = {"signature": block.signature} if block.signature is not None else {}
            return ThinkingBlock(content=block.text, additional_information=proof)
        case Media():
            return _media_to_block(block)
        case Other():
            if block.framework == FRAMEWORK:
                kind = _ONLY_HERE.get(str(block.data.get("block_type")))
                if kind is not None:
                    return TypeAdapter(kind).validate_python(block.data)
                return None
            text = block.data.get("text")
            return TextBlock(text=text) if isinstance(text, str) and text else None


def _media_to_block(media: Media) -> Any:
    data = media.data.encode() if media.data is not None else None
    match media.kind:
        case "image":
            return ImageBlock(image=data, url=media.url, image_mimetype=media.mime_type, detail=media.detail)
        case "audio":
            return AudioBlock(audio=data, url=media.url, format=_subtype(media.mime_type))
        case "video":
            return VideoBlock(video=data, url=media.url, video_mimetype=media.mime_type, detail=media.detail)
        case "file":
            mime = media.mime_type or mimetypes.guess_type(media.name or media.url or "")[0]
            if data is None and media.url is None:
                return None
            return DocumentBlock(
                data=data, url=media.url, title=media.name, document_mimetype=mime or "application/octet-stream"
            )


def _subtype(mime_type: str | None) -> str | None:
    return mime_type.partition("/")[2] or None if mime_type else None


def _address(block: Any) -> str | None:
    if block.url is not None:
        return str(block.url)
    if block.path is None:
        return None
    path = Path(block.path)
    return path.absolute().as_uri()


def _data(value: bytes | IOBase | None) -> str | None:
    if value is None or isinstance(value, bytes):
        data = value
    else:
        value.seek(0)
        data = value.read()  # type: ignore[attr-defined, unused-ignore]
    return _base64_text(data) if data else None


def _base64_text(value: bytes) -> str:
    """Base64 as text; what is base64 already (LlamaIndex's own validators make it so) stays."""
    try:
        text = value.decode("ascii")
        base64.b64decode(text, validate=True)
    except (UnicodeDecodeError, ValueError):
        return base64.b64encode(value).decode()
    return text


# -- tool calls ---------------------------------------------------------------------------


def _call_from_block(block: ToolCallBlock) -> ToolCall:
    return ToolCall(id=block.tool_call_id, name=block.tool_name, arguments=_arguments(block.tool_kwargs))


def _call_to_block(call: ToolCall) -> ToolCallBlock:
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        arguments = None
    kwargs = arguments if isinstance(arguments, dict) else call.arguments
    return ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=kwargs)


def _arguments(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(_plain({"": value})[""], ensure_ascii=False)


def _legacy_calls(extra: Mapping[str, Any]) -> Iterable[ToolCall]:
    """Calls out of `additional_kwargs`: OpenAI's form, `ToolSelection`, or the first function calls."""
    calls = extra.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, Mapping):
            continue
        function = call.get("function")
        if isinstance(function, Mapping):  # OpenAI: {"id", "type", "function": {"name", "arguments"}}
            yield ToolCall(
                id=_text_or_none(call.get("id")),
                name=str(function.get("name") or ""),
                arguments=_arguments(function.get("arguments") or "{}"),
            )
        elif call.get("tool_name") is not None:  # ToolSelection
            yield ToolCall(
                id=_text_or_none(call.get("tool_id")),
                name=str(call["tool_name"]),
                arguments=_arguments(call.get("tool_kwargs") or {}),
            )
        elif call.get("name") is not None:  # Ollama, Anthropic, Bedrock: {"name", "input" | "args" | "arguments"}
            given: Any = next((call[key] for key in ("arguments", "args", "input") if call.get(key) is not None), {})
            yield ToolCall(
                id=_text_or_none(call.get("id") or call.get("toolUseId")),
                name=str(call["name"]),
                arguments=_arguments(given),
            )
    function = extra.get("function_call")
    if not calls and isinstance(function, Mapping):
        yield ToolCall(
            id=None, name=str(function.get("name") or ""), arguments=_arguments(function.get("arguments") or "{}")
        )


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
