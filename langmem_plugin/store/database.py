"""Opening a SQL database: connections, transactions, and its errors in our words."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Engine, create_engine, event, select
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool, StaticPool

from langmem_plugin.errors import (
    InvalidSetting,
    LangmemPluginError,
    SchemaTooNew,
    StoreClosed,
    StoreCorrupt,
    StoreUnavailable,
)
from langmem_plugin.keyring import KeyRing
from langmem_plugin.records import SessionKey
from langmem_plugin.store import schema
from langmem_plugin.store.claims import Claims, FileClaims
from langmem_plugin.store.file_turn import Errands
from langmem_plugin.store.migrations import migrate
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sealing import Sealing
from langmem_plugin.store.sealing_note import note_sealed
from langmem_plugin.store.shared_write import SharedWrites
from langmem_plugin.store.write_lock import WriteLock

_log = logging.getLogger(__name__)

_BUSY_MS = 30_000
"""How long SQLite waits for another process's write before it gives up."""

_SAFE_SQLITE = (3, 51, 3)

_FORMS = "give sqlite:///file.db, sqlite:////absolute/file.db, sqlite:// (in memory), postgresql://... or redis://..."


class SqlDatabase:
    """One database: many readers, one writer at a time in this process.

    SQLite runs in WAL with `synchronous=FULL` and every write begins IMMEDIATE: a
    deferred transaction that reads and then writes fails with "database is locked"
    whenever another process wrote meanwhile, and NORMAL loses acknowledged turns on
    a power cut (guarantee G4).
    """

    patience_s: float | None = None
    """Turns that have waited so long for one that is being committed are committed beside it; None: nobody else can."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        ttl: timedelta | None = None,
        ring: KeyRing | None = None,
    ) -> None:
        """Open it, and bring its schema up to date.

        Args:
            url: Its address.
            clock: The present moment, by which sessions end.
            ttl: What a session that begins here lives on after each write; None: no end.
            ring: The keys that seal what is written, and open what was sealed.
        """
        self.by_owner = False
        """Whether the database shows one owner's rows at a time."""
        self._url = self._parse(url)
        self.url = self._url.render_as_string(hide_password=True)
        self.sealing = Sealing(ring, where=self.url)
        self._options = {"langmem_clock": clock, "langmem_ttl": ttl, "langmem_sealing": self.sealing}
        self.path = _file_of(self._url)
        self._closed = False
        self._shared = _Shared()
        lock = None if self.path is None else self.path.with_name(self.path.name + ".lock")
        self._write_lock = WriteLock(lock)
        self._errands = None if lock is None else Errands(lock)
        self._shared_writes = SharedWrites(self._write_lock, self._begin_write)
        self._engine = self._open_engine()
        if self.path is not None and sqlite3.sqlite_version_info < _SAFE_SQLITE:
            _log.info(
                "SQLite %s can lose its write-ahead log if two processes reset it at once (fixed in 3.51.3); "
                "every writer of %s takes turns by a lock file, so that no two do",
                sqlite3.sqlite_version,
                self.url,
            )
        with self.translated():
            self._migrate()

    @property
    def instance(self) -> str:
        """A random id that the database got when it was made; tells databases apart that share a Chroma server."""
        with self.read() as connection:
            return str(connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "instance")))

    @property
    def in_memory(self) -> bool:
        """True if nothing is kept once the memory is closed."""
        return self.path is None and self._url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database throughout."""
        if self.in_memory:  # one connection serves every thread
            with self.write() as connection:
                yield connection
            return
        shared = self._shared
        if shared.depth:
            with self.translated():
                self._check_open()
                if shared.connection is None:
                    shared.connection = self._reader().execution_options(langmem_rows={})
                try:
                    yield shared.connection
                except BaseException:
                    shared.let_go()
                    raise
            return
        with self.translated():
            self._check_open()
            with self._reader() as connection, connection.begin():
                yield connection

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have what this thread reads inside see one state, in one transaction.

        A read that fails ends the transaction; the next one begins its own.
        """
        shared = self._shared
        shared.depth += 1
        try:
            yield
        finally:
            shared.depth -= 1
            if not shared.depth:
                shared.let_go()

    @contextmanager
    def write(self, *, unread: bool = False) -> Iterator[Connection]:
        """A transaction that stands as a whole, durably, or not at all; on a file, a part of one that threads share.

        Args:
            unread: What is inserted, updated and deleted inside is not asked how many rows it changed, and
                need not fail before the end: a server across a network may be told all of it at once.
        """
        if self.path is not None:
            with self.translated(), self._shared_writes.turn() as connection:
                yield connection
            return
        with self.translated(), self._write_lock:
            self._check_open()
            with self._engine.connect().execution_options(langmem_write=True) as connection, connection.begin():
                yield connection

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """True inside if no other process, or memory, on this file is inside with that name; always, off files."""
        if self._errands is None:
            yield True
            return
        with self.translated(), self._errands.alone(name) as mine:
            yield mine

    def _begin_write(self) -> Connection:
        self._check_open()
        connection = self._engine.connect().execution_options(langmem_write=True)
        try:
            connection.begin()
        except BaseException:
            connection.close()
            raise
        return connection

    def settle(self) -> None:
        """Wait until every write that is under way now has ended; the next one waits for it anyway here."""

    def line_up(self, connection: Connection, keys: Iterable[SessionKey]) -> None:
        """Let those who commit turns to these sessions do so in the order in which they came; a file has one writer."""

    def hold_sessions(self, connection: Connection) -> None:
        """Let nobody begin a session before this transaction ends; writers wait for each other anyway here."""

    def checkpoint(self, *, patience_ms: int = _BUSY_MS) -> None:
        """Move the write-ahead log into the database file and empty it, so that deleted bytes leave it too.

        Args:
            patience_ms: How long to wait for those who read; what they keep from leaving leaves later.
        """
        if self.path is None:
            return
        with self.translated(), self._write_lock:
            self._check_open()
            with self._engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={patience_ms}")
                try:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_MS}")

    def vacuum(self) -> None:
        """Write the database anew, row by row, so that no page keeps what was moved out of it."""
        if self.path is None:
            return
        with self.translated(), self._write_lock:
            self._check_open()
            with self._engine.connect().execution_options(langmem_plain=True) as connection:
                connection.exec_driver_sql("VACUUM")
        self.checkpoint()

    def by_bytes(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """The column in the order of its code points, as SQLite has it anyway."""
        return column

    def files(self) -> list[Path]:
        """The files that hold the database just now; [] if there are none."""
        if self.path is None:
            return []
        names = (self.path.with_name(self.path.name + end) for end in ("", "-wal", "-shm", "-journal"))
        return [path for path in names if path.is_file()]

    def claims(self) -> Claims:
        """For a worker: which sessions it has taken on.

        Raises:
            WorkerRunning: The file has a worker already.
            InvalidSetting: The database lives in this process alone.
        """
        if self.path is None:
            raise InvalidSetting("url", self.url, "a worker needs a database that other processes can open")
        return FileClaims(self.path)

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
            self._engine.dispose()
        self._write_lock.close()
        if self._errands is not None:
            self._errands.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The driver's errors in our words, the cause kept."""
        try:
            yield
        except LangmemPluginError:
            raise
        except (sql_errors.SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._in_our_words(error) from error

    def _in_our_words(self, error: BaseException) -> LangmemPluginError:
        why = str(error.orig if isinstance(error, sql_errors.DBAPIError) else error)
        lowered = why.lower()
        if "not a database" in lowered or "malformed" in lowered:
            return StoreCorrupt(self.url, why)
        if "disk is full" in lowered or "disk full" in lowered:
            return StoreUnavailable(self.url, why, "free some space and retry; nothing was written")
        if "locked" in lowered or "busy" in lowered:
            return StoreUnavailable(self.url, why, "another process has held the database too long; retry")
        if "readonly" in lowered or "read-only" in lowered:
            return StoreUnavailable(self.url, why, "make the file and its folder writable")
        return StoreUnavailable(self.url, why, "see the cause of this error")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed

    def _reader(self) -> Connection:
        return self._engine.connect()

    def _parse(self, url: str) -> URL:
        return _parse(url)

    def _open_engine(self) -> Engine:
        if self.path is not None:
            self._check_folder(self.path)
            engine = create_engine(
                self._url,
                poolclass=QueuePool,
                hide_parameters=True,
                execution_options=self._options,
                pool_size=8,
                max_overflow=56,
                connect_args={"timeout": _BUSY_MS / 1000, "check_same_thread": False},
            )
        else:
            engine = create_engine(
                self._url,
                poolclass=StaticPool,
                hide_parameters=True,
                execution_options=self._options,
                connect_args={"check_same_thread": False},
            )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def _check_folder(self, path: Path) -> None:
        folder = path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(
                self.url, f"the folder {folder} cannot be made ({error.strerror})", "choose another folder"
            ) from error
        if path.is_dir():
            raise StoreUnavailable(self.url, "that is a folder", "name a file in it")
        if not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise StoreUnavailable(self.url, "the file or its folder cannot be written", "make it writable")

    def _migrate(self) -> None:
        with self.write() as connection:
            self._lock_schema(connection)
            self._bring_up(connection)
            note_sealed(connection, self.sealing)

    def _bring_up(self, connection: Connection) -> None:
        if connection.dialect.has_table(connection, "meta"):
            found = connection.scalar(select(schema.meta.c.value).where(schema.meta.c.key == "schema"))
            if found is not None and int(found) > schema.SCHEMA:
                raise SchemaTooNew(found=int(found), known=schema.SCHEMA)
            for step in migrate(connection, int(found or 0)):
                _log.info("schema %d: %s", step.to, step.name)
                connection.execute(schema.meta.update().where(schema.meta.c.key == "schema").values(value=str(step.to)))
            return
        schema.metadata.create_all(connection)
        for key, value in (("schema", str(schema.SCHEMA)), ("instance", uuid4().hex)):
            connection.execute(schema.meta.insert().values(key=key, value=value))

    def _lock_schema(self, connection: Connection) -> None:
        """Have one process at a time look at the schema; SQLite's writers wait for each other anyway."""


class _Shared(threading.local):
    """The connection that a thread's reads share for a while."""

    def __init__(self) -> None:
        self.depth = 0
        self.connection: Connection | None = None

    def let_go(self) -> None:
        """End the transaction; nothing was written, so nothing can be lost."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(sql_errors.SQLAlchemyError, sqlite3.Error):
                connection.close()


def _parse(url: str) -> URL:
    if not isinstance(url, str):
        raise InvalidSetting("url", url, _FORMS)
    try:
        parsed = make_url(url)
    except (sql_errors.ArgumentError, ValueError) as error:
        raise InvalidSetting("url", url, _FORMS) from error
    if parsed.get_backend_name() != "sqlite":
        raise InvalidSetting("url", parsed.render_as_string(hide_password=True), _FORMS)
    if parsed.query or parsed.host or "\0" in (parsed.database or "") or (parsed.database or "").startswith("file:"):
        raise InvalidSetting("url", url, _FORMS + "; a path starts after three slashes")
    return parsed


def _file_of(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite":
        return None
    return None if url.database in (None, "", ":memory:") else Path(str(url.database))


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={_BUSY_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "secure_delete=ON",
        "temp_store=MEMORY",
        "trusted_schema=OFF",
        "mmap_size=0",
    ):
        cursor.execute(f"PRAGMA {pragma}")
        cursor.fetchall()
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("langmem_plain", False):
        return
    writes = options.get("langmem_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
