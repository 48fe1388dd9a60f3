"""LangChain's messages as JSON: what `messages_to_dict` gives, and the forms that older stores hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.formats.langchain_content import FRAMEWORK, read_content
from langmem_plugin.messages import JsonObject, Message, Payload, Role, Text, ToolCall, Usage

_CLASSES = {
    "HumanMessage": "human",
    "AIMessage": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
    "ChatMessage": "chat",
}
_TYPE = {Role.USER: "human", Role.ASSISTANT: "ai", Role.SYSTEM: "system", Role.TOOL: "tool"}
_ROLE = {"human": Role.USER, "ai": Role.ASSISTANT, "system": Role.SYSTEM, "tool": Role.TOOL, "function": Role.TOOL}
_CHAT_ROLE = {
    "user": Role.USER,
    "human": Role.USER,
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_WIRE_CALLS = ("tool_calls", "function_call")
_CALLS = ("tool_calls", "invalid_tool_calls")
_NOT_KEPT = {"content", "type", "tool_call_chunks", "chunk_position"}


def is_message(data: Mapping[str, Any]) -> bool:
    """Whether the JSON object has one of the forms that are read here."""
    return _kind_of(data) is not None


def message_of(data: Mapping[str, Any]) -> Message:
    """The neutral form of `message_to_dict`'s dict, of a serialised constructor, or of a message's own dump.

    It is what the adapter for LangChain makes of the message itself, so that LangChain
    gets the same message back. What summarising middleware wrote in the user's role becomes
    a note of the application: nobody said it.

    Raises:
        InvalidMessage: It is no such dict, or its type is none that LangChain has.
    """
    kind = _kind_of(data)
    if kind is None:
        raise InvalidMessage("a message has no form of LangChain's", "give what messages_to_dict wrote")
    held = dict(_fields_of(data))
    try:
        message = _neutral(kind, held)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InvalidMessage):
            raise
        raise InvalidMessage("a message lacks what LangChain's have", "give what messages_to_dict wrote") from error
    if message.metadata.get("lc_source") == "summarization":
        return Message(role=Role.SYSTEM, blocks=(Text(message.text),))
    return message


def _kind_of(data: Mapping[str, Any]) -> str | None:
    name: object = data.get("type")
    if name == "constructor":
        path = data.get("id")
        name = path[-1] if isinstance(path, list) and path else None
    if not isinstance(name, str) or "content" not in _fields_of(data):
        return None
    name = name.removesuffix("Chunk")
    return _CLASSES.get(name, name if name in _CLASSES.values() else None)


def _fields_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    for place in ("data", "kwargs"):
        if isinstance(inner := data.get(place), Mapping):
            return inner
    return data


def _neutral(kind: str, held: dict[str, Any]) -> Message:
    kwargs: JsonObject = dict(held.get("additional_kwargs") or {})
    if kind == "ai":
        _fill_calls(held, kwargs)
    calls = _calls(held, kwargs) if kind == "ai" else ()
    if not isinstance(held["content"], str | list):
        raise TypeError(held["content"])
    blocks, layout = read_content(held["content"], {call.id for call in calls} - {None})
    metadata = {name: value for name, value in kwargs.items() if kind != "ai" or name not in _WIRE_CALLS}
    role = _ROLE.get(kind) or _CHAT_ROLE.get(str(held["role"]).lower(), Role.ASSISTANT)
    usage = held.get("usage_metadata")
    message = Message(
        role=role,
        blocks=blocks,
        tool_calls=calls,
        tool_call_id=held.get("tool_call_id"),
        id=held.get("id"),
        name=held.get("name"),
        usage=read_usage(usage),
        metadata=metadata,
    )
    beyond = _beyond(kind, held, message)
    data: JsonObject = {}
    if kind != _TYPE[role]:
        data["type"] = kind
    if layout is not None:
        data["content"] = layout
    if beyond:
        data["fields"] = beyond
    return replace(message, payload=Payload(framework=FRAMEWORK, data=data)) if data else message


def _fill_calls(held: dict[str, Any], kwargs: JsonObject) -> None:
    """Calls that an older release kept in the provider's spelling alone."""
    held.setdefault("tool_calls", [])
    held.setdefault("invalid_tool_calls", [])
    wire = kwargs.get("tool_calls")
    if held["tool_calls"] or held["invalid_tool_calls"] or not isinstance(wire, list):
        return
    for call in wire:
        if not isinstance(call, dict) or not isinstance(function := call.get("function"), dict):
            continue
        name, text = str(function["name"]), str(function["arguments"])
        args = _json_object(text)
        if args is None:
            held["invalid_tool_calls"].append(
                {"name": name, "args": text, "id": call.get("id"), "error": None, "type": "invalid_tool_call"}
            )
        else:
            held["tool_calls"].append({"name": name, "args": args, "id": call.get("id"), "type": "tool_call"})


def _calls(held: Mapping[str, Any], kwargs: JsonObject) -> tuple[ToolCall, ...]:
    calls = [
        ToolCall(id=call.get("id"), name=call["name"], arguments=json.dumps(call["args"], ensure_ascii=False))
        for call in held["tool_calls"]
    ]
    calls += [
        ToolCall(id=call.get("id"), name=call.get("name") or "", arguments=call.get("args") or "")
        for call in held["invalid_tool_calls"]
    ]
    legacy = kwargs.get("function_call")
    if not calls and isinstance(legacy, dict):
        calls.append(ToolCall(id=None, name=str(legacy.get("name", "")), arguments=str(legacy.get("arguments", ""))))
    return tuple(calls)


def read_usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """What `usage_dict` gives, read again."""
    if not usage:
        return None
    return Usage(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        total_tokens=usage["total_tokens"],
        cached_tokens=(usage.get("input_token_details") or {}).get("cache_read") or 0,
    )


def _beyond(kind: str, held: Mapping[str, Any], message: Message) -> JsonObject:
    """What LangChain's message has that is not rebuilt from the neutral form alone."""
    usual: dict[str, Any] = {
        "id": message.id,
        "name": message.name,
        "additional_kwargs": message.metadata,
        "response_metadata": {},
    }
    if kind == "ai":
        valid, invalid = _split(message.tool_calls)
        usual |= {"tool_calls": valid, "invalid_tool_calls": invalid, "usage_metadata": usage_dict(message.usage)}
    elif kind == "tool":
        usual |= {"tool_call_id": message.tool_call_id or "", "status": "success", "artifact": None}
    elif kind == "chat":
        usual["role"] = message.role.value
    beyond: JsonObject = {}
    for name, value in held.items():
        if name in _NOT_KEPT:
            continue
        if name in _CALLS and name in usual:
            if list(map(_call, value)) != list(map(_call, usual[name])):
                beyond[name] = value
        elif name not in usual or value != usual[name]:
            beyond[name] = value
    return beyond


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in call.items() if value is not None and name != "type"}


def _split(calls: tuple[ToolCall, ...]) -> tuple[list[Any], list[Any]]:
    valid: list[Any] = []
    invalid: list[Any] = []
    for call in calls:
        args = _json_object(call.arguments) if call.arguments.strip() else {}
        if args is None:
            invalid.append({"name": call.name, "args": call.arguments, "id": call.id, "error": None})
        else:
            valid.append({"name": call.name, "args": args, "id": call.id})
    return valid, invalid


def usage_dict(usage: Usage | None) -> dict[str, Any] | None:
    """Usage as LangChain's `usage_metadata`; None if there is none."""
    if usage is None:
        return None
    fields: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_tokens:
        fields["input_token_details"] = {"cache_read": usage.cached_tokens}
    return fields


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
