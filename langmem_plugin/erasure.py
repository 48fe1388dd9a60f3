"""Forgetting for good: rows, indexes, files and caches, then a scan for what should be gone (guarantee G11)."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from langmem_plugin.errors import InvalidSetting, MessageNotFound, TurnOpen
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.records import Receipt, SessionKey, SessionQuery
from langmem_plugin.store.keeping import Erased
from langmem_plugin.store.protocol import Store
from langmem_plugin.store.rotation import destroy
from langmem_plugin.store.scan import SHORTEST, Needles, forms_of, pieces

_LIMITS = (
    f"strings of fewer than {SHORTEST} bytes are not looked for: they stand in files by chance",
    "backups, snapshots, copies made by the file system or the disk, and swapped memory are not reached",
    "what a framework, a model's provider or another process keeps is not reached",
)
_WAIT_S = 60.0
_AT_ONCE = 100
"""Sessions that a sweep forgets in one transaction."""
_ROUND = 64 << 20
"""Characters and bytes that a sweep holds in memory before it scans for them."""
_NO_FILES = "the database keeps its files elsewhere: they were not scanned"
_SEALED = "what copies hold of it is sealed, and can be read until the owner's key is changed or destroyed"
_SERVER = "a Chroma server took the vectors out of its collection; its files were not scanned"


class Eraser:
    """Forgets messages, sessions and owners."""

    def __init__(
        self,
        store: Store,
        vectors: VectorIndex | None,
        folder: Path | None,
        *,
        clock: Callable[[], datetime],
        let_go: Callable[[SessionKey], None],
    ) -> None:
        """Nothing is forgotten yet.

        Args:
            store: The log.
            vectors: The open index.
            folder: Where an index would be that is not open.
            clock: The present moment.
            let_go: Clears what this process holds of a session in memory.
        """
        self._store = store
        self._vectors = vectors
        self._folder = folder
        self._clock = clock
        self._let_go = let_go

    def forget(self, owner: str, session: str | None, message: str | int | None, *, whole_turn: bool) -> Receipt:
        """See `Memory.forget`."""
        if message is None and whole_turn:
            raise InvalidSetting("message", message, "name a message of the turn")
        scope: Literal["message", "session", "owner"]
        scope = "owner" if session is None else "session" if message is None else "message"
        now = self._clock()
        seqs: list[int] | None = None
        with self._claim():
            if session is None or message is None:
                erased = self._store.erase(owner=owner, session=session, now=now)
            else:
                key = SessionKey(owner, session)
                seqs = self._seqs(key, message, whole_turn=whole_turn)
                erased = self._store.erase_messages(key, seqs, now=now)
            for key in erased.keys:
                self._let_go(key)
            if erased.keys and self._vectors is not None:
                self._vectors.erase(erased.keys, seqs=seqs)
        destroyed = destroy(self._store, owner) if scope == "owner" else 0
        receipt = self._scan(erased, scope, now, destroyed=destroyed)
        for key in erased.keys:  # once more: work that was under way may have come back to them
            self._let_go(key)
        return receipt

    def sweep(self, progress: Callable[[int], object] | None) -> tuple[Receipt, ...]:
        """See `Memory.sweep`."""
        now = self._clock()
        if self._vectors is None and not self._store.session_infos(SessionQuery(expired=True, limit=1)):
            return ()  # so that nothing is claimed for nothing
        receipts: list[Receipt] = []
        done, more = 0, True
        while more:
            parts: list[Erased] = []
            with self._claim():
                gathered = 0
                while more and gathered < _ROUND:
                    part = self._store.erase_expired(now=now, limit=_AT_ONCE)
                    more = bool(part.keys)
                    parts.append(part)
                    gathered += sum(map(len, part.strings)) + sum(map(len, part.vectors))
                    done += len(part.keys)
                    for key in part.keys:
                        self._let_go(key)
                    if progress is not None and more:
                        progress(done)
                erased = _together(parts)
                if self._vectors is not None and (erased.keys or erased.vectors_left):
                    self._vectors.erase(erased.keys)
            if erased.keys:
                receipts.append(self._scan(erased, "expired", now))
                for key in erased.keys:
                    self._let_go(key)
        return tuple(receipts)

    def _seqs(self, key: SessionKey, message: str | int, *, whole_turn: bool) -> list[int]:
        seqs = self._store.seqs_of(key, message, whole_turn=whole_turn)
        if not seqs:
            if isinstance(message, str) and (turn := self._store.find(key, [message]).get(message)):
                raise TurnOpen(turn)
            raise MessageNotFound(message)
        return seqs

    @contextlib.contextmanager
    def _claim(self) -> Iterator[None]:
        """Have the files of an index that is not open, and remove them: it is rebuilt when it is next opened.

        Claimed first, so that nothing is deleted while another process keeps the vectors.
        """
        if self._vectors is not None or self._folder is None or not self._folder.is_dir():
            yield
            return
        folder = VectorFolder(self._folder)
        try:
            yield
            folder.empty()
        finally:
            folder.release()

    def _scan(
        self,
        erased: Erased,
        scope: Literal["message", "session", "owner", "expired"],
        now: datetime,
        *,
        destroyed: int = 0,
    ) -> Receipt:
        needles = _needles(erased)
        found, files, size = self._found(needles)
        elsewhere = self._store.said_in_rows(Needles(found)) if found else set()
        if found - elsewhere:
            if self._vectors is not None:
                self._vectors.wait(_WAIT_S)  # while it is built, Chroma's files may hold used memory
            self._store.database.vacuum()
            found, files, size = self._found(needles)
            elsewhere = self._store.said_in_rows(Needles(found)) if found else set()
        limits = list(_LIMITS)
        if self._store.sealing.ring is not None and not destroyed:
            limits.append(_SEALED)
        if not self._store.database.path:
            limits.append(_NO_FILES)
        if self._vectors is not None and self._vectors.folder is None and self._vectors.status()["state"] != "exact":
            limits.append(_SERVER)
        salt = secrets.token_hex(16)
        return Receipt(
            id=uuid4().hex,
            at=now,
            scope=scope,
            counts=dict(erased.counts),
            versions=erased.versions,
            salt=salt,
            digests=tuple(digest_of(text, salt) for text in erased.messages),
            files=files,
            bytes=size,
            strings=len(needles.strings),
            elsewhere=len(found & elsewhere),
            left=len(found - elsewhere),
            limits=tuple(limits),
            keys=destroyed,
        )

    def _found(self, needles: Needles) -> tuple[set[bytes], int, int]:
        paths = self._store.database.files()
        folder = self._vectors.folder if self._vectors is not None else self._folder
        if folder is not None and folder.is_dir():
            paths += [path for path in folder.rglob("*") if path.is_file()]
        found: set[bytes] = set()
        total = 0
        for path in paths:
            here, size = needles.found_in_file(path)
            found |= here
            total += size
        return found, len(paths), total


def digest_of(text: str, salt: str) -> str:
    """What stands for a text in a receipt."""
    return hmac.new(bytes.fromhex(salt), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def _together(parts: Sequence[Erased]) -> Erased:
    """What several transactions forgot, as one."""
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.counts)
    return Erased(
        keys=tuple(key for part in parts for key in part.keys),
        versions=tuple(version for part in parts for version in part.versions),
        counts=dict(counts),
        messages=tuple(text for part in parts for text in part.messages),
        strings=tuple(text for part in parts for text in part.strings),
        terms=tuple(term for part in parts for term in part.terms),
        vectors=tuple(vector for part in parts for vector in part.vectors),
        vectors_left=any(part.vectors_left for part in parts),
    )


def _needles(erased: Erased) -> Needles:
    strings: set[bytes] = set()
    for text in (*erased.strings, *erased.terms):
        strings |= forms_of(text)
    for vector in erased.vectors:
        strings |= pieces(vector)
    return Needles(strings)
