"""Sessions as the store below LlamaIndex's own `Memory`: its queue and what left it, in our log."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from pydantic import PrivateAttr

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message
from llama_index.memory.langmem_plugin.conversation import Conversation, conversation
from llama_index.memory.langmem_plugin.convert import from_core, to_core

_MARK: Final = "archived/"
"""A turn without messages and with this id says up to which entry the queue was archived: `archived/<seq>/<random>`."""


class HybridAsyncChatStore(AsyncDBChatStore):  # type: ignore[misc, unused-ignore]
    """A memory as the chat store of LlamaIndex's `Memory`: each key is a session of one owner.

    What `Memory` archives stays in the session's log, is recalled and summarised there, and a
    `HybridChatMemoryBuffer` on the same session goes on with all of it. What was archived is
    always the older part; statuses are one position in the log, durable like the messages.

    Args:
        memory: An open memory.
        owner: Whose conversations these are.

    Example:
        >>> from langmem_plugin import Memory
        >>> async def main() -> int:
        ...     with Memory.open() as memory:
        ...         store = HybridAsyncChatStore(memory, owner="ann")
        ...         await store.add_message("trip", ChatMessage(role="user", content="Hello"))
        ...         return await store.count_messages("trip")
        >>> asyncio.run(main())
        1
    """

    _memory: Memory = PrivateAttr()
    _owner: str = PrivateAttr()
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def __init__(self, memory: Memory, *, owner: str) -> None:
        super().__init__()
        self._memory = memory
        self._owner = owner

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes beside the data."""
        return "HybridAsyncChatStore"

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = MessageStatus.ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[ChatMessage]:
        """Copies of the messages with a status, or of all with None, oldest first; [] for an unknown key."""
        found = await self._with(_Queue.of, key, status)
        return [from_core(message) for message in found[offset or 0 :][:limit]]

    async def count_messages(self, key: str, status: MessageStatus | None = MessageStatus.ACTIVE) -> int:
        """How many there are."""
        return len(await self._with(_Queue.of, key, status))

    async def add_message(self, key: str, message: ChatMessage, status: MessageStatus = MessageStatus.ACTIVE) -> None:
        """Add one message; durable when it returns."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Add messages in order.

        Raises:
            InvalidSetting: They are archived ones, and newer than active ones.
        """
        await self._with(_Queue.add, key, [to_core(message) for message in messages], status)

    async def set_messages(
        self, key: str, messages: list[ChatMessage], status: MessageStatus = MessageStatus.ACTIVE
    ) -> None:
        """Make the session's messages equal to these; what it begins with already is not written again."""
        said = [to_core(message) for message in messages]
        archived = len(said) if status is MessageStatus.ARCHIVED else 0
        await self._with(_Queue.rewrite, key, said, archived)

    async def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Rewrite a session without the message at this place; None if it has not so many."""
        return next(iter(await self._deleted(_Queue.delete_at, key, idx)), None)

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Forget the messages with a status; with None the session, but for constraints of the owner."""
        await self._with(_Queue.delete, key, status)

    async def delete_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Rewrite a session without its oldest active messages; gives them."""
        return await self._deleted(_Queue.delete_oldest, key, n)

    async def archive_oldest_messages(self, key: str, n: int) -> list[ChatMessage]:
        """Take the oldest active messages out of the queue; gives them, and they stay in the log."""
        return await self._deleted(_Queue.archive_oldest, key, n)

    async def get_keys(self) -> list[str]:
        """The ids of the owner's sessions that hold something, oldest first."""
        keys = await asyncio.to_thread(self._memory.sessions, owner=self._owner)
        return [key for key in keys if await self.count_messages(key, None)]

    async def _with(self, work: Any, key: str, *given: Any) -> Any:
        def run() -> Any:
            with self._lock:
                return work(_Queue(conversation(self._memory, key, owner=self._owner)), *given)

        return await asyncio.to_thread(run)

    async def _deleted(self, work: Any, key: str, number: int) -> list[ChatMessage]:
        return [from_core(message) for message in await self._with(work, key, number)]


@dataclass(frozen=True, slots=True)
class _Queue:
    """One session as archived messages, then active ones."""

    talk: Conversation

    def of(self, status: MessageStatus | None) -> list[Message]:
        """Those with a status; all with None."""
        archived, active = self._parts()
        if status is None:
            return archived + active
        return archived if status is MessageStatus.ARCHIVED else active

    def add(self, messages: Sequence[Message], status: MessageStatus) -> None:
        archived, active = self._parts()
        if status is MessageStatus.ARCHIVED:
            if active:
                raise InvalidSetting("status", status.value, "archive what is active first: the older part is archived")
            self.rewrite([*archived, *messages], len(archived) + len(messages))
        elif len(messages) == 1:
            self.talk.put(messages[0])
        else:
            self.talk.put_all(messages)

    def rewrite(self, messages: Sequence[Message], archived: int) -> None:
        if messages:
            self.talk.replace(messages)
        else:
            self.talk.clear()
        self._mark(archived)

    def delete(self, status: MessageStatus | None) -> None:
        archived, active = self._parts()
        if status is None:
            self.rewrite([], 0)
        elif status is MessageStatus.ACTIVE:
            self.rewrite(archived, len(archived))
        else:
            self.rewrite(active, 0)

    def delete_at(self, place: int) -> list[Message]:
        archived, active = self._parts()
        said = archived + active
        if not -len(said) <= place < len(said):
            return []
        place %= len(said)
        deleted = said.pop(place)
        self.rewrite(said, len(archived) - (place < len(archived)))
        return [deleted]

    def delete_oldest(self, number: int) -> list[Message]:
        archived, active = self._parts()
        number = max(0, number)
        if active[:number]:
            self.rewrite(archived + active[number:], len(archived))
        return active[:number]

    def archive_oldest(self, number: int) -> list[Message]:
        archived, active = self._parts()
        leaving = active[: max(0, number)]
        self._mark(len(archived) + len(leaving))
        return leaving

    def _parts(self) -> tuple[list[Message], list[Message]]:
        upto = self._archived_upto()
        numbered = self._numbered()
        return [said for seq, said in numbered if seq <= upto], [said for seq, said in numbered if seq > upto]

    def _numbered(self) -> list[tuple[int, Message]]:
        """Every message with its number in the log, those of the open turn with the numbers that they will get."""
        turn = self.talk.pending()
        numbered = [(entry.seq, entry.message) for entry in self.talk.session.history()]
        last = numbered[-1][0] if numbered else 0
        return numbered + list(enumerate(turn.messages if turn is not None else (), last + 1))

    def _archived_upto(self) -> int:
        marks = [one.ref for one in self.talk.session.events() if one.kind == "turn" and one.ref.startswith(_MARK)]
        return int(marks[-1].split("/")[1]) if marks else 0

    def _mark(self, archived: int) -> None:
        """Note that so many of the oldest are archived, in a change of its own."""
        numbered = self._numbered()
        upto = numbered[archived - 1][0] if archived else 0
        if upto != self._archived_upto():
            self.talk.session.begin(turn_id=f"{_MARK}{upto}/{uuid4().hex[:12]}").commit()
