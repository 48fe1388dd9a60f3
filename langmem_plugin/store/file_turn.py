"""One process at a time, in the order of asking, by locks on two files that end with the process that has them."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAP_S = 0.000_3
"""Between two looks whether one's turn has come, for the next in line."""
_FAR_NAP_S = 0.001_5
"""For each one further back."""
_LONGEST_NAP_S = 0.005
_COUNTERS = struct.Struct("<QQ")
"""In the first file: the next ticket, and the one whose turn it is."""


class WriteLockTimeout(OSError):
    """Another process has held the database too long."""

    def __init__(self) -> None:
        super().__init__("the database is locked")


class FileTurn:
    """A place in the line of processes that want to write.

    The second file's lock is the turn. On Linux the line is kept by tickets: who asks
    takes the next number, locks the byte of that number in the first file, and waits until
    the byte before it is free. A process that dies frees its byte. Elsewhere the next
    in line holds the first file's lock, and which of the others follows is chance.
    """

    def __init__(self, path: Path) -> None:
        """Open, and make, the two files.

        Raises:
            OSError: They cannot be made.
        """
        self._line, self._turn = (_open(path.with_name(path.name + end)) for end in ("", "2"))
        self._pid = os.getpid()
        self._ticket: int | None = None
        self._by_ticket = _can_lock_bytes(self._line)

    @property
    def inherited(self) -> bool:
        """True in a child of the process that opened the files: it shares its parent's locks."""
        return self._pid != os.getpid()

    def acquire(self, *, timeout_s: float) -> None:
        """Wait for this process's turn.

        Raises:
            WriteLockTimeout: It has not come within so many seconds.
        """
        until = time.monotonic() + timeout_s
        if not self._by_ticket:
            _lock(self._line, until)
            try:
                _lock(self._turn, until)
            finally:
                _unlock(self._line)
            return
        ticket = self._ticket = self._take_ticket(until)
        try:
            while not _lock_bytes(self._line, ticket):  # the byte before ours
                _, now = self._counters()
                far = max(0, ticket - now - 1)
                _sleep(until, min(_LONGEST_NAP_S, _NAP_S + far * _FAR_NAP_S))
            _lock(self._turn, until)
            os.pwrite(self._line, ticket.to_bytes(8, "little"), 8)
        except BaseException:
            self._leave_line()
            raise

    def release(self) -> None:
        """Let the next process have its turn."""
        _unlock(self._turn)
        self._leave_line()

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._line)
        os.close(self._turn)

    def _take_ticket(self, until: float) -> int:
        while not _lock_bytes(self._line, 0):
            _sleep(until, _NAP_S)
        try:
            ticket, now = self._counters()
            os.pwrite(self._line, _COUNTERS.pack(ticket + 1, now), 0)
            _lock_bytes(self._line, ticket + 1)
        finally:
            _unlock_bytes(self._line, 0, 1)
        return ticket

    def _counters(self) -> tuple[int, int]:
        """The next ticket, at least 1, and the one whose turn it is."""
        data = os.pread(self._line, _COUNTERS.size, 0)
        ticket, now = _COUNTERS.unpack(data) if len(data) == _COUNTERS.size else (1, 0)
        return (ticket, now) if 0 < ticket < 2**62 else (1, 0)

    def _leave_line(self) -> None:
        if self._ticket is not None:
            _unlock_bytes(self._line, self._ticket, 2)
            self._ticket = None


class Errands:
    """Work, by a name, that one process at a time is at; nobody waits for it. Thread-safe.

    Each name is a byte of the first file, far behind the tickets. Two names may meet on
    one byte, and then one of them is left needlessly. Where bytes cannot be locked, all work at once.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._file: int | None = None
        self._pid = 0
        self._guard = threading.Lock()
        self._mine: set[int] = set()

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """True inside if nobody else is at it."""
        place = 2**61 + int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")
        with self._guard:
            if self._file is None or self._pid != os.getpid():
                self.close()
                self._file, self._pid = _open(self._path), os.getpid()
            file = self._file
            mine = place not in self._mine and (not _can_lock_bytes(file) or _lock_bytes(file, place))
            if mine:
                self._mine.add(place)
        try:
            yield mine
        finally:
            if mine:
                with self._guard:
                    self._mine.discard(place)
                    if file == self._file and _can_lock_bytes(file):
                        _unlock_bytes(file, place, 1)

    def close(self) -> None:
        """Let go of all of them."""
        file, self._file = self._file, None
        self._mine.clear()
        if file is not None:
            os.close(file)

    def __del__(self) -> None:
        self.close()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)


def _sleep(until: float, nap_s: float) -> None:
    if time.monotonic() > until:
        raise WriteLockTimeout
    time.sleep(nap_s)


try:
    import fcntl
except ImportError:  # Windows: SQLite's own waiting has to do

    def _lock(file: int, until: float) -> None:
        pass

    def _unlock(file: int) -> None:
        pass

else:

    def _lock(file: int, until: float) -> None:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _sleep(until, _NAP_S)
            else:
                return

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


if sys.platform == "linux" and sys.maxsize > 2**32:
    # Locks of an open file, not of a process: two memories of one process meet them, too.
    # struct flock: type, whence, start, length, pid.

    def _lock_bytes(file: int, start: int) -> bool:
        """Lock one byte; False if another has it."""
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def _unlock_bytes(file: int, start: int, count: int) -> None:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, start, count, 0))

    def _can_lock_bytes(file: int) -> bool:
        try:
            _unlock_bytes(file, 2**62, 1)
        except OSError:
            return False
        return True

else:

    def _lock_bytes(file: int, start: int) -> bool:
        raise NotImplementedError

    def _unlock_bytes(file: int, start: int, count: int) -> None:
        raise NotImplementedError

    def _can_lock_bytes(file: int) -> bool:
        return file < 0
