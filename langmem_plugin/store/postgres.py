"""PostgreSQL: a pool of connections, row locks instead of one writer, and lost connections made good."""

from __future__ import annotations

import functools
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, ExceptionContext, create_engine, event, text
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from langmem_plugin.errors import InvalidSetting, LangmemPluginError, MissingExtra, StoreUnavailable
from langmem_plugin.keyring import KeyRing
from langmem_plugin.records import SessionKey
from langmem_plugin.store.claims import PostgresClaims
from langmem_plugin.store.database import SqlDatabase
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sql import SqlStore

_FORM = "give postgresql://user:password@host:5432/database"
_MIGRATION_LOCK = 0x6C616E676D656D
"""An advisory lock: of several processes that open a new database one makes the tables."""
_PATIENCE_S = 30.0
"""So long a call is tried again while the server is away."""
_SHUT_DOWN = ("57P01", "57P02", "57P03")
"""SQLSTATEs with which the server ends a connection, or lets none begin."""
_PASSING = ("08", "40001", "40P01", "53300", "55P03", *_SHUT_DOWN)
"""SQLSTATEs that end by themselves: connection lost, deadlock, too many connections, shutting down, starting up."""

P = ParamSpec("P")
R = TypeVar("R")


class _Passing(StoreUnavailable):
    """The server is away, or two transactions met: worth another try."""


class PostgresDatabase(SqlDatabase):
    """A database of a PostgreSQL server, 14 or newer, through psycopg 3.

    Each call has a connection of a pool. A write locks its session's row, so that numbers
    have no gaps and become visible in order; reads see one state throughout.
    """

    patience_s = 0.5

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        ttl: timedelta | None = None,
        ring: KeyRing | None = None,
        pool: int = 16,
    ) -> None:
        self._pool = pool
        super().__init__(url, clock=clock, ttl=ttl, ring=ring)
        self.by_owner = _again(self._is_held_back)()
        if self.by_owner:
            self._engine.update_execution_options(langmem_by_owner=True)

    @contextmanager
    def write(self, *, unread: bool = False) -> Iterator[Connection]:
        """See `SqlDatabase.write`; writers of different sessions do not wait for each other."""
        with self.translated():
            self._check_open()
            with (
                self._engine.connect().execution_options(langmem_write=True) as connection,
                self._unread(connection) if unread else nullcontext(),
                connection.begin(),
            ):
                yield connection

    @contextmanager
    def alone(self, name: str) -> Iterator[bool]:
        """True inside if nobody else on this database is inside with that name, or the server is away.

        By an advisory lock of a transaction, which takes a connection: where a proxy hands out
        connections by transaction, one of a session would be somebody else's.
        """
        with ExitStack() as stack:
            mine = True
            with suppress(StoreUnavailable), self.translated():
                self._check_open()
                connection = self._engine.connect()
                stack.callback(_let_go, connection)
                mine = bool(
                    connection.scalar(text("SELECT pg_try_advisory_xact_lock(:place)"), {"place": _place(name)})
                )
            yield mine

    def settle(self) -> None:
        """See `SqlDatabase.settle`; for half a minute."""
        until = time.monotonic() + _PATIENCE_S
        with self.write() as connection:
            newest = connection.scalar(text("SELECT CAST(pg_current_xact_id() AS TEXT)"))
        while True:
            with self.read() as connection:
                oldest = connection.scalar(text("SELECT CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT)"))
            if int(str(oldest)) > int(str(newest)):
                return
            if time.monotonic() > until:
                raise StoreUnavailable(self.url, "a transaction has been open for too long", "end it and retry")
            time.sleep(0.05)

    def line_up(self, connection: Connection, keys: Iterable[SessionKey]) -> None:
        """See `SqlDatabase.line_up`; who waits for a row is passed by those who come when it has just changed."""
        places = sorted(_place(f"turns of {len(key.owner)} {key.owner} {key.session}") for key in keys)
        query = "SELECT pg_advisory_xact_lock(place) FROM unnest(%(places)s::bigint[]) AS place"
        connection.exec_driver_sql(query, {"places": places})

    def hold_sessions(self, connection: Connection) -> None:
        """See `SqlDatabase.hold_sessions`."""
        connection.execute(text("LOCK TABLE sessions IN SHARE MODE"))

    def claims(self) -> PostgresClaims:
        """See `SqlDatabase.claims`."""
        return PostgresClaims(self._engine)

    def by_bytes(self, column: ColumnElement[str]) -> ColumnElement[str]:
        """See `SqlDatabase.by_bytes`; the server's own order may be a language's."""
        return column.collate("C")

    def _reader(self) -> Connection:
        return self._engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def _parse(self, url: str) -> URL:
        parsed = make_url(url)
        if not parsed.database or parsed.get_driver_name() not in ("psycopg", "psycopg2"):
            raise InvalidSetting("url", parsed.render_as_string(hide_password=True), _FORM)
        return parsed.set(drivername="postgresql+psycopg")

    def _open_engine(self) -> Engine:
        try:
            from langmem_plugin.store import pipeline
        except ImportError as error:
            raise MissingExtra("PostgreSQL", "psycopg", "postgres") from error
        engine = create_engine(
            self._url,
            poolclass=QueuePool,
            hide_parameters=True,
            execution_options=self._options,
            pool_size=self._pool,
            max_overflow=self._pool,
            pool_use_lifo=True,  # whose statements the server has prepared
            pool_timeout=_PATIENCE_S,
            connect_args={"connect_timeout": 10, "application_name": "langmem-plugin"},
        )
        event.listen(engine, "handle_error", _shut_down)
        self._unread = pipeline.of(engine)
        return engine

    def _is_held_back(self) -> bool:
        """Whether row-level security holds for the role that this one connects as."""
        with self.read() as connection:
            return bool(connection.scalar(text("SELECT row_security_active('sessions')")))

    def _migrate(self) -> None:
        _again(super()._migrate)()

    def _lock_schema(self, connection: Connection) -> None:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})

    def _in_our_words(self, error: BaseException) -> LangmemPluginError:
        orig = error.orig if isinstance(error, sql_errors.DBAPIError) else error
        state = getattr(orig, "sqlstate", None) or ""
        # The server's words may quote values: the class and the SQLSTATE are said, the rest is the cause.
        why = f"{type(orig).__name__}{f' {state}' if state else ''}"
        lost = isinstance(error, sql_errors.DBAPIError) and error.connection_invalidated
        unreached = type(orig).__name__ in ("OperationalError", "ConnectionTimeout") and not state
        if lost or unreached or state.startswith(_PASSING):
            return _Passing(self.url, why, "start the server or look at its log, and retry")
        if state.startswith("28") or state == "3D000":
            return StoreUnavailable(self.url, why, "check user, password and database")
        if state.startswith("53"):
            return StoreUnavailable(
                self.url, why, "the server is out of room; free some and retry; nothing was written"
            )
        if isinstance(error, sql_errors.TimeoutError):
            return StoreUnavailable(self.url, "every connection of the pool is busy", "retry, or use fewer threads")
        return StoreUnavailable(self.url, why, "see the cause of this error")


def _again(call: Callable[P, R]) -> Callable[P, R]:
    """Try again while what failed passes by itself, for up to half a minute.

    An error while a transaction commits leaves it open whether it stands. Each call that is
    tried again finds out: a turn by its id, staged messages and constraints by theirs, the rest
    because doing it twice is doing it once.
    """

    @functools.wraps(call)
    def tried(*args: P.args, **kwargs: P.kwargs) -> R:
        until = time.monotonic() + _PATIENCE_S
        pause = 0.02
        while True:
            try:
                return call(*args, **kwargs)
            except _Passing:
                if time.monotonic() + pause > until:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, guards nothing
            pause = min(1.0, pause * 2)

    return tried


def _shut_down(context: ExceptionContext) -> None:
    """What the server says when it ends a connection: nothing more, a rollback least of all, goes through it."""
    if getattr(context.original_exception, "sqlstate", None) in _SHUT_DOWN:
        context.is_disconnect = True


def _place(name: str) -> int:
    """The advisory lock of that name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


def _let_go(connection: Connection) -> None:
    """End a transaction that wrote nothing."""
    with suppress(sql_errors.SQLAlchemyError):
        connection.close()


class PostgresStore(SqlStore):
    """A `Store` on PostgreSQL."""

    def _open(
        self, url: str, *, clock: Callable[[], datetime], ttl: timedelta | None, ring: KeyRing | None
    ) -> SqlDatabase:
        return PostgresDatabase(url, clock=clock, ttl=ttl, ring=ring)


_TRIED_AGAIN = (
    "abort",
    "access_keys",
    "active_constraints",
    "add_constraint",
    "add_key",
    "begin_work",
    "behind",
    "commit",
    "constraints",
    "count_vectors",
    "drop_keys",
    "drop_summaries",
    "end_constraint",
    "end_keys",
    "entries",
    "entries_at",
    "erase",
    "erase_expired",
    "erase_messages",
    "events",
    "find",
    "forget",
    "head",
    "holding",
    "key_of",
    "keys",
    "keyword_stats",
    "keyword_stats_at",
    "keywords",
    "learned",
    "mark_constraint",
    "owner_infos",
    "past",
    "pending",
    "postings",
    "refined_upto",
    "replace_constraint",
    "replace_keywords",
    "reseal",
    "reported",
    "restore_constraints",
    "said_in_rows",
    "save_learned",
    "save_refined",
    "save_summary",
    "save_vectors",
    "save_worked",
    "seqs_of",
    "session_infos",
    "set_ttl",
    "share_constraints",
    "shares_constraints",
    "skip_vectors",
    "snapshot",
    "snapshot_at",
    "stage",
    "summaries",
    "turn_state",
    "unembedded",
    "vector_keys",
    "vectors",
    "vectors_of",
)  # fmt: skip
"""All but `fork`: whether a branch that is there is one's own cannot be told."""

for _name in _TRIED_AGAIN:
    _method: Any = getattr(SqlStore, _name)
    setattr(PostgresStore, _name, _again(_method))
