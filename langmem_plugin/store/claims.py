"""What workers need of a store, and how each keeps the others off the sessions it has taken on."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from sqlalchemy import Connection, Engine, text
from sqlalchemy import exc as sql_errors

from langmem_plugin.errors import WorkerRunning
from langmem_plugin.records import SessionKey

_FAMILY = 0x6C616E67
"""Tells our advisory locks from those of others in one database."""
_NUMBERS = 2**31


class Claims(Protocol):
    """Sessions by the number of their row. A claim ends with `release`, with `close` or with the process."""

    def claim(self, number: int) -> bool:
        """Take a session on; False if another worker has it."""
        ...

    def release(self, number: int) -> None:
        """Let another worker have it; never raises."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A session that changed since a worker last found nothing to do in it."""

    number: int
    """Of its row; what a worker claims."""
    key: SessionKey
    version: int


@runtime_checkable
class WorkStore(Protocol):
    """What workers need of a store, beside the rest; see `projections.worker`."""

    def behind(self, *, after: int = 0, limit: int = 64) -> list[Behind]:
        """Sessions with `number > after` that are not worked off, by number, at most `limit`."""
        ...

    def save_worked(self, number: int, version: int) -> None:
        """Note that nothing was left to do in a session as it was at this version."""
        ...

    def begin_work(self, done_with: str) -> None:
        """Look at every session again if the last worker worked with something else.

        Args:
            done_with: What there is to do, in words: projections, and the models' names.
        """
        ...

    def claims(self) -> Claims:
        """How this worker takes sessions on.

        Raises:
            WorkerRunning: One worker is all that this store takes, and there is one.
            InvalidSetting: No other process can see this store.
        """
        ...


class PostgresClaims:
    """Advisory locks on a connection of its own: the server drops them when the process dies.

    If the connection is lost, so are the claims, and another worker may begin what this one
    is about to finish. The effect of a unit of work and its position commit together, so it
    still happens once.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._held: set[int] = set()

    def claim(self, number: int) -> bool:
        """See `Claims.claim`; False too while the server is away."""
        with self._lock:
            try:
                taken = bool(self._ask("SELECT pg_try_advisory_lock(:family, :number)", number))
            except sql_errors.SQLAlchemyError:
                self._lose()
                return False
            if taken:
                self._held.add(number)
            return taken

    def release(self, number: int) -> None:
        """See `Claims.release`."""
        with self._lock:
            if number not in self._held:
                return
            self._held.discard(number)
            try:
                self._ask("SELECT pg_advisory_unlock(:family, :number)", number)
            except sql_errors.SQLAlchemyError:
                self._lose()

    def close(self) -> None:
        """See `Claims.close`."""
        with self._lock:
            self._lose()

    def _ask(self, query: str, number: int) -> object:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        return self._connection.scalar(text(query), {"family": _FAMILY, "number": number % _NUMBERS})

    def _lose(self) -> None:
        connection, self._connection = self._connection, None
        self._held.clear()
        if connection is not None:
            with contextlib.suppress(sql_errors.SQLAlchemyError):
                connection.invalidate()  # closed for good: given back to the pool it would keep its locks
                connection.close()


class FileClaims:
    """The whole of a SQLite file, for one worker.

    Raises:
        WorkerRunning: Another one has it.
    """

    def __init__(self, database: Path) -> None:
        self._file: IO[str] | None = database.with_name(database.name + ".worker").open("a+", encoding="ascii")
        self._file.seek(0)
        try:
            _lock_file(self._file)
        except OSError as error:
            self._file.seek(0)
            pid = self._file.read(32).strip() or "unknown"
            self._file.close()
            raise WorkerRunning(str(database), pid) from error
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def claim(self, number: int) -> bool:
        """See `Claims.claim`."""
        return self._file is not None

    def release(self, number: int) -> None:
        """See `Claims.release`."""

    def close(self) -> None:
        """See `Claims.close`."""
        if self._file is not None:
            self._file.close()  # the lock ends with the file
            self._file = None


if sys.platform == "win32":
    import msvcrt

    def _lock_file(lock: IO[str]) -> None:
        lock.seek(1024)  # far behind the pid, so that the pid can still be read
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock_file(lock: IO[str]) -> None:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
