"""The keys of an encrypted memory."""

from __future__ import annotations

from collections.abc import Callable

from langmem_plugin.engine import Engine, check_name
from langmem_plugin.errors import InvalidSetting, StoreClosed
from langmem_plugin.store.rotation import Rotated, rotate


class Rotating:
    """The part of a memory that changes keys."""

    _engine: Engine
    _closed: bool

    def rotate_key(
        self, *, owner: str, progress: Callable[[int], object] | None = None, grace_s: float = 1.0
    ) -> Rotated:
        """Give an owner a new key, seal all that is stored with it, and destroy the earlier ones.

        Everybody may go on reading and writing meanwhile. What was written before encryption was
        switched on is sealed as well. If it ends early, by an error or a crash, everything can still be
        read, and the next call goes on with the same new key. Backups of the database from before can
        then be read only with a backup of the ring from before.

        Args:
            owner: Whose.
            progress: Called with how many rows are done, after each transaction.
            grace_s: How long to wait before the earlier keys go, seconds: for readers in other processes
                that have begun with them.

        Raises:
            InvalidSetting: The memory was opened without `encryption`, or an argument cannot work.
            KeyUnavailable: A row is sealed with a key that the ring no longer has.
            SealBroken: A row is not what was sealed there; its place is named.
        """
        if self._closed:
            raise StoreClosed
        check_name("owner", owner)
        if not grace_s >= 0:
            raise InvalidSetting("grace_s", grace_s, "give seconds, 0 or more")
        return rotate(self._engine.store, owner, progress=progress, grace_s=grace_s)
