"""LlamaIndex's chat messages as JSON: what `SimpleChatStore.persist` and a message's own dump hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import (
    Block,
    Json,
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

FRAMEWORK = "llama_index"

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "chatbot": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_OWN_FIELDS = {"tool_calls", "function_call", "tool_call_id", "name", "images"}
"""Keys of `additional_kwargs` that are part of the message rather than facts about it."""
_BYTES = {"image": "image", "audio": "audio", "video": "video", "document": "data"}
_MIME = {"image": "image_mimetype", "video": "video_mimetype", "document": "document_mimetype"}


def is_message(data: Mapping[str, Any]) -> bool:
    """Whether the JSON object is a dump of a `ChatMessage`, of this or an earlier release."""
    return data.get("role") in _ROLES and ("blocks" in data or "additional_kwargs" in data)


def message_of(data: Mapping[str, Any]) -> Message:
    """The neutral form of a dumped `ChatMessage`; LlamaIndex gets the same message back.

    Raises:
        InvalidMessage: It is no such dump.
    """
    try:
        extra: JsonObject = dict(data.get("additional_kwargs") or {})
        held = list(data["blocks"]) if "blocks" in data else _old_content(data.get("content"))
        calls = [_call_of(block) for block in held if block["block_type"] == "tool_call"]
        legacy = not calls and bool(_legacy(extra))
        call_id, name = extra.get("tool_call_id"), extra.get("name")
        message = Message(
            role=_ROLES[data["role"]],
            blocks=tuple(_block(block) for block in held if block["block_type"] != "tool_call"),
            tool_calls=tuple(calls or _legacy(extra)),
            tool_call_id=call_id if isinstance(call_id, str) else None,
            name=name if isinstance(name, str) else None,
            metadata={key: value for key, value in extra.items() if key not in _OWN_FIELDS},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidMessage("a message has no form of LlamaIndex's", "give what a chat store persisted") from error
    rebuilt = (
        not legacy and data["role"] == message.role.value and not _OWN_FIELDS - {"tool_call_id", "name"} & set(extra)
    )
    if rebuilt and all(map(_is_rebuilt, held)) and _calls_last(held):
        return message
    whole: JsonObject = {
        "role": data["role"],
        "blocks": held,
        "additional_kwargs": {key: value for key, value in extra.items() if key != "images"},
    }
    return replace(message, payload=Payload(framework=FRAMEWORK, data=whole))


def _old_content(content: object) -> list[Any]:
    if isinstance(content, list):
        return content
    return [] if content is None else [{"block_type": "text", "text": str(content)}]


def _block(block: Mapping[str, Any]) -> Block:
    kind = block["block_type"]
    match kind:
        case "text":
            return Text(str(block["text"]))
        case "thinking":
            proof = (block.get("additional_information") or {}).get("signature")
            return Reasoning(text=block.get("content") or "", signature=proof if isinstance(proof, str) else None)
        case "image" | "audio" | "video" | "document":
            mime = block.get(_MIME[kind]) if kind in _MIME else None
            if kind == "audio" and block.get("format"):
                mime = f"audio/{block['format']}"
            return Media(
                kind="file" if kind == "document" else kind,
                url=block.get("url") or block.get("path"),
                data=block.get(_BYTES[kind]) or None,
                mime_type=mime,
                name=block.get("title"),
                detail=block.get("detail"),
            )
        case _:
            return Other(framework=FRAMEWORK, data=dict(block))


def _is_rebuilt(block: Mapping[str, Any]) -> bool:
    """Whether the adapter makes just this block of the neutral one."""
    match block["block_type"]:
        case "text" | "cache" | "citable" | "citation":
            return True
        case "tool_call":
            return isinstance(block.get("tool_kwargs"), Mapping)
        case "thinking":
            more = block.get("additional_information") or {}
            return block.get("num_tokens") is None and set(more) <= {"signature"} and block.get("content") is not None
        case "image" | "audio" | "video":
            return block.get("path") is None and block.get("fps") is None
        case _:
            return False


def _calls_last(held: list[Any]) -> bool:
    calls = [block["block_type"] == "tool_call" for block in held]
    return calls == sorted(calls)


def _call_of(block: Mapping[str, Any]) -> ToolCall:
    return ToolCall(id=block.get("tool_call_id"), name=block["tool_name"], arguments=_arguments(block["tool_kwargs"]))


def _arguments(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _legacy(extra: Mapping[str, Any]) -> list[ToolCall]:
    """Calls out of `additional_kwargs`: OpenAI's form, `ToolSelection`, a provider's, or the first function calls."""
    calls: list[ToolCall] = []
    for call in extra.get("tool_calls") or ():
        if not isinstance(call, Mapping):
            continue
        function = call.get("function")
        if isinstance(function, Mapping):
            given, name, id = function.get("arguments") or "{}", function.get("name") or "", call.get("id")
        elif call.get("tool_name") is not None:
            given, name, id = call.get("tool_kwargs") or {}, call["tool_name"], call.get("tool_id")
        elif call.get("name") is not None:
            given = next((call[key] for key in ("arguments", "args", "input") if call.get(key) is not None), {})
            name, id = call["name"], call.get("id") or call.get("toolUseId")
        else:
            continue
        calls.append(
            ToolCall(id=id if isinstance(id, str) and id else None, name=str(name), arguments=_arguments(given))
        )
    function = extra.get("function_call")
    if not extra.get("tool_calls") and isinstance(function, Mapping):
        given = function.get("arguments") or "{}"
        calls.append(ToolCall(id=None, name=str(function.get("name") or ""), arguments=_arguments(given)))
    return calls
