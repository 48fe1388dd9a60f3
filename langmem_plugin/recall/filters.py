"""Which messages a search may find at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Role
from langmem_plugin.records import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallFilter:
    """Narrows a search; what is not given narrows nothing, and all that is given must hold.

    Example:
        >>> from langmem_plugin.messages import user
        >>> RecallFilter(role="user").role is Role.USER
        True
    """

    since: datetime | None = None
    """Aware; only messages written then or later."""
    until: datetime | None = None
    """Aware; only messages written before."""
    role: Role | str | None = None
    """"user", "assistant", "tool" or "system"."""
    tool: str | None = None
    """Only results of the tool with this name, and messages that call it."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Only messages whose metadata has these values."""

    def __post_init__(self) -> None:
        """Checks what is given.

        Raises:
            InvalidSetting: A time without an offset, an end before the start, an unknown role.
        """
        for name, moment in (("since", self.since), ("until", self.until)):
            if moment is not None and moment.tzinfo is None:
                raise InvalidSetting(name, moment.isoformat(), "give a time with an offset, such as tzinfo=UTC")
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise InvalidSetting("until", self.until.isoformat(), f"give a time after since ({self.since.isoformat()})")
        if self.role is not None:
            try:
                object.__setattr__(self, "role", Role(self.role))
            except ValueError as error:
                raise InvalidSetting("role", self.role, f"use one of {', '.join(Role)}") from error

    def fits(self, entry: Entry) -> bool:
        """Whether a message may be found."""
        message = entry.message
        return (
            (self.since is None or entry.created_at >= self.since)
            and (self.until is None or entry.created_at < self.until)
            and (self.role is None or message.role is self.role)
            and (self.tool is None or self._is_of_tool(entry))
            and all(name in message.metadata and message.metadata[name] == v for name, v in self.metadata.items())
        )

    def _is_of_tool(self, entry: Entry) -> bool:
        message = entry.message
        answers = message.role is Role.TOOL and message.name == self.tool
        return answers or any(call.name == self.tool for call in message.tool_calls)
