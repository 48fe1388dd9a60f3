"""Threads that wait to write share a transaction: one wait for the disk makes the turns of all of them durable."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection

from langmem_plugin.store.write_lock import WriteLock

_MOST = 64
"""Writes in one transaction at most."""
_LONG_S = 0.05
"""After so long no further write joins: other processes wait, too."""


class _Transaction:
    """One that is open, and how it ends."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.writes = 0
        self.until = time.monotonic() + _LONG_S
        self.broken: Exception | None = None
        """Why nothing of it stands."""
        self.over = threading.Event()

    def may_grow(self) -> bool:
        return self.broken is None and self.writes < _MOST and time.monotonic() < self.until


class SharedWrites:
    """Writes of a process's threads, one after the other, committed together.

    Each write is a savepoint: one that fails takes nothing of the others with it. None
    returns before the transaction that holds it is durable (guarantee G4), and if that
    fails, all of its writes raise.
    """

    def __init__(self, lock: WriteLock, begin: Callable[[], Connection]) -> None:
        """Nothing is open yet.

        Args:
            lock: Who has it writes.
            begin: Gives a connection in a new transaction, for this one to close.
        """
        self._lock = lock
        self._begin = begin
        self._open: _Transaction | None = None
        lock.conclude = self._end

    @contextmanager
    def turn(self) -> Iterator[Connection]:
        """One write, durable when this ends without an error."""
        transaction = self._join()
        try:
            if transaction.writes > 1:
                _say(transaction.connection, "SAVEPOINT write")
            yield transaction.connection
            if transaction.writes > 1:
                _say(transaction.connection, "RELEASE write")
        except BaseException as error:
            self._undo(transaction, error)
            self._pass_on(transaction)
            raise
        self._pass_on(transaction)
        transaction.over.wait()
        if transaction.broken is not None:
            raise transaction.broken

    def _join(self) -> _Transaction:
        self._lock.acquire()
        try:
            if self._open is None:
                self._open = _Transaction(self._begin())
            self._open.writes += 1
        except BaseException:
            self._lock.release()
            raise
        return self._open

    def _undo(self, transaction: _Transaction, error: BaseException) -> None:
        """Take a failed write back; if that cannot be done without the others, they fail as well."""
        if transaction.writes > 1:
            try:
                _say(transaction.connection, "ROLLBACK TO write")
                _say(transaction.connection, "RELEASE write")
            except sqlite3.Error:  # SQLite has rolled all of it back: the disk is full, or fails
                transaction.broken = error if isinstance(error, Exception) else OSError("another write failed")
        else:
            transaction.broken = error if isinstance(error, Exception) else OSError("the write was interrupted")

    def _pass_on(self, transaction: _Transaction) -> None:
        """Let the next thread carry on, or end it."""
        if transaction.may_grow() and self._lock.pass_on():
            return
        try:
            self._commit()
        finally:
            self._lock.release()
            transaction.over.set()  # last: whom this wakes take the interpreter from the one that has the lock

    def _end(self) -> None:
        transaction = self._open
        try:
            self._commit()
        finally:
            if transaction is not None:
                transaction.over.set()

    def _commit(self) -> None:
        transaction, self._open = self._open, None
        if transaction is None:
            return
        try:
            if transaction.broken is None:
                transaction.connection.commit()
        except BaseException as error:
            transaction.broken = error if isinstance(error, Exception) else OSError("the commit was interrupted")
            with suppress(Exception):
                transaction.connection.invalidate()  # whatever SQLite made of it: closed, it is rolled back
            if not isinstance(error, Exception):
                raise
        finally:
            with suppress(Exception):
                transaction.connection.close()  # rolls back what is not committed


def _say(connection: Connection, statement: str) -> None:
    driver = connection.connection.driver_connection
    if isinstance(driver, sqlite3.Connection):
        driver.execute(statement)
