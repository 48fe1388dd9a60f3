"""The developer's system message with the constraints after it."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage, SystemMessage


def system_text(messages: Sequence[BaseMessage]) -> str:
    """The text of several system messages, as one."""
    return "\n\n".join(text for message in messages if (text := str(message.text)))


def with_constraints(message: SystemMessage | None, given: str, system: str) -> SystemMessage | None:
    """The system message to send.

    Text stays one text, because some servers take no blocks there. Blocks stay as they
    are, with their cache marks, and the constraints come as one more text block.

    Args:
        message: The developer's; None if there is none.
        given: Its text, as it was given to the memory.
        system: What the memory made of it: `given`, and the constraints after it.
    """
    added = system.removeprefix(given)
    if not added.strip():
        return message
    if message is None:
        return SystemMessage(system)
    if isinstance(message.content, str):
        return message.model_copy(update={"content": message.content + added})
    block = {"type": "text", "text": added.lstrip("\n")}
    return message.model_copy(update={"content": [*message.content, block]})


def one_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages with the system messages at their start made one; several are refused by some providers."""
    systems: list[SystemMessage] = []
    for message in messages:
        if not isinstance(message, SystemMessage):
            break
        systems.append(message)
    if len(systems) <= 1:
        return list(messages)
    given = system_text(systems[:1])
    merged = with_constraints(systems[0], given, given + "\n\n" + system_text(systems[1:]))
    return [merged or systems[0], *messages[len(systems) :]]
