"""Conversations out of a file of another memory, a message at a time where its format allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Literal, Protocol, TypeAlias, get_args

from langmem_plugin.errors import InvalidMessage, InvalidSetting
from langmem_plugin.formats import langchain, llama_index, openai
from langmem_plugin.messages import Message

FileFormat: TypeAlias = Literal["auto", "jsonl", "langchain", "llama-index", "openai"]
"""What can be read; `jsonl` is this package's own export."""

_READERS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], Message]]] = {
    "langchain": (langchain.is_message, langchain.message_of),
    "llama-index": (llama_index.is_message, llama_index.message_of),
    "openai": (openai.is_message, openai.message_of),
}
"""In the order in which a message is tried: LlamaIndex's have a role, too."""
_NAMES = ("session", "session_id", "conversation_id", "thread_id", "id")
_LARGEST = 256 << 20
"""Characters of one JSON value in a file."""
_CHUNK = 64 << 10
_SPACE = " \t\r\n\f\v\ufeff"


class Readable(Protocol):
    """An open text file."""

    def read(self, size: int, /) -> str:
        """At most so many characters; "" at the end."""
        ...

    def readline(self, size: int, /) -> str:
        """The rest of the line, at most so many characters; "" at the end."""
        ...


def check_format(format: str) -> None:
    """Refuse what cannot be read.

    Raises:
        InvalidSetting: There is no such format.
    """
    if format not in get_args(FileFormat):
        raise InvalidSetting("format", format, f"use one of {', '.join(get_args(FileFormat))}")


def own_lines(stream: Readable) -> tuple[Iterator[str] | None, str]:
    """The lines of the stream if it is an export of this package; else None, and what was read of it."""
    head = stream.readline(_CHUNK)
    while head.isspace():
        head = stream.readline(_CHUNK)
    try:
        first = json.loads(head)
    except (ValueError, RecursionError):
        return None, head
    if not isinstance(first, dict) or first.get("kind") != "session" or "format" not in first:
        return None, head
    return chain([head], iter(lambda: _whole_line(stream), "")), ""


def conversations(stream: Readable, format: str, *, head: str = "") -> Iterator[tuple[str | None, Iterator[Message]]]:
    """Each conversation with its name, if it has one, and its messages, oldest first; read one after the other.

    A list of messages, or a line for each, is one conversation without a name, and is read as it
    is written. A JSON object with `messages` is one conversation, with `store` one for each key;
    such an object is read as a whole. The file may hold several objects, one after the other.

    Args:
        stream: The file.
        format: "auto", "langchain", "llama-index" or "openai".
        head: What was read of it already.

    Raises:
        InvalidMessage: It holds something else; what came before was given already.
    """
    values = _values(stream, head)
    for value in values:
        if _messages_of(value) is None:
            loose = chain([value], values)
            yield None, _read(loose, format)
            return
        for name, messages in _messages_of(value) or ():
            yield name, _read(messages, format)


def _messages_of(value: object) -> list[tuple[str | None, list[Any]]] | None:
    """The conversations that a JSON object holds; None if it is none that holds any."""
    if not isinstance(value, dict):
        return None
    if isinstance(store := value.get("store"), dict):
        return [(key, held) for key, held in store.items() if isinstance(held, list)]
    if isinstance(held := value.get("messages"), list):
        return [(next((value[name] for name in _NAMES if isinstance(value.get(name), str)), None), held)]
    return None


def _read(values: Iterable[Any], format: str) -> Iterator[Message]:
    reader = None if format == "auto" else _READERS[format][1]
    for number, held in enumerate(values, start=1):
        # Redis and SQL stores of LangChain keep a text each.
        value = _loaded(held) if isinstance(held, str) and format == "langchain" else held
        if not isinstance(value, dict):
            raise InvalidMessage(f"value {number} of the file is no message", "name its --format")
        if reader is None:
            reader = next((read for knows, read in _READERS.values() if knows(value)), None)
        if reader is None:
            raise InvalidMessage(f"message {number} has no form that is known", "name its --format")
        try:
            yield reader(value)
        except InvalidMessage as error:
            raise InvalidMessage(f"message {number}: {error.why}", error.advice) from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _values(stream: Readable, head: str) -> Iterator[Any]:
    """The JSON values of a file, or the elements if it is one list; one after the other."""
    source = _Source(stream, head)
    listed = source.next_char(_SPACE) == "["
    source.place += listed
    while char := source.next_char(_SPACE + ("," if listed else "")):
        if listed and char == "]":
            source.place += 1
            if source.next_char(_SPACE):
                raise source.broken()
            return
        yield source.value()
    if listed:
        raise source.broken()


class _Source:
    """A file's text, as far as it is needed."""

    def __init__(self, stream: Readable, head: str) -> None:
        self._stream = stream
        self._text = head
        self._ended = False
        self._decoder = json.JSONDecoder()
        self._number = 0
        self.place = 0

    def next_char(self, but: str) -> str:
        """The next character that is none of these, which are passed over; "" at the end."""
        while True:
            while self.place < len(self._text) and self._text[self.place] in but:
                self.place += 1
            if self.place < len(self._text):
                return self._text[self.place]
            if self._ended:
                return ""
            self._read_on()

    def value(self) -> Any:
        """The JSON value that begins here.

        Raises:
            InvalidMessage: None does, it is too large, or nested too deep.
        """
        while True:
            try:
                value, self.place = self._decoder.raw_decode(self._text, self.place)
            except RecursionError as error:
                raise self.broken() from error
            except ValueError as error:
                if self._ended or len(self._text) - self.place > _LARGEST:
                    raise self.broken() from error
                self._read_on()
            else:
                self._number += 1
                return value

    def broken(self) -> InvalidMessage:
        """The error that says how far it was JSON."""
        return InvalidMessage(
            f"the file is no JSON after {self._number} values", "give JSON, or JSON Lines; it may be cut off"
        )

    def _read_on(self) -> None:
        held = self._text[self.place :]
        more = self._stream.read(max(_CHUNK, len(held)))  # twice as much each time, so that a long value costs no more
        self._text, self.place, self._ended = held + more, 0, not more


def _whole_line(stream: Readable) -> str:
    return stream.readline(-1)
