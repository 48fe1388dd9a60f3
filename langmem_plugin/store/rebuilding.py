"""What a store offers for checking what is derived, and for deriving it again (guarantee G10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from langmem_plugin.records import Constraint, SessionKey


class Rebuilds(Protocol):
    """Every method that writes is one transaction."""

    def keywords(self, key: SessionKey, *, after: int, upto: int) -> dict[int, dict[str, int]]:
        """The keyword counts of entries with `after` < seq <= `upto`; one without any is left out."""
        ...

    def replace_keywords(self, key: SessionKey, terms: Mapping[int, Mapping[str, int]]) -> None:
        """Give entries other keyword counts, and count the session's terms anew."""
        ...

    def restore_constraints(self, key: SessionKey, constraints: Sequence[Constraint], *, now: datetime) -> int:
        """Keep constraints as they are given, versions and states included; gives how many were not there."""
        ...

    def drop_summaries(self, key: SessionKey, *, now: datetime) -> int:
        """Delete a session's summaries, so that they are written anew; gives how many there were.

        What was read of the session before is void then, as after an erasure (`Head.erased`).
        """
        ...
