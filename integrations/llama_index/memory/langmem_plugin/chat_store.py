"""Sessions as LlamaIndex's chat store: all of an owner's, or the one behind a buffer's `chat_store`."""

from __future__ import annotations

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.storage.chat_store import BaseChatStore
from pydantic import PrivateAttr

from langmem_plugin.memory import Memory
from llama_index.memory.langmem_plugin.conversation import Conversation, conversation
from llama_index.memory.langmem_plugin.convert import from_core, to_core


class HybridChatStore(BaseChatStore):  # type: ignore[misc, unused-ignore]
    """A memory as LlamaIndex's chat store: each key is a session of one owner.

    For code that takes a `BaseChatStore`, sync and async. It keeps messages durably and
    exactly once; budgets, constraints and recall come with `HybridChatMemoryBuffer`, which
    can be opened on the same sessions.

    Args:
        memory: An open memory.
        owner: Whose conversations these are.

    Example:
        >>> from langmem_plugin import Memory
        >>> with Memory.open() as memory:
        ...     store = HybridChatStore(memory, owner="ann")
        ...     store.add_message("trip", ChatMessage(role="user", content="Hello"))
        ...     [message.content for message in store.get_messages("trip")]
        ['Hello']
    """

    _memory: Memory = PrivateAttr()
    _owner: str = PrivateAttr()

    def __init__(self, memory: Memory, *, owner: str) -> None:
        super().__init__()
        self._memory = memory
        self._owner = owner

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes beside the data."""
        return "HybridChatStore"

    def set_messages(self, key: str, messages: list[ChatMessage]) -> None:
        """Make the transcript of a session equal to `messages`, writing only what differs from it."""
        self._of(key).set_messages(key, messages)

    def get_messages(self, key: str) -> list[ChatMessage]:
        """Copies of every message of a session, oldest first; [] for one that nobody wrote to."""
        return self._of(key).get_messages(key)

    def add_message(self, key: str, message: ChatMessage) -> None:
        """Add one message; durable when it returns."""
        self._of(key).add_message(key, message)

    def delete_messages(self, key: str) -> list[ChatMessage] | None:
        """Forget a session; gives what it held, None if it held nothing."""
        return self._of(key).delete_messages(key) if self.get_messages(key) else None

    def delete_message(self, key: str, idx: int) -> ChatMessage | None:
        """Rewrite a transcript without one message; None if it has not so many."""
        return self._of(key).delete_message(key, idx)

    def delete_last_message(self, key: str) -> ChatMessage | None:
        """Rewrite a transcript without its last message."""
        return self.delete_message(key, -1)

    def get_keys(self) -> list[str]:
        """The ids of the owner's sessions that hold something, oldest first."""
        return [key for key in self._memory.sessions(owner=self._owner) if self.get_messages(key)]

    def _of(self, key: str) -> SessionChatStore:
        return SessionChatStore(key, conversation(self._memory, key, owner=self._owner))


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
