"""One writer at a time, in the order of asking: between threads, and between processes on one file.

SQLite's own waiting is by naps that grow: a writer may wait for seconds while others pass it.
And SQLite before 3.51.3 can lose its write-ahead log if two processes reset it at one moment;
with this lock no two write, or move the log into the file, at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

_NAP_S = 0.000_2
_NEXT_NAP_S = 0.001
_FULL_S = 30.0


class WriteLockTimeout(OSError):
    """Another process has held the database too long."""

    def __init__(self) -> None:
        super().__init__("the database is locked")


class WriteLock:
    """A reentrant lock; threads of this process get it first come, first served.

    Of several processes each has it in turn: who wants it first takes a second lock, and
    the one that has just written has to queue for that like the others.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Nothing is locked yet.

        Args:
            path: A file that the processes share; None for this process alone.
        """
        self._threads = _FirstComeLock()
        self._path = path
        self._pid = 0
        self._files: tuple[int, int] | None = None
        self._depth = 0

    def __enter__(self) -> Self:
        self._threads.acquire()
        try:
            if self._depth == 0 and self._path is not None:
                self._acquire_file(self._path)
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._files is not None:
            _unlock(self._files[1])
        self._threads.release()

    def close(self) -> None:
        """Let go of the files; they are opened again if the lock is used again."""
        files, self._files = self._files, None
        for file in files or ():
            os.close(file)

    def __del__(self) -> None:
        self.close()

    def _acquire_file(self, path: Path) -> None:
        if self._files is None or self._pid != os.getpid():  # a child shares its parent's locks
            self.close()
            queue, turn = (_open(path.with_name(path.name + end)) for end in ("", "2"))
            self._files = (queue, turn)
            self._pid = os.getpid()
        queue, turn = self._files
        until = time.monotonic() + _FULL_S
        _lock(queue, until, _NEXT_NAP_S)
        try:
            _lock(turn, until, _NAP_S)
        finally:
            _unlock(queue)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)


class _FirstComeLock:
    """A reentrant lock that is handed on in the order of asking."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()
        self._owner: int | None = None
        self._count = 0

    def acquire(self) -> None:
        me = threading.get_ident()
        with self._guard:
            if self._owner in (None, me):
                self._owner = me
                self._count += 1
                return
            mine = threading.Event()
            self._waiting.append((me, mine))
        try:
            mine.wait()
        except BaseException:
            with self._guard:
                if not mine.is_set():
                    self._waiting.remove((me, mine))
                    raise
            self.release()
            raise

    def release(self) -> None:
        with self._guard:
            self._count -= 1
            if self._count:
                return
            if self._waiting:
                self._owner, following = self._waiting.popleft()
                self._count = 1
                following.set()
            else:
                self._owner = None


try:
    import fcntl
except ImportError:  # Windows: SQLite's own waiting has to do

    def _lock(file: int, until: float, nap_s: float) -> None:
        pass

    def _unlock(file: int) -> None:
        pass

else:

    def _lock(file: int, until: float, nap_s: float) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise WriteLockTimeout from None
                time.sleep(nap_s)
            else:
                return

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
