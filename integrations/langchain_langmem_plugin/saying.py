"""What a runnable's input asks and what its output says, in every form that chains use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel

from langmem_plugin.errors import InvalidMessage, InvalidSetting


def asked_in(given: Any, key: str | None) -> list[BaseMessage]:
    """The new messages of an input: a text, a message, messages in any of LangChain's forms, or a dict of one.

    Raises:
        InvalidSetting: It is a dict, and which key holds the messages is not known.
        InvalidMessage: It is none of these, or empty.
    """
    if isinstance(given, Mapping):
        given = _of(given, key, "input_messages_key")
    if isinstance(given, str):
        return [HumanMessage(given)]
    if isinstance(given, BaseMessage):
        return [given]
    if isinstance(given, PromptValue):
        return given.to_messages()
    if isinstance(given, Sequence) and given:
        return convert_to_messages(given)
    raise InvalidMessage(f"the input is a {type(given).__name__} with nothing new in it", "give a text or messages")


def said_in(output: Any, key: str | None) -> list[BaseMessage]:
    """The messages of an output: a text, a message, messages, a dict of one, or a structured answer.

    Raises:
        InvalidSetting: It is a dict, and which key holds the answer is not known.
        InvalidMessage: It is none of these.
    """
    if isinstance(output, Mapping):
        output = _of(output, key, "output_messages_key")
    if isinstance(output, str):
        return [AIMessage(output)]
    if isinstance(output, BaseMessage):
        return [output]
    if isinstance(output, BaseModel):
        return [AIMessage(output.model_dump_json())]
    if isinstance(output, Sequence) and all(isinstance(message, BaseMessage) for message in output):
        return list(output)
    raise InvalidMessage(
        f"the output is a {type(output).__name__}", "return a text or messages, or name output_messages_key"
    )


def ends_open(output: Any) -> bool:
    """Whether a streamed answer of an OpenAI-style server ended without saying why it ended.

    Every whole answer of such a server has a finish reason. A connection that is closed in good
    order after half of one looks the same as the end of an answer from a server that never gives
    a reason, so the answer is kept, and marked.
    """
    if not isinstance(output, AIMessageChunk):
        return False
    facts = output.response_metadata
    reasons = ("finish_reason", "stop_reason", "done_reason", "status")
    return facts.get("model_provider") == "openai" and not any(facts.get(name) for name in reasons)


def _of(fields: Mapping[str, Any], key: str | None, name: str) -> Any:
    if key is None:
        usual = ("input",) if name.startswith("input") else ("output",)
        key = next(iter(fields)) if len(fields) == 1 else next((k for k in (*usual, "messages") if k in fields), None)
    if key is None or key not in fields:
        raise InvalidSetting(name, key, f"name one of {sorted(map(str, fields))}")
    return fields[key]
