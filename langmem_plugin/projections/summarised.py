"""What the summary needs of a store and of a counter."""

from __future__ import annotations

from typing import Protocol

from langmem_plugin.records import Constraint, Entry, Head, SessionKey, Summary, Uncovered


class SummaryStore(Protocol):
    """What the summary needs of a store."""

    def uncovered(self, key: SessionKey) -> Uncovered | None:
        """How much no summary covers; None if the session was never written or was forgotten."""
        ...

    def head(self, key: SessionKey) -> Head | None:
        """Where the session stands; None if it was never written or was forgotten."""
        ...

    def summaries(self, key: SessionKey) -> tuple[Summary | None, Summary | None]:
        """The newest that a model wrote, and the newest of any method: the one shown."""
        ...

    def entries(
        self, key: SessionKey, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> list[Entry]:
        """Committed entries with `after < seq <= upto`, ascending, the first `limit` of them."""
        ...

    def active_constraints(self, key: SessionKey) -> tuple[Constraint, ...]:
        """What every request carries anyway."""
        ...

    def save_summary(self, key: SessionKey, summary: Summary, *, expected: Summary | None) -> bool:
        """Keep a summary and its position in one transaction.

        False, and nothing kept, if the one shown is not `expected` any more, or the
        session was forgotten.
        """
        ...


class TextCounter(Protocol):
    """Counts tokens of a text."""

    def count(self, text: str) -> int:
        """Tokens of the text."""
        ...
