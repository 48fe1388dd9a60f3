"""Whether another process has locked Chroma's SQLite file, found out without touching its locks.

Chroma waits for such a lock without an end, and while it writes it holds Python's
interpreter meanwhile: no thread of the process would run. So it is looked at first.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

from langmem_plugin.errors import StoreUnavailable

_FLOCK = "hhqqi4x"
"""Linux's `struct flock`: type, whence, start, length, pid."""
_LOCK_BYTES = (0x40000000, 512)
"""Where SQLite's locks are, and how many bytes they take."""


class SqliteLock:
    """Looks at the locks of a file; Linux only, elsewhere there seems to be none.

    The file stays open until `close`: closing it lets go of all locks that this process
    has on it, which are Chroma's while that is open.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._number: int | None = os.open(file, os.O_RDONLY) if sys.platform == "linux" else None

    def check(self) -> None:
        """Does nothing if no other process has a lock.

        Raises:
            StoreUnavailable: One has.
        """
        if self._number is None or sys.platform != "linux":
            return
        import fcntl

        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, *_LOCK_BYTES, 0)
        found, *_ = struct.unpack(_FLOCK, fcntl.fcntl(self._number, fcntl.F_GETLK, asked))
        if found != fcntl.F_UNLCK:
            raise StoreUnavailable(str(self._file), "another process has locked it", "end what reads or writes it")

    def close(self) -> None:
        """Close the file, after Chroma has. Does nothing the second time."""
        number, self._number = self._number, None
        if number is not None:
            os.close(number)
