"""Blocks for LlamaIndex's own `Memory`: constraints that are caught when they are said, and recall.

`Memory` gives a block its messages when they leave the queue, which is too late for a
constraint. It also shows each block its queue at every read: that is where these look.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import BaseMemoryBlock
from pydantic import Field, PrivateAttr

from langmem_plugin.context import constraints_block, rendering
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role
from langmem_plugin.records import Entry
from llama_index.memory.langmem_plugin.conversation import Conversation, conversation, same
from llama_index.memory.langmem_plugin.convert import to_core


class _SessionBlock(BaseMemoryBlock[str]):  # type: ignore[misc, unused-ignore]
    """A block that keeps what LlamaIndex's memory shows it in a session of ours."""

    _memory: Memory = PrivateAttr()
    _owner: str = PrivateAttr()
    _session_id: str | None = PrivateAttr()

    def __init__(self, memory: Memory, *, owner: str, session_id: str | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        self._memory = memory
        self._owner = owner
        self._session_id = session_id

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        return await asyncio.to_thread(self._read, list(messages or ()), block_kwargs.get("session_id"))

    async def _aput(self, messages: list[ChatMessage]) -> None:
        given = next((m.additional_kwargs.get("session_id") for m in messages), None)
        if messages:
            await asyncio.to_thread(self._caught_up, messages, given, leaving=True)

    def _read(self, messages: list[ChatMessage], session_id: str | None) -> str:
        raise NotImplementedError

    def _caught_up(
        self, messages: Sequence[ChatMessage], session_id: str | None, *, leaving: bool = False
    ) -> tuple[Conversation, list[Message]]:
        """The conversation, with what is new of the messages recorded, and the messages in our form.

        The queue overlaps the end of the log. What leaves the queue stands anywhere in it.
        """
        name = self._session_id or session_id
        if not name:
            raise InvalidSetting("session_id", name, "give the block one, or use it within a Memory")
        talk = conversation(self._memory, name, owner=self._owner)
        given = [_bare(to_core(message)) for message in messages]
        given = [message for message in given if message.role is not Role.SYSTEM]
        log = talk.transcript()
        if leaving and any(all(map(same, log[at:], given)) for at in range(len(log) - len(given) + 1)):
            return talk, given
        for start in range(max(0, len(log) - len(given)), len(log) + 1):
            if all(map(same, log[start:], given)):
                talk.put_all(given[len(log) - start :])
                break
        return talk, given


class ConstraintsBlock(_SessionBlock):
    """The user's standing statements, for `Memory(memory_blocks=[...])`.

    Each read of the memory shows the block what is new, so that a constraint is in force from
    the next turn on, not from when its message leaves the queue. It is never truncated
    (priority 0).

    Args:
        memory: An open memory, where the constraints and the conversation are kept.
        owner: Whose conversation it is.
        session_id: The session; LlamaIndex's own session id if not given.
        name: Of the block.

    Example:
        >>> from llama_index.core.memory import Memory as LlamaIndexMemory
        >>> block = ConstraintsBlock(memory, owner="ann")  # doctest: +SKIP
        >>> LlamaIndexMemory.from_defaults(session_id="trip", memory_blocks=[block])  # doctest: +SKIP
    """

    name: str = "user_constraints"

    def _read(self, messages: list[ChatMessage], session_id: str | None) -> str:
        talk, _ = self._caught_up(messages, session_id)
        return constraints_block.render(talk.session.constraints())


class RecallBlock(_SessionBlock):
    """Earlier messages that matter for the newest question, found by keyword and by meaning.

    What the queue still shows is not recalled. Use it with an `embedder` in `Memory.open`
    for recall by meaning.

    Args:
        memory: An open memory, where the conversation is kept.
        owner: Whose conversation it is.
        session_id: The session; LlamaIndex's own session id if not given.
        max_tokens: Of what is recalled, by the memory's counter.
        name: Of the block.
        priority: 1 unless given: what is truncated first when the memory is full.
    """

    name: str = "recalled_messages"
    priority: int = 1
    max_tokens: int = Field(default=800, gt=0)

    def _read(self, messages: list[ChatMessage], session_id: str | None) -> str:
        talk, given = self._caught_up(messages, session_id)
        question = next((m.text for m in reversed(given) if m.role is Role.USER), "")
        if not question:
            return ""
        shown = {message.text for message in given}
        lines: list[tuple[Entry, str]] = []
        block = ""
        for hit in talk.session.recall(question):
            if hit.entry.message.text in shown:
                continue
            longer = sorted([*lines, (hit.entry, hit.entry.message.text)], key=lambda line: line[0].seq)
            text = rendering.recalled_block(longer)
            if self._memory.counter.count(text) > self.max_tokens:
                continue
            lines, block = longer, text
        return block


def _bare(message: Message) -> Message:
    """The message without the session's id, which LlamaIndex writes into what leaves the queue."""
    if "session_id" not in message.metadata:
        return message
    return replace(message, metadata={k: v for k, v in message.metadata.items() if k != "session_id"}, payload=None)
