"""Opening a Redis database: connections, optimistic transactions, and its errors in our words."""

from __future__ import annotations

import hashlib
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from langmem_plugin.errors import (
    InvalidSetting,
    LangmemPluginError,
    MissingExtra,
    SchemaTooNew,
    StoreClosed,
    StoreCorrupt,
    StoreLost,
    StoreUnavailable,
)
from langmem_plugin.keyring import KeyRing
from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_script import READ, RELEASE, WRITE
from langmem_plugin.store.redis_shared import SharedReads
from langmem_plugin.store.redis_transaction import Known, Moved, Transaction
from langmem_plugin.store.redis_url import parse_redis_url
from langmem_plugin.store.rows import utc_now
from langmem_plugin.store.sealing import Sealing

_log = logging.getLogger(__name__)

SCHEMA = 1
"""How this release lays out its hashes."""
_PATIENCE_S = 5.0
"""So long a call is tried again while the server is away, or while others write to the same session."""
_TIMEOUT_S = 5.0
_CONNECTIONS = 64
_ALONE_MS = 120_000
_WHOLE_AFTER = 4
"""After so many attempts a transaction reads its hashes as a whole, so that nothing can move meanwhile."""
_WORDS = re.compile(r"\b(OOM|MISCONF|READONLY|MASTERDOWN|NOREPLICAS|WRONGTYPE|NOPERM|NOAUTH|WRONGPASS|EXECABORT)\b")

T = TypeVar("T")


class _Passing(StoreUnavailable):
    """The server is away: worth another try."""


class RedisDatabase:
    """One key prefix of a Redis server.

    A session is one hash and so is what an owner's sessions share, so that the server, which
    evicts and expires whole keys, can never leave a part of one. The directory, a third kind
    of hash, names the owners, and each owner's hash its sessions: what is named and not there
    was lost, and a call says so (`StoreLost`) and answers nothing.
    """

    def __init__(
        self, url: str, *, clock: Callable[[], datetime] = utc_now, ttl: timedelta | None = None,
        ring: KeyRing | None = None,
    ) -> None:  # fmt: skip
        """Open it, and make its directory if there is none.

        Args:
            url: Its address.
            clock: The present moment, by which sessions end.
            ttl: What a session that begins here lives on after each write; None: no end.
            ring: The keys that seal what is written, and open what was sealed.
        """
        self.clock = clock
        self.ttl = ttl
        self._url = parse_redis_url(url)
        self.url = self._url.shown
        self.sealing = Sealing(ring, where=self.url)
        self.path: Path | None = None
        """None: the server keeps its files elsewhere."""
        self.known = Known()
        self.changed_key: Callable[[str], None] | None = None
        """Called where an owner's key changed while something was written with the earlier one."""
        self._shared = SharedReads()
        self._closed = False
        self._driver = _driver()
        self._client: Any = self._connect()
        self._write = self._client.register_script(WRITE)
        self._look = self._client.register_script(READ)
        self._release = self._client.register_script(RELEASE)
        self.numbered: dict[int, SessionKey] = {}
        """Sessions that a worker of this process was told of."""
        self._locks = [threading.Lock() for _ in range(64)]
        self._directory = f"{self._url.prefix}:directory".encode()
        self.instance = ""
        """A random id that the database got when it was made."""
        self.instance = self._patiently(self._make)

    # Transactions

    def read(
        self,
        key: SessionKey,
        call: Callable[[Transaction], T],
        *ahead: str,
        others: Sequence[str] = (),
        lost: bool = False,
    ) -> T:
        """What a function finds that sees one state throughout; it is called anew if that state changes meanwhile.

        Args:
            key: The session.
            call: Reads; it may be called several times.
            ahead: Fields of the session that it will read, to spare a round trip.
            others: More sessions of the owner.
            lost: Go on where the server lost something, instead of raising, and see sessions whose time is over.
        """
        if not (others or lost) and (shared := self._shared.get(key)) is not None:
            with suppress(Moved), self.translated():
                return call(shared)
            self._shared.let_go(key)

        def once(attempt: int) -> T:
            transaction = self.begin(key, ahead, others, whole=attempt >= _WHOLE_AFTER, lost=lost)
            found = call(transaction)
            if not (others or lost):
                self._shared.put(key, transaction)
            return found

        return self._patiently(once)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have what this thread reads of a session inside see one state, unless the session changes meanwhile."""
        self._shared.depth += 1
        try:
            yield
        finally:
            self._shared.depth -= 1
            if not self._shared.depth:
                self._shared.transactions.clear()

    def change(
        self, key: SessionKey, call: Callable[[Transaction], T], *ahead: str, others: Sequence[str] = (),
        lost: bool = False, whole: bool = False,
    ) -> T:  # fmt: skip
        """The same for a function that writes: what it put in stands as a whole, or not at all and it is called anew.

        If a connection is lost while a transaction is sent, the next attempt finds by its
        random mark whether it stands.
        """
        sent: dict[bytes, T] = {}
        behind: list[bool] = []

        def once(attempt: int) -> T:
            transaction = self.begin(key, ahead, others, whole=whole or attempt >= _WHOLE_AFTER, lost=lost)
            for mark in transaction.marks():
                if mark in sent:
                    return sent[mark]
            result = call(transaction)
            self._shared.let_go(key)
            if not transaction.changed:
                return result
            sent[transaction.mark] = result
            self._send(transaction)
            behind.append(self.sealing.ring is not None and transaction.is_behind)
            return result

        with self._locks[hash(key) % len(self._locks)]:
            result = self._patiently(once)
        if any(behind) and self.changed_key is not None:
            self.changed_key(key.owner)
        return result

    def begin(
        self, key: SessionKey, ahead: Sequence[str], others: Sequence[str], *, whole: bool, lost: bool
    ) -> Transaction:
        """A transaction that sees the directory, the owner and the sessions as they are at one moment."""
        names = tuple(dict.fromkeys((key.session, *others)))
        return Transaction(self, SessionKey(key.owner, names[0]), names, ahead, whole=whole, lost=lost)

    # What a transaction needs

    @property
    def client(self) -> Any:
        """The driver's client."""
        if self._closed:
            raise StoreClosed
        return self._client

    def look(self, names: Sequence[bytes], arguments: Sequence[bytes | str | int]) -> list[Any]:
        """What the reading script answers: the time, then each hash's number of fields and what was wanted of it."""
        return list(self._look(names, arguments, client=self.client))

    @property
    def directory(self) -> bytes:
        """The key of the hash that names the owners."""
        return self._directory

    def owner_key(self, owner: str) -> bytes:
        """The key of what an owner's sessions share; it names nobody."""
        return f"{self._url.prefix}:owner:{_digest(owner)}".encode()

    def session_key(self, key: SessionKey) -> bytes:
        """The key of a session."""
        return f"{self._url.prefix}:session:{_digest(key.owner)}:{_digest(key.session)}".encode()

    def claim_key(self, number: int) -> bytes:
        """The key that says that a worker has taken a session on."""
        return f"{self._url.prefix}:work:{number}".encode()

    @contextmanager
    def alone(self, key: SessionKey) -> Iterator[bool]:
        """True inside if nobody else is inside for that session since less than two minutes, or the server is away."""
        name = self.session_key(key).replace(b":session:", b":alone:", 1)
        mark = uuid4().bytes
        try:
            with self.translated():
                mine = bool(self.client.set(name, mark, nx=True, px=_ALONE_MS))
        except StoreUnavailable:
            mine = True
        try:
            yield mine
        finally:
            if mine:
                with suppress(StoreUnavailable, StoreClosed), self.translated():
                    self.release(name, mark)

    def release(self, name: bytes, mark: bytes) -> None:
        """Take a claim out if it has this mark."""
        self._release([name], [mark], client=self.client)

    def subject(self, key: SessionKey) -> str:
        """What stands for a session in its tombstone."""
        parts = [part.encode() for part in (self.instance, key.owner, key.session)]
        return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in parts)).hexdigest()

    def next_numbers(self, count: int = 1) -> int:
        """The first of some numbers that ascend and are never given again."""
        return int(self.client.hincrby(self._directory, "numbers", count)) - count + 1

    def patiently(self, call: Callable[[], T]) -> T:
        """What a single read gives, tried again while the server is away."""
        return self._patiently(lambda _attempt: call())

    def take_note(self, field: bytes) -> bool:
        """Whether the directory has a note, which is then taken out of it."""
        return bool(self.patiently(lambda: self.client.hdel(self._directory, field)))

    def drop_orphans(self, owner: str) -> None:
        """Take out an owner's sessions where the server lost the hash that names them; nobody can write to them."""

        def drop() -> None:
            if self.client.exists(self.owner_key(owner)):
                return
            pattern = f"{self._url.prefix}:session:{_digest(owner)}:*"
            for name in self.client.scan_iter(match=pattern, count=1000):
                self.client.unlink(name)

        self.patiently(drop)

    # The rest of what a memory asks of its database

    def files(self) -> list[Path]:
        """None that this process could read."""
        return []

    def vacuum(self) -> None:
        """Have the server write its files anew, without what was deleted; behind, and if it keeps any."""
        with self.translated():
            try:
                if self.client.info("persistence").get("aof_enabled"):
                    self.client.bgrewriteaof()
                elif self.client.config_get("save").get("save"):
                    self.client.bgsave()
            except self._driver.exceptions.ResponseError as error:
                _log.info("Redis was not told to write its files anew (%s)", _why(error))

    def close(self) -> None:
        """Give the connections back; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._client.close()
            self._client.connection_pool.disconnect()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The driver's errors in our words, the cause kept."""
        try:
            yield
        except LangmemPluginError:
            raise
        except (self._driver.exceptions.RedisError, OSError) as error:
            raise self._in_our_words(error) from error
        except (UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise StoreCorrupt(self.url, f"a hash is not as this package writes it ({type(error).__name__})") from error

    def _send(self, transaction: Transaction) -> None:
        with self.translated():
            answer = self._write(*transaction.script(self.instance), client=self.client)
        if answer == b"lost":
            raise self.lost_directory()
        if answer != b"done":
            raise Moved

    def lost_directory(self) -> StoreLost:
        """The directory is not the one that this memory opened."""
        return StoreLost(
            self.url,
            "the directory of sessions is gone, or another one stands in its place",
            "restore the server's data; to begin anew, delete the keys with this prefix and open again",
        )

    def _patiently(self, call: Callable[[int], T]) -> T:
        until = time.monotonic() + _PATIENCE_S
        pause = 0.01
        attempt = 0
        while True:
            try:
                with self.translated():
                    return call(attempt)
            except Moved as error:
                if time.monotonic() > until and attempt > 2 * _WHOLE_AFTER:
                    raise StoreUnavailable(
                        self.url, f"others changed the session {attempt} times meanwhile", "retry"
                    ) from error
                time.sleep(random.uniform(0.0, 0.002 * min(attempt, 8)))  # noqa: S311 - spreads retries, guards nothing
            except _Passing:
                if time.monotonic() + pause > until:
                    raise
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - the same
                pause = min(0.5, pause * 2)
            attempt += 1

    def _connect(self) -> Any:
        retry = self._driver.retry.Retry(self._driver.backoff.NoBackoff(), 0)
        pool = self._driver.BlockingConnectionPool.from_url(
            self._url.server,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            socket_keepalive=True,
            protocol=2,
            retry=retry,
        )
        return self._driver.Redis(connection_pool=pool)

    def _make(self, _attempt: int) -> str:
        info = self._client.info()
        if info.get("redis_mode") == "cluster":
            raise InvalidSetting(
                "url", self.url, "give a single server or a Sentinel's primary: a cluster splits a turn"
            )
        held = self._client.hget(self._directory, "instance")
        if held is None:
            for key in self._client.scan_iter(match=f"{self._url.prefix}:*", count=1000):
                if key != self._directory and not self._client.exists(self._directory):
                    raise self.lost_directory()
                break
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hsetnx(self._directory, "instance", uuid4().hex)
            pipeline.hsetnx(self._directory, "schema", str(SCHEMA))
            pipeline.execute()
        if self.sealing.ring is not None:
            self._client.hsetnx(self._directory, "sealed", 1)
        instance, schema, sealed = self._client.hmget(self._directory, ["instance", "schema", "sealed"])
        self.sealing.required = sealed is not None
        if int(schema) > SCHEMA:
            raise SchemaTooNew(found=int(schema), known=SCHEMA)
        self._tell(info)
        return str(instance.decode())

    def _tell(self, info: dict[str, Any]) -> None:
        """Say what this server cannot promise."""
        if not info.get("aof_enabled"):
            _log.warning(
                "Redis at %s keeps no append-only file: when it stops, what was acknowledged since its last "
                "snapshot is lost; set appendonly yes and appendfsync always",
                self.url,
            )
        elif (fsync := self._setting("appendfsync")) and fsync != "always":
            _log.warning(
                "Redis at %s has appendfsync %s: a power cut takes back what was acknowledged last; set always",
                self.url,
                fsync,
            )
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if info.get("maxmemory") and policy not in ("noeviction", "volatile-ttl") and not policy.startswith("volatile"):
            _log.warning(
                "Redis at %s evicts sessions when its memory is full (%s); set maxmemory-policy noeviction",
                self.url,
                policy,
            )

    def _setting(self, name: str) -> str:
        try:
            return str(self._client.config_get(name).get(name, ""))
        except self._driver.exceptions.ResponseError:  # many hosted servers allow no CONFIG
            return ""

    def _in_our_words(self, error: BaseException) -> LangmemPluginError:
        known = self._driver.exceptions
        why = _why(error)
        if isinstance(error, known.AuthenticationError | known.AuthorizationError | known.NoPermissionError):
            return StoreUnavailable(self.url, why, "check user, password and their rights")
        if isinstance(error, known.MaxConnectionsError):
            return StoreUnavailable(self.url, why, "every connection is busy; retry, or use fewer threads")
        if isinstance(error, known.ConnectionError | known.TimeoutError | OSError):
            return _Passing(self.url, why, "start the server or look at its log, and retry")
        word = _word(error)
        if isinstance(error, known.OutOfMemoryError) or word in ("OOM", "MISCONF"):
            return StoreUnavailable(
                self.url, why, "the server is out of memory or disk; free some and retry; nothing was written"
            )
        if isinstance(error, known.ReadOnlyError) or word in ("READONLY", "MASTERDOWN", "NOREPLICAS"):
            return _Passing(self.url, why, "give the primary's address")
        if word == "WRONGTYPE":
            return StoreCorrupt(self.url, "a key with this prefix is not ours; choose another prefix")
        return StoreUnavailable(self.url, why, "see the cause of this error")


def _driver() -> Any:
    try:
        import redis
    except ImportError as error:
        raise MissingExtra("Redis", "redis", "redis") from error
    return redis


def _why(error: BaseException) -> str:
    """The kind of error, and Redis's own word for it; the rest may quote values."""
    word = _word(error)
    return f"{type(error).__name__}{f' {word}' if word else ''}"


def _word(error: BaseException) -> str:
    """Redis's own word for an error, of a command or within a script; "" if it has none."""
    found = _WORDS.search(str(error))
    return "" if found is None else found[0]


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]
