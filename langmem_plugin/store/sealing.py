"""What rows say, sealed under their owner's key: AES-256-GCM, bound to the place that it stands in.

A sealed text says so itself, so that rows from before encryption are read on. No JSON text begins like one.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langmem_plugin.errors import InvalidSetting, KeyUnavailable, SealBroken
from langmem_plugin.keyring import KEY_BYTES, KeyRing, cipher_of

MARK = "~1:"
"""What a sealed text begins with; then the key's id, a colon, and nonce and ciphertext in base64."""
_NONCE = 12
_CIPHERS = 4_096
"""Keys that are held ready."""
_SAYS = re.compile(r"[mks]\d|t:|constraints$")
"""Fields of a hash in Redis with what was said: messages, their keywords, summaries, turns, constraints."""
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Sealing:
    """Seals and opens texts with a key ring's keys; without a ring it gives them as they are."""

    def __init__(self, ring: KeyRing | None = None, *, where: str = "the database") -> None:
        """Nothing is asked of the ring yet.

        Args:
            ring: Where the keys are.
            where: What errors call the database.

        Raises:
            InvalidSetting: The ring lacks a method.
            MissingExtra: `cryptography` is not installed.
        """
        if ring is not None:
            if not isinstance(ring, KeyRing):
                want = "give a FolderKeyRing, or an object with current, key, ids, rotate and destroy"
                raise InvalidSetting("encryption", type(ring).__name__, want)
            cipher_of(bytes(KEY_BYTES))
        self.ring = ring
        self.where = where
        self.required = False
        """The database was written with a ring before, so that nothing is to be written without."""
        self._ciphers: OrderedDict[tuple[str, str], tuple[bytes, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def seal(self, text: str, owner: str, *place: object) -> str:
        """The text as it is kept at a place; see `open`."""
        if self.ring is None:
            if self.required:
                raise self.closed()
            return text
        key_id, secret = self.ring.current(owner)
        nonce = os.urandom(_NONCE)
        cipher = self._cipher(owner, key_id, secret)
        data = nonce + cipher.encrypt(nonce, text.encode(), _bound(owner, place))
        return f"{MARK}{key_id}:{base64.b64encode(data).decode()}"

    def open(self, text: str, owner: str, *place: object) -> str:
        """What was sealed at a place; a text that is not sealed as it is.

        Args:
            text: As it is kept.
            owner: Whose key.
            place: Table, row and so on: just those that it was sealed with.

        Raises:
            KeyUnavailable: There is no ring, or it has no such key.
            SealBroken: It was sealed at another place, or with other bytes, or was changed.
        """
        if not text.startswith(MARK):
            return text
        key_id, _, kept = text[len(MARK) :].partition(":")
        cipher = self._cipher(owner, key_id)
        from cryptography.exceptions import InvalidTag

        try:
            data = base64.b64decode(kept, validate=True)
            return bytes(cipher.decrypt(data[:_NONCE], data[_NONCE:], _bound(owner, place))).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            table, *row = map(str, place)
            raise SealBroken(self.where, f"{table} {'/'.join(row)}") from error

    def readable(self, text: str, owner: str, *place: object) -> str | None:
        """The same; None if nothing opens it, for whoever only wants to delete it."""
        try:
            return self.open(text, owner, *place)
        except (KeyUnavailable, SealBroken):
            return None

    def current(self, owner: str) -> str:
        """How texts begin that are sealed with the owner's newest key."""
        if self.ring is None:
            raise InvalidSetting("encryption", None, "open the memory with encryption=, a key ring")
        return f"{MARK}{self._checked(*self.ring.current(owner))}:"

    def closed(self) -> KeyUnavailable:
        """The database holds sealed texts, and there is no ring."""
        return KeyUnavailable(
            self.where, "it holds sealed texts", "open it with encryption=, the key ring that it is written with"
        )

    def forget(self, owner: str) -> None:
        """Hold none of the owner's keys any more."""
        with self._lock:
            for held in [one for one in self._ciphers if one[0] == owner]:
                del self._ciphers[held]

    def _cipher(self, owner: str, key_id: str, secret: bytes | None = None) -> Any:
        with self._lock:
            held = self._ciphers.get((owner, key_id))
            if held is not None and secret in (None, held[0]):
                self._ciphers.move_to_end((owner, key_id))
                return held[1]
        if secret is None:
            secret = self._known(owner, key_id)
        self._checked(key_id, secret)
        cipher = cipher_of(secret)
        with self._lock:
            self._ciphers[owner, key_id] = (secret, cipher)
            if len(self._ciphers) > _CIPHERS:
                self._ciphers.popitem(last=False)
        return cipher

    def _known(self, owner: str, key_id: str) -> bytes:
        if self.ring is None:
            raise self.closed()
        try:
            return self.ring.key(owner, key_id)
        except LookupError as error:
            raise KeyUnavailable(
                self.where,
                f"the key ring has no key {key_id!r}, with which this owner's texts are sealed",
                "open it with the ring that it is written with, or restore that ring's backup; if the key was "
                "destroyed, memory.forget(owner=...) clears what is left",
                key_id=key_id,
            ) from error

    def _checked(self, key_id: object, secret: object) -> str:
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise InvalidSetting("encryption", "a key's id", "ids have 1 to 64 letters, digits, - and _")
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            given = f"a key of {len(secret)} bytes" if isinstance(secret, bytes) else type(secret).__name__
            raise InvalidSetting("encryption", given, f"keys are {KEY_BYTES} bytes")
        return key_id


PLAIN = Sealing()
"""Seals nothing."""


def _bound(owner: str, place: tuple[object, ...]) -> bytes:
    parts = [str(part).encode("utf-8", "surrogatepass") for part in (owner, *place)]
    return b"".join(b"%d:%s" % (len(part), part) for part in parts)


class SessionSeal:
    """Seals and opens what the rows of one session say."""

    __slots__ = ("_owner", "_sealing", "_session")

    def __init__(self, sealing: Sealing, owner: str, *session: object) -> None:
        self._sealing = sealing
        self._owner = owner
        self._session = session

    def seal(self, text: str, table: str, *row: object) -> str:
        """The text as that row keeps it."""
        return self._sealing.seal(text, self._owner, table, *self._session, *row)

    def open(self, text: str, table: str, *row: object) -> str:
        """What the row says; see `Sealing.open`."""
        return self._sealing.open(text, self._owner, table, *self._session, *row)

    def readable(self, text: str, table: str, *row: object) -> str | None:
        """The same; None if nothing opens it."""
        return self._sealing.readable(text, self._owner, table, *self._session, *row)


class HashSeal:
    """Seals and opens those fields of one hash that say something."""

    __slots__ = ("_owner", "_place", "_sealing")

    def __init__(self, sealing: Sealing, owner: str, *place: object) -> None:
        self._sealing = sealing
        self._owner = owner
        self._place = place

    def seal(self, field: str, text: str) -> bytes:
        """The JSON text as the field keeps it."""
        if _SAYS.match(field):
            text = self._sealing.seal(text, self._owner, "field", *self._place, field)
        return text.encode()

    def open(self, field: str, value: bytes) -> str:
        """The JSON text that the field keeps; see `Sealing.open`."""
        return self._sealing.open(value.decode(), self._owner, "field", *self._place, field)

    def readable(self, field: str, value: bytes) -> str | None:
        """The same; None if nothing opens it."""
        return self._sealing.readable(value.decode(), self._owner, "field", *self._place, field)

    def is_old(self, field: str, value: bytes) -> bool:
        """Whether the field is to be sealed, and is not with the owner's newest key."""
        return bool(_SAYS.match(field)) and not value.startswith(self._sealing.current(self._owner).encode())


@dataclass(frozen=True, slots=True)
class Resealed:
    """A step of sealing an owner's rows anew."""

    rows: int
    """How many it sealed."""
    after: tuple[Any, ...] | None
    """Where the next step begins; None if there is none."""


class Seals(Protocol):
    """The part of `Store` that seals what it keeps."""

    @property
    def sealing(self) -> Sealing:
        """What it seals with."""
        ...

    def reseal(self, owner: str, *, after: Sequence[Any] = (), limit: int) -> Resealed:
        """Seal at most `limit` rows of the owner with the newest key, in one transaction; of those that are not yet.

        Args:
            owner: Whose.
            after: What the step before gave; () to begin.
            limit: Rows of one step.

        Raises:
            InvalidSetting: There is no key ring.
            KeyUnavailable: A row is sealed with a key that is not in the ring.
            SealBroken: A row is not what was sealed there.
        """
        ...

    def drop_keys(self, owner: str) -> int | None:
        """Destroy the keys of an owner with neither sessions nor constraints; gives how many, None if there are any.

        Nobody can begin a session of that owner meanwhile.
        """
        ...

    def settle(self, *, clean: bool = False) -> None:
        """Wait until every write under way now stands, or not; `clean`: and have what was overwritten leave the log.

        Raises:
            StoreUnavailable: One is under way for too long.
        """
        ...
