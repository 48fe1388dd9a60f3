"""Out of a memory, and in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from langmem_plugin.engine import Engine
from langmem_plugin.transfer import Progress, Transferred, export_lines, import_lines


class Porting:
    """The part of a memory that moves sessions."""

    _engine: Engine

    def export_lines(
        self, *, owner: str | None = None, session: str | None = None, progress: Progress | None = None
    ) -> Iterator[str]:
        """Sessions as JSON Lines: messages, the summary, constraints; vectors are made anew where they are read.

        Args:
            owner: Whose; everybody's if not given.
            session: One session of that owner.
            progress: Called with how many messages are out.

        Example:
            >>> from langmem_plugin import Memory
            >>> with Memory.open() as old, Memory.open() as new:
            ...     version = old.session("trip", owner="ann").add("I live in Lyon.")
            ...     moved = new.import_lines(old.export_lines())
            ...     moved.messages
            1
        """
        keys = [key for key in self._engine.store.keys(owner=owner) if session in (None, key.session)]
        return export_lines(self._engine, keys, progress=progress)

    def import_lines(
        self, lines: Iterable[str], *, owner: str | None = None, progress: Progress | None = None
    ) -> Transferred:
        """Write sessions that `export_lines` gave; a turn that is there already adds nothing.

        Args:
            lines: An open file, for example; read as they are written.
            owner: Whose they become; as they were, if not given.
            progress: Called with how many messages were read.

        Raises:
            InvalidMessage: A line is no such line; what came before it is there. Repair it and read all again.
        """
        return import_lines(self._engine, lines, owner=owner, progress=progress)
