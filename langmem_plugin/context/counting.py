"""What assembly needs of a token counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from langmem_plugin.messages import Message


class Counter(Protocol):
    """Counts tokens as the model does; `langmem_plugin.tokens.TokenCounter` is one."""

    @property
    def priming(self) -> int:
        """Tokens that a request has once, whatever its messages."""
        ...

    def count(self, text: str) -> int:
        """Tokens of a text alone."""
        ...

    def count_message(self, message: Message) -> int:
        """Tokens of a message with its overhead."""
        ...

    def count_tools(self, tools: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of tool schemas."""
        ...
