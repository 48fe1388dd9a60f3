"""One writer at a time, in the order of asking: between threads, and between processes on one file.

SQLite's own waiting is by naps that grow: a writer may wait for seconds while others pass it.
And SQLite before 3.51.3 can lose its write-ahead log if two processes reset it at one moment;
with this lock no two write, or move the log into the file, at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from langmem_plugin.store.file_turn import FileTurn

_FULL_S = 30.0


class WriteLock:
    """A reentrant lock; threads of this process get it first come, first served.

    Processes have it in the order of asking, too: who has just written goes to the end of the line.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Nothing is locked yet.

        Args:
            path: A file that the processes share; None for this process alone.
        """
        self.conclude: Callable[[], None] = _nothing
        """Ends what a thread left open when it passed the lock on; a thread that will not carry it on calls this."""
        self._threads = _FirstComeLock(self._came_to_nobody)
        self._path = path
        self._file: FileTurn | None = None
        self._held = False
        """Whether the file is locked: it stays so while threads pass the lock on."""
        self._depth = 0

    def __enter__(self) -> Self:
        self.acquire()
        try:
            if self._depth == 1:
                self.conclude()
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait for this thread's turn; what another thread left open is still open.

        Raises:
            WriteLockTimeout: Another process has held the file too long.
        """
        self._threads.acquire()
        try:
            if not self._held and self._path is not None:
                self._acquire_file(self._path)
                self._held = True
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def release(self) -> None:
        """End this thread's turn."""
        self._depth -= 1
        if self._depth == 0:
            self._release_file()
        self._threads.release()

    def pass_on(self) -> bool:
        """End this thread's turn and keep the file for the next that waits; False, and no change, if none does."""
        self._depth -= 1
        if self._threads.pass_on():
            return True
        self._depth += 1
        return False

    def close(self) -> None:
        """Let go of the files; they are opened again if the lock is used again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __del__(self) -> None:
        self.close()

    def _came_to_nobody(self) -> None:
        """A thread gave up waiting when the lock had just been passed to it."""
        try:
            self.conclude()
        finally:
            self._release_file()
            self._threads.release()

    def _release_file(self) -> None:
        if self._held and self._file is not None:
            self._held = False
            self._file.release()

    def _acquire_file(self, path: Path) -> None:
        if self._file is None or self._file.inherited:
            self.close()
            self._file = FileTurn(path)
        self._file.acquire(timeout_s=_FULL_S)


def _nothing() -> None:
    pass


class _FirstComeLock:
    """A reentrant lock that is handed on in the order of asking."""

    def __init__(self, came_to_nobody: Callable[[], None]) -> None:
        self._came_to_nobody = came_to_nobody
        self._guard = threading.Lock()
        self._waiting: deque[tuple[int, threading.Lock]] = deque()
        """Each with a lock that is let go when its turn has come."""
        self._owner: int | None = None
        self._count = 0

    def acquire(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._owner in (None, me):
                self._owner = me
                self._count += 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append((me, mine))
        try:
            mine.acquire()
        except BaseException:
            with self._guard:
                if self._owner != me:
                    self._waiting.remove((me, mine))
                    raise
            self._came_to_nobody()
            raise

    def release(self) -> None:
        with self._guard:
            self._count -= 1
            if not self._count and not self._next():
                self._owner = None

    def pass_on(self) -> bool:
        """Release it if another thread waits and this one has it once; True if so."""
        with self._guard:
            return self._count == 1 and self._next()

    def _next(self) -> bool:
        if not self._waiting:
            return False
        self._owner, following = self._waiting.popleft()
        self._count = 1
        following.release()
        return True
