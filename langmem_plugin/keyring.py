"""Where the keys of encrypted memories are: outside the database, one set for each owner.

A memory asks a `KeyRing` for them; `FolderKeyRing` is one, and any object with its methods, such as one
that asks a key management service, is another.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, runtime_checkable

from langmem_plugin.errors import InvalidSetting, KeyUnavailable, MissingExtra

KEY_BYTES = 32
"""Of every key: AES-256."""
_REMEMBERED = 10_000
"""Owners whose file is not read again while it stays the same."""

Master: TypeAlias = bytes | str | Callable[[], bytes]
"""32 bytes; the name of an environment variable with them in base64 or hex; or a function that gives them."""


@runtime_checkable
class KeyRing(Protocol):
    """Keys of owners, 32 bytes each, under ids of 1 to 64 letters, digits, `-` and `_`.

    Called by several threads, and `current` for each text that is written: answer it from memory where
    you can, but never with a key that another process has replaced. A ring that cannot be reached raises
    `KeyUnavailable`.
    """

    def current(self, owner: str) -> tuple[str, bytes]:
        """The id and the bytes of the owner's newest key; made, and kept, if there is none."""
        ...

    def key(self, owner: str, key_id: str) -> bytes:
        """The owner's key with that id.

        Raises:
            LookupError: It was destroyed, or never was in this ring.
        """
        ...

    def ids(self, owner: str) -> Sequence[str]:
        """The ids of the owner's keys, oldest first; empty if there are none."""
        ...

    def rotate(self, owner: str) -> tuple[str, bytes]:
        """Make a new key, from now on the newest, and keep the others."""
        ...

    def destroy(self, owner: str, *, keep: str | None = None) -> int:
        """Destroy the owner's keys, all but `keep`; gives how many. None that were not there is no error."""
        ...


class FolderKeyRing:
    """Keys in a folder: a file for each owner, named by the SHA-256 of the owner's name, mode 0600.

    Keep the folder on another disk than the database, and in another backup: whoever has both can read all,
    and whoever loses the folder can read nothing. Processes may share it.

    Example:
        >>> from langmem_plugin import Memory
        >>> from langmem_plugin.keyring import FolderKeyRing
        >>> ring = FolderKeyRing("keys")
        >>> with Memory.open("sqlite:///sealed.db", encryption=ring) as memory:
        ...     version = memory.session("trip", owner="ann").add("I live in Lyon.")
        >>> len(ring.ids("ann"))
        1
    """

    def __init__(self, folder: str | Path, *, master: Master | None = None) -> None:
        """Make the folder if there is none.

        Args:
            folder: Where the files are.
            master: A key that wraps those in the files (AES-256-GCM), so that the folder alone opens nothing.
                A string names an environment variable.

        Raises:
            InvalidSetting: The folder cannot be made or written, or the master key is not one.
            MissingExtra: A master key was given and `cryptography` is not installed.
        """
        self._folder = Path(folder).expanduser()
        self._wrap = None if master is None else _Wrap(_master_bytes(master))
        self._seen: dict[str, tuple[tuple[int, int, int], list[tuple[str, bytes]]]] = {}
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InvalidSetting("folder", str(folder), f"it cannot be made ({error.strerror})") from error
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise InvalidSetting("folder", str(folder), "it cannot be written")

    def current(self, owner: str) -> tuple[str, bytes]:
        """See `KeyRing.current`."""
        held = self._read(owner) or self._change(owner, lambda keys: keys or [_new_key()])
        return held[-1]

    def key(self, owner: str, key_id: str) -> bytes:
        """See `KeyRing.key`."""
        for held, secret in self._read(owner):
            if held == key_id:
                return secret
        raise KeyError(key_id)

    def ids(self, owner: str) -> Sequence[str]:
        """See `KeyRing.ids`."""
        return tuple(key_id for key_id, _ in self._read(owner))

    def rotate(self, owner: str) -> tuple[str, bytes]:
        """See `KeyRing.rotate`."""
        return self._change(owner, lambda keys: [*keys, _new_key()])[-1]

    def destroy(self, owner: str, *, keep: str | None = None) -> int:
        """See `KeyRing.destroy`; the file is overwritten before it goes."""
        before = len(self._read(owner))
        left = self._change(owner, lambda keys: [one for one in keys if one[0] == keep]) if before else []
        return before - len(left)

    def __repr__(self) -> str:
        return f"FolderKeyRing({str(self._folder)!r})"

    def _file(self, owner: str) -> Path:
        return self._folder / f"{hashlib.sha256(owner.encode()).hexdigest()}.json"

    def _read(self, owner: str) -> list[tuple[str, bytes]]:
        path = self._file(owner)
        try:
            found = path.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
            with self._lock:
                seen = self._seen.get(owner)
            if seen is not None and seen[0] == mark:
                return seen[1]
            text = path.read_text("ascii")
            if not text.strip("\0"):  # overwritten: destroyed, or another file is in its place by now
                return [] if path.stat().st_ino == found.st_ino else self._read(owner)
        except FileNotFoundError:
            with self._lock:
                self._seen.pop(owner, None)
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._unreadable(path, type(error).__name__) from error
        keys = self._parse(path, text)
        with self._lock:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[owner] = (mark, keys)
        return keys

    def _parse(self, path: Path, text: str) -> list[tuple[str, bytes]]:
        try:
            data = json.loads(text)
            wrapped = bool(data["wrapped"])
            rows = [(str(row["id"]), base64.b64decode(row["key"], validate=True)) for row in data["keys"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._unreadable(path, "it is no file of keys") from error
        if wrapped != (self._wrap is not None):
            raise self._unreadable(
                path, "its keys are wrapped by a master key" if wrapped else "its keys are not wrapped"
            )
        if self._wrap is not None:
            rows = [(key_id, self._wrap.open(secret, _bound(path, key_id))) for key_id, secret in rows]
        if not rows or any(len(secret) != KEY_BYTES for _, secret in rows):
            raise self._unreadable(path, "it is no file of keys, or another master key wrapped them")
        return rows

    def _change(
        self, owner: str, change: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes]]]
    ) -> list[tuple[str, bytes]]:
        """Put other keys in the place of the owner's; one process at a time."""
        path = self._file(owner)
        try:
            with _locked(self._folder / ".lock"):
                before = self._read(owner)
                after = change(before)
                if after != before:
                    self._write(path, after, gone=len(after) < len(before))
        except OSError as error:
            raise self._unreadable(path, type(error).__name__) from error
        return after

    def _write(self, path: Path, keys: list[tuple[str, bytes]], *, gone: bool) -> None:
        overwrites = gone and not (keys and sys.platform == "win32")  # which replaces no open file
        old = path.open("r+b") if overwrites else None
        if keys:
            text = json.dumps({"wrapped": self._wrap is not None, "keys": [self._row(path, *one) for one in keys]})
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            with os.fdopen(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii"
            ) as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            fresh.replace(path)
        if old is not None:  # the bytes of what is destroyed
            with old:
                size = old.seek(0, os.SEEK_END)
                old.seek(0)
                old.write(b"\0" * size)
                old.flush()
                os.fsync(old.fileno())
        if not keys:
            path.unlink(missing_ok=True)
        _sync_folder(self._folder)

    def _row(self, path: Path, key_id: str, secret: bytes) -> dict[str, str]:
        kept = secret if self._wrap is None else self._wrap.close(secret, _bound(path, key_id))
        return {"id": key_id, "key": base64.b64encode(kept).decode()}

    def _unreadable(self, path: Path, why: str) -> KeyUnavailable:
        return KeyUnavailable(
            str(path), f"the keys cannot be had: {why}", "give the ring's own folder and master key, or restore them"
        )


class _Wrap:
    """Keys under the master key."""

    def __init__(self, master: bytes) -> None:
        self._cipher = cipher_of(master)

    def close(self, secret: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + bytes(self._cipher.encrypt(nonce, secret, bound))

    def open(self, wrapped: bytes, bound: bytes) -> bytes:
        """The key; nothing if another master wrapped it."""
        from cryptography.exceptions import InvalidTag

        try:
            return bytes(self._cipher.decrypt(wrapped[:12], wrapped[12:], bound))
        except (InvalidTag, ValueError):
            return b""


def cipher_of(secret: bytes) -> Any:
    """AES-256-GCM with this key.

    Raises:
        MissingExtra: `cryptography` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise MissingExtra("encryption", "cryptography", "encryption") from error
    return AESGCM(secret)


def _new_key() -> tuple[str, bytes]:
    return secrets.token_hex(8), secrets.token_bytes(KEY_BYTES)


def _bound(path: Path, key_id: str) -> bytes:
    return f"{path.name}:{key_id}".encode()


def _master_bytes(master: Master) -> bytes:
    want = (
        "give 32 random bytes, a function that returns them, or the name of a variable that has them in base64 or hex"
    )
    found: object = master() if callable(master) else master
    if isinstance(found, str):
        text = os.environ.get(found)
        if text is None:
            raise InvalidSetting("master", found, f"the environment has no such variable; {want}")
        found = _decoded(text.strip())
    if not isinstance(found, bytes) or len(found) != KEY_BYTES:
        given = f"{len(found)} bytes" if isinstance(found, bytes) else type(found).__name__
        raise InvalidSetting("master", given, want)
    return found


def _decoded(text: str) -> bytes:
    with contextlib.suppress(ValueError):
        return bytes.fromhex(text)
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(text, validate=True)
    return b""


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process, and thread, at a time."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as lock:
        _take(lock)
        yield  # closing gives it back


if sys.platform == "win32":
    import msvcrt

    def _take(lock: IO[bytes]) -> None:
        msvcrt.locking(lock.fileno(), msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _take(lock: IO[bytes]) -> None:
        fcntl.flock(lock, fcntl.LOCK_EX)
