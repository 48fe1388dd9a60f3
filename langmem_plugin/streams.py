"""An answer on its way: passed on chunk by chunk, kept whole or not at all (guarantee G6)."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Protocol

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import Message, Role, Text

PARTIAL = "partial"
"""In the metadata of a message that broke off and was kept all the same."""


class Appends(Protocol):
    """What takes the answer."""

    def append(self, *messages: Message) -> None:
        """Keep messages."""
        ...


class _Answer:
    """The text so far, outside of any state."""

    def __init__(self, turn: Appends, *, limit: int) -> None:
        self._turn = turn
        self._limit = limit
        self._parts: list[str] = []
        self._length = 0
        self._kept = False

    @property
    def text(self) -> str:
        """What came so far."""
        return "".join(self._parts)

    @property
    def kept(self) -> bool:
        """Whether it was appended to the turn."""
        return self._kept

    def keep(self) -> None:
        """Append the part that came before the chunks broke off; does nothing to an answer that is kept or empty.

        The message says so in its metadata: `{"partial": true}`.
        """
        if not self._kept and self._length:
            self._append({PARTIAL: True})

    def _take(self, chunk: str) -> str:
        if not isinstance(chunk, str):
            raise InvalidMessage(f"a chunk is a {type(chunk).__name__}", "pass the text of each chunk")
        self._length += len(chunk)
        if self._length > self._limit:
            raise InvalidMessage(
                f"an answer has more than {self._limit} characters", "stop the model, or raise max_message_chars"
            )
        self._parts.append(chunk)
        return chunk

    def _append(self, metadata: dict[str, bool] | None = None) -> None:
        self._turn.append(Message(role=Role.ASSISTANT, blocks=(Text(self.text),), metadata={**(metadata or {})}))
        self._kept = True


class Stream(_Answer):
    """What `Turn.stream` gives; iterate once."""

    def __init__(self, turn: Appends, chunks: Iterable[str], *, limit: int) -> None:
        super().__init__(turn, limit=limit)
        self._chunks = chunks

    def __iter__(self) -> Iterator[str]:
        for chunk in self._chunks:
            yield self._take(chunk)
        self._append()


class AsyncStream(_Answer):
    """What `Turn.astream` gives; iterate once."""

    def __init__(self, turn: Appends, chunks: AsyncIterable[str], *, limit: int) -> None:
        super().__init__(turn, limit=limit)
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[str]:
        import asyncio

        async for chunk in self._chunks:
            yield self._take(chunk)
        await asyncio.to_thread(self._append)
