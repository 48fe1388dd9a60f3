"""A session as LlamaIndex's chat store, for code that reads `memory.chat_store`."""

from __future__ import annotations

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store import BaseChatStore
from pydantic import PrivateAttr

from llama_index.memory.langmem_plugin.conversation import Conversation
from llama_index.memory.langmem_plugin.convert import from_core, to_core


class SessionChatStore(BaseChatStore):  # type: ignore[misc, unused-ignore]
    """The transcript of one session under one key; any other key is empty."""

    key: str
    _talk: Conversation = PrivateAttr()

    def __init__(self, key: str, talk: Conversation) -> None:
        super().__init__(key=key)
        self._talk = talk

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes beside the data."""
        return "SessionChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Make the transcript equal to `messages`."""
        self._check(key)
        self._talk.replace([to_core(message) for message in messages])

    def get_messages(self, key: str) -> list[ChatMessage]:
        """Copies of every message, oldest first."""
        return [from_core(message) for message in self._talk.transcript()] if key == self.key else []

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Add one message; durable when it returns."""
        self._check(key)
        self._talk.put(to_core(message))

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Forget the session; gives what it held."""
        if key != self.key:
            return None
        held = self.get_messages(key)
        self._talk.clear()
        return held

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Rewrite the transcript without one message."""
        held = self.get_messages(key)
        if not -len(held) <= idx < len(held):
            return None
        deleted = held.pop(idx)
        self.set_messages(key, held)
        return deleted

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Rewrite the transcript without its last message."""
        return self.delete_message(key, -1)

    def get_keys(self) -> list[str]:
        """The one key."""
        return [self.key]

    def _check(self, key: str) -> None:
        if key != self.key:
            raise KeyError(f"this store holds {self.key!r} alone; open another buffer for {key!r}")
