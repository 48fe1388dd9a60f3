"""A context as the list of messages that an engine or agent expects from its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from llama_index.core.base.llms.types import ChatMessage

from langmem_plugin.context.rendering import note as note_of
from langmem_plugin.context.rendering import sendable_text
from langmem_plugin.context.request import Context
from langmem_plugin.messages import Message, Role, Text, assistant, system, user
from llama_index.memory.langmem_plugin.callers import Caller
from llama_index.memory.langmem_plugin.convert import from_core
from llama_index.memory.langmem_plugin.literal import literal

Insert: TypeAlias = Literal["auto", "system", "user"]
"""Where the system text goes: `auto` is `system` and protects it from agents that drop it."""

GUARD: Final = system("The conversation so far, from memory.\n")
"""Stands first where the first system message is thrown away; nothing is lost with it."""
ACKNOWLEDGED: Final = assistant("Understood.")


def arrange(context: Context, *, insert: Insert, who: Caller, opening: Sequence[str] = ()) -> list[ChatMessage]:
    """New messages, the system text where it reaches the model.

    Args:
        context: What the engine assembled.
        insert: Where the system text goes.
        who: Who asks.
        opening: Texts of stored system messages that are in the system text by now.
    """
    said: list[Message] = list(context.conversation)
    for text in opening:
        said = _without_note(said, text)
    if context.system:
        # OpenAI's adapter joins the blocks of messages without a separator.
        text = context.system if context.system.endswith("\n") else context.system + "\n"
        if insert == "user":
            said = _before_the_user(said, text)
        elif insert == "auto" and who.drops_first_system:
            said = [GUARD, system(text), *said]
        else:
            said = [system(text), *said]
    chats = [from_core(message) for message in said]
    return [literal(chat) for chat in chats] if who.formats_text else chats


def extra_messages(*, insert: Insert, who: Caller) -> Sequence[Message]:
    """What `arrange` may add beyond the context; its tokens are reserved."""
    if insert == "user":
        return (ACKNOWLEDGED,)
    return (GUARD,) if insert == "auto" and who.drops_first_system else ()


def _without_note(said: list[Message], text: str) -> list[Message]:
    """The messages without the note that a stored system message became in the window."""
    note = note_of(sendable_text(text.strip())) + "\n\n"
    for place, message in enumerate(said):
        first = message.blocks[0] if message.role is Role.USER and message.blocks else None
        if isinstance(first, Text) and len(first.text) > len(note) and first.text.startswith(note):
            rest = Text(first.text[len(note) :])
            return [*said[:place], replace(message, blocks=(rest, *message.blocks[1:])), *said[place + 1 :]]
    return said


def _before_the_user(said: list[Message], text: str) -> list[Message]:
    if said and said[-1].role is Role.USER:
        return [*said[:-1], said[-1].prepend(text + "\n")]
    return [user(text), ACKNOWLEDGED, *said]
