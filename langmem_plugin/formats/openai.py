"""Message lists as OpenAI-style servers take them, and the items of OpenAI's Responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.formats.langchain_content import read_content
from langmem_plugin.messages import Block, Message, Reasoning, Role, Text, ToolCall

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_READ = {"role", "content", "tool_calls", "function_call", "tool_call_id", "name", "reasoning_content", "type", "id"}
_ITEMS = ("function_call", "function_call_output")


def is_message(data: Mapping[str, Any]) -> bool:
    """Whether the JSON object has a role that is known here, or is an item of Responses."""
    return data.get("role") in _ROLES or data.get("type") in _ITEMS


def message_of(data: Mapping[str, Any]) -> Message:
    """The neutral form of a message with `role`, `content` (a text or parts) and `tool_calls`.

    What has no place in the neutral form is kept as metadata.

    Raises:
        InvalidMessage: It is no such message.
    """
    try:
        if data.get("type") in _ITEMS:
            return _item(data)
        calls = tuple(_call(call) for call in data.get("tool_calls") or ())
        legacy = data.get("function_call")
        if not calls and isinstance(legacy, Mapping):
            calls = (ToolCall(id=None, name=str(legacy["name"]), arguments=_text(legacy.get("arguments", "{}"))),)
        thinking = data.get("reasoning_content")
        return Message(
            role=_ROLES[data["role"]],
            blocks=((Reasoning(text=thinking),) if isinstance(thinking, str) and thinking else ())
            + _blocks(data.get("content")),
            tool_calls=calls,
            tool_call_id=data.get("tool_call_id"),
            name=data.get("name"),
            metadata={name: value for name, value in data.items() if name not in _READ and value not in (None, [], {})},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage("a message has no form of OpenAI's", "give role, content, tool_calls") from error


def _item(data: Mapping[str, Any]) -> Message:
    if data["type"] == "function_call":
        call = ToolCall(id=data["call_id"], name=str(data["name"]), arguments=_text(data["arguments"]))
        return Message(role=Role.ASSISTANT, tool_calls=(call,))
    return Message(role=Role.TOOL, blocks=_blocks(data["output"]), tool_call_id=data["call_id"])


def _blocks(content: object) -> tuple[Block, ...]:
    if content is None:
        return ()
    if isinstance(content, str):
        return (Text(content),) if content else ()
    if not isinstance(content, list):
        raise TypeError(content)
    parts = [
        {"type": "text", "text": part["text"]}
        if isinstance(part, Mapping) and part.get("type") in ("input_text", "output_text")
        else part
        for part in content
    ]
    return read_content(parts, set())[0]


def _call(call: Mapping[str, Any]) -> ToolCall:
    function = call.get("function") or call.get("custom") or {}
    return ToolCall(
        id=call.get("id"),
        name=str(function["name"]),
        arguments=_text(function.get("arguments", function.get("input", "{}"))),
    )


def _text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
