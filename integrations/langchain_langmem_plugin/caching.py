"""Marks for providers that cache a prompt up to where they are told: Anthropic's `cache_control`.

They stand where a request repeats the one before it: after the developer's system prompt,
after the constraints, after the window, and after the newest message. They change no
text, and no more than four are sent, because Anthropic takes no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from langmem_plugin.context.request import Context

_MOST = 4


def boundaries(context: Context) -> list[int]:
    """Positions in `context.conversation` after which the request stays as it is; the newest first."""
    segments = [item.segment for item in context.items if item.segment != "system"]
    last = {segment: position for position, segment in enumerate(segments)}
    return [last[segment] for segment in ("new", "window", "summary") if segment in last]


def marked(
    system: SystemMessage | None,
    messages: Sequence[BaseMessage],
    *,
    given: str,
    ends: Sequence[int],
    control: Mapping[str, Any],
) -> tuple[SystemMessage | None, list[BaseMessage]]:
    """The system message and the messages with marks; copies where something is added.

    Args:
        system: The developer's prompt with the constraints after it.
        messages: The rest of the request.
        given: The developer's prompt as text.
        ends: Positions in `messages` to mark, the most useful first.
        control: What a mark says, such as `{"type": "ephemeral"}`.
    """
    left = _MOST - sum(map(_marks, [*([system] if system else []), *messages]))
    if system is not None and left > 0:
        system, used = _marked_system(system, given, control, left)
        left -= used
    out = list(messages)
    for end in ends:
        if left > 0 and isinstance(out[end], HumanMessage | AIMessage) and (changed := _marked(out[end], control)):
            out[end] = changed
            left -= 1
    return system, out


def _marked_system(
    system: SystemMessage, given: str, control: Mapping[str, Any], left: int
) -> tuple[SystemMessage, int]:
    content = system.content
    if isinstance(content, str) and given and content != given and content.startswith(given) and left > 1:
        blocks = [
            {"type": "text", "text": given, "cache_control": dict(control)},
            {"type": "text", "text": content[len(given) :], "cache_control": dict(control)},
        ]
        return system.model_copy(update={"content": blocks}), 2
    changed = _marked(system, control)
    return (changed, 1) if isinstance(changed, SystemMessage) else (system, 0)


def _marked(message: BaseMessage, control: Mapping[str, Any]) -> BaseMessage | None:
    """The message with a mark on its last block; None if it has no text to mark, or a mark there."""
    content = message.content
    if isinstance(content, str):
        if not content.strip():
            return None
        block: dict[str, Any] = {"type": "text", "text": content, "cache_control": dict(control)}
        return message.model_copy(update={"content": [block]})
    last = content[-1] if content else None
    if isinstance(last, str) and last.strip():
        last = {"type": "text", "text": last}
    if not isinstance(last, dict) or last.get("type") not in ("text", "image", "file") or "cache_control" in last:
        return None
    return message.model_copy(update={"content": [*content[:-1], {**last, "cache_control": dict(control)}]})


def _marks(message: BaseMessage) -> int:
    if isinstance(message.content, str):
        return 0
    return sum(isinstance(block, dict) and "cache_control" in block for block in message.content)
