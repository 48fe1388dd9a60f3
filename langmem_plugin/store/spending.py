"""What a store keeps of tokens that were spent, and of how a provider counts them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from langmem_plugin.messages import Message, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One answer's usage, as its provider reported it."""

    session: str
    at: datetime
    model: str
    """"" where the framework did not say."""
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """By how much a provider counts more; see `tokens.Correction`."""

    model: str
    ratio: float
    extra: int


@runtime_checkable
class SpendStore(Protocol):
    """A store from which spending and corrections can be read again after a restart."""

    def reported(self, owner: str, *, session: str | None = None, since: datetime | None = None) -> list[Reported]:
        """Usage that the messages of an owner, or of one session, carry, oldest first; pending turns' too.

        Args:
            owner: Whose.
            session: One session; all of the owner's if not given.
            since: Only what was said after then.
        """
        ...

    def learned(self, counter: str) -> list[Learned]:
        """The corrections of a counter's counts, by model."""
        ...

    def save_learned(self, counter: str, learned: Learned) -> None:
        """Keep a correction, unless one that corrects more is kept."""
        ...


def model_of(message: Message) -> str:
    """The model's name, where the framework put it into the message."""
    data = message.payload.data if message.payload is not None else {}
    for place in (data.get("response_metadata"), data, message.metadata):
        if isinstance(place, dict):
            name = place.get("model_name") or place.get("model")
            if isinstance(name, str):
                return name
    return ""
