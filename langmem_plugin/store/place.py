"""Where a store keeps its data."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Place(Protocol):
    """A database: its address and its files."""

    @property
    def url(self) -> str:
        """Its address, the password hidden."""
        ...

    @property
    def path(self) -> Path | None:
        """Its file; None if it has none that this process could read."""
        ...

    @property
    def instance(self) -> str:
        """A random id that it got when it was made."""
        ...

    def files(self) -> list[Path]:
        """The files that hold it just now; [] if there are none."""
        ...

    def vacuum(self) -> None:
        """Write its files anew, without what was deleted."""
        ...
