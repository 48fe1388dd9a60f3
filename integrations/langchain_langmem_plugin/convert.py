"""LangChain messages <-> neutral messages.

What the neutral form says is kept there; only the rest of a message goes into its
payload, as plain JSON. Messages are rebuilt by our own constructors, never by
`load` or pickle. A rebuilt message equals the one it was made from, except that
what was not JSON comes back as JSON (`plain` says how).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.utils import message_chunk_to_message

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.formats.langchain import read_usage, usage_dict
from langmem_plugin.formats.langchain_content import FRAMEWORK, Layout, read_content, write_content
from langmem_plugin.formats.plain import plain
from langmem_plugin.messages import Json, JsonObject, Message, Payload, Role, ToolCall

_CLASSES: dict[str, type[BaseMessage]] = {
    "human": HumanMessage,
    "ai": AIMessage,
    "system": SystemMessage,
    "tool": ToolMessage,
    "function": FunctionMessage,
    "chat": ChatMessage,
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
"""A provider's own spelling of tool calls within additional kwargs: not the application's facts."""
_FIELDS = (
    "id",
    "name",
    "additional_kwargs",
    "response_metadata",
    "tool_calls",
    "invalid_tool_calls",
    "usage_metadata",
    "tool_call_id",
    "status",
    "artifact",
    "role",
)


def to_core(message: BaseMessage) -> Message:
    """The neutral form of a LangChain message; a chunk becomes the message it adds up to.

    A `ChatMessage` of an unknown role counts as the assistant's: only what is known
    to be the user's may ever become a constraint. An artifact that has no JSON form
    is kept as a marker of its class (LangChain never sends artifacts to a model).

    Raises:
        InvalidMessage: A `RemoveMessage`, a class of the application's own with a type
            LangChain does not have, or content or tool arguments that are not JSON.
    """
    whole = message_chunk_to_message(message)
    if whole.type == "remove":
        raise InvalidMessage("a RemoveMessage is an instruction to LangGraph, not a message", "do not store it")
    if whole.type not in _CLASSES:
        raise InvalidMessage(f"a {type(whole).__name__} has type {whole.type!r}", "use LangChain's own message classes")
    neutral, layout = _neutral(whole)
    base = _build(neutral, whole.type, layout, {})
    beyond = _difference(whole, base)
    data: JsonObject = {}
    if whole.type != _TYPE[neutral.role]:
        data["type"] = whole.type
    if layout is not None:
        data["content"] = layout
    if beyond:
        data["fields"] = beyond
    if not data:
        return neutral
    return replace(neutral, payload=Payload(framework=FRAMEWORK, data=data))


def from_core(message: Message) -> BaseMessage:
    """The LangChain message of a neutral one; exactly the one it came from, if it came from LangChain.

    Raises:
        InvalidMessage: The payload is not one that `to_core` made.
    """
    if message.payload is None or message.payload.framework != FRAMEWORK:
        return _build(message, _TYPE[message.role], None, {})
    data: dict[str, Any] = message.payload.data
    try:
        return _build(message, data.get("type", _TYPE[message.role]), data.get("content"), data.get("fields", {}))
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InvalidMessage("the payload is not a stored LangChain message", "restore it from the log") from error


def to_core_all(messages: Iterable[BaseMessage]) -> list[Message]:
    """The neutral form of each message."""
    return [to_core(message) for message in messages]


def from_core_all(messages: Iterable[Message]) -> list[BaseMessage]:
    """The LangChain form of each message."""
    return [from_core(message) for message in messages]


def _neutral(message: BaseMessage) -> tuple[Message, Layout | None]:
    calls = _calls(message)
    blocks, layout = read_content(message.content, {call.id for call in calls} - {None})
    kwargs = cast("JsonObject", plain(message.additional_kwargs, "additional_kwargs"))
    if message.type == "ai":
        kwargs = {key: value for key, value in kwargs.items() if key not in _WIRE_CALLS}
    role = _ROLE.get(message.type)
    if role is None:
        role = _CHAT_ROLE.get(cast("ChatMessage", message).role.lower(), Role.ASSISTANT)
    return Message(
        role=role,
        blocks=blocks,
        tool_calls=calls,
        tool_call_id=getattr(message, "tool_call_id", None),
        id=message.id,
        name=message.name,
        usage=read_usage(getattr(message, "usage_metadata", None)),
        metadata=kwargs,
    ), layout


def _calls(message: BaseMessage) -> tuple[ToolCall, ...]:
    if not isinstance(message, AIMessage):
        return ()
    calls = [
        ToolCall(id=call["id"], name=call["name"], arguments=_arguments(call["args"])) for call in message.tool_calls
    ]
    calls += [
        ToolCall(id=call.get("id"), name=call.get("name") or "", arguments=call.get("args") or "")
        for call in message.invalid_tool_calls
    ]
    legacy = message.additional_kwargs.get("function_call")
    if not calls and isinstance(legacy, dict):
        calls.append(ToolCall(id=None, name=str(legacy.get("name", "")), arguments=str(legacy.get("arguments", ""))))
    return tuple(calls)


def _arguments(args: Any) -> str:
    # LangChain's own spelling when it sends a call to a provider, so that counts agree.
    return json.dumps(plain(args, "tool_calls", strict=True), ensure_ascii=False)


def _build(message: Message, kind: str, layout: Layout | None, fields: dict[str, Any]) -> BaseMessage:
    wanted: dict[str, Any] = {"name": message.name, "id": message.id, "additional_kwargs": dict(message.metadata)}
    match kind:
        case "ai":
            valid, invalid = _split_calls(message.tool_calls)
            wanted |= {"tool_calls": valid, "invalid_tool_calls": invalid, "usage_metadata": usage_dict(message.usage)}
        case "tool":
            wanted["tool_call_id"] = message.tool_call_id or ""
        case "function":
            wanted["name"] = message.name or ""
        case "chat":
            wanted["role"] = message.role.value
    wanted |= fields
    built = _CLASSES[kind](content=write_content(message.blocks, layout), **wanted)
    # LangChain's validators derive some fields from others (tool calls from kwargs); what was kept decides.
    for name, value in wanted.items():
        if name in type(built).model_fields and getattr(built, name) != value:
            setattr(built, name, value)
    return built


def _split_calls(calls: Sequence[ToolCall]) -> tuple[list[Any], list[Any]]:
    valid: list[Any] = []
    invalid: list[Any] = []
    for call in calls:
        try:
            args = json.loads(call.arguments) if call.arguments.strip() else {}
        except ValueError:
            args = None
        if isinstance(args, dict):
            valid.append({"name": call.name, "args": args, "id": call.id, "type": "tool_call"})
        else:
            fields = {"name": call.name, "args": call.arguments, "id": call.id, "error": None}
            invalid.append({"type": "invalid_tool_call", **fields})
    return valid, invalid


def _difference(whole: BaseMessage, base: BaseMessage) -> JsonObject:
    """The fields of `whole` that `base` lacks, as JSON; a field unlike its default only in class is not one."""
    beyond: JsonObject = {}
    for name in _FIELDS:
        if not hasattr(whole, name):
            continue
        strict = name in {"tool_calls", "invalid_tool_calls"}
        value: Json = plain(getattr(whole, name), name, strict=strict)
        if value != getattr(base, name):
            beyond[name] = value
    for name, extra in (whole.model_extra or {}).items():
        beyond[name] = plain(extra, name)
    return beyond
