"""What an erasure takes out, gathered for the receipt and the scan; the same for every backend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from langmem_plugin.messages import Message
from langmem_plugin.records import SessionKey
from langmem_plugin.store.keeping import Erased
from langmem_plugin.store.sealing import MARK

_NOT_SAID = {"role", "id", "tool_call_id"}
"""Fields of a message that its tombstone keeps."""


class Collected:
    """Counts and byte strings of what goes."""

    def __init__(self) -> None:
        self.keys: list[SessionKey] = []
        self.versions: list[int] = []
        self._counts: Counter[str] = Counter()
        self._messages: list[str] = []
        self._strings: dict[str, None] = {}
        self._terms: dict[str, None] = {}
        self._vectors: list[bytes] = []

    def message(self, body: dict[str, Any], table: str = "messages") -> None:
        """A message, as its JSON."""
        self._counts[table] += 1
        self._messages.append(Message.from_json(body).text)
        self._strings.update(dict.fromkeys(_leaves({k: v for k, v in body.items() if k not in _NOT_SAID})))

    def sealed(self, table: str, text: str, body: dict[str, Any] | None) -> None:
        """A message as its JSON and as it was kept; None where no key opens it any more."""
        if body is not None:
            self.message(body, table)
        else:
            self._counts[table] += 1
        self.kept(text)

    def kept(self, text: str) -> None:
        """A text as it was kept: what the files are searched for if it was sealed."""
        if text.startswith(MARK):
            self._strings[text] = None

    def erased(self) -> Erased:
        """All of it."""
        return Erased(
            keys=tuple(self.keys),
            versions=tuple(self.versions),
            counts={name: count for name, count in self._counts.items() if count},
            messages=tuple(self._messages),
            strings=tuple(self._strings),
            terms=tuple(self._terms),
            vectors=tuple(self._vectors),
        )


def _leaves(value: Any) -> Iterator[str]:
    """Every text in a JSON value but for the names of fields."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _leaves(one)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one)
