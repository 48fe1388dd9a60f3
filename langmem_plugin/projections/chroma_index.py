"""A Chroma collection as an index over stored vectors: embedded in a folder, or a server.

One collection an embedding model: a collection costs 2.7 MB and four file descriptors,
so sessions share it. Whose a vector is stands in its metadata, and the filter on it is
written in one place, `_only`. No text is ever given to Chroma, and no name of a user.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.projections.chroma_lock import SqliteLock
from langmem_plugin.projections.chroma_scrub import scrub
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey

_TIMEOUT_S = 10.0
_SQLITE = "chroma.sqlite3"


class ChromaIndex:
    """One collection of an open Chroma client. Every method may raise what Chroma raises."""

    def __init__(self, client: Any, model: str, *, namespace: str = "", folder: Path | None = None) -> None:
        self._client = client
        self._folder = folder
        self._settling = threading.Lock()
        self._settled = folder is None
        self._name = collection_name(model, namespace=namespace)
        self._collection = self._open_collection()
        self._lock = SqliteLock(folder / _SQLITE) if folder is not None else None
        self._batch = max(1, min(1_000, client.get_max_batch_size()))

    @classmethod
    def in_folder(cls, folder: Path, model: str) -> ChromaIndex:
        """Chroma inside this process, its files in `folder`."""
        chromadb, settings = _chroma()
        _refuse_locked(folder)
        client = chromadb.PersistentClient(path=str(folder), settings=settings)
        try:
            return cls(client, model, folder=folder)
        except BaseException:
            client.close()
            raise

    @classmethod
    def at(cls, url: str, model: str, *, namespace: str = "") -> ChromaIndex:
        """A Chroma server, http://host:port or https://host:port."""
        import httpx

        host, port, ssl = server_address(url)
        chromadb, settings = _chroma()
        # Chroma's own session waits for ever; a server that hangs is found out here.
        httpx.get(f"{url.rstrip('/')}/api/v2/heartbeat", timeout=_TIMEOUT_S).raise_for_status()
        client = chromadb.HttpClient(host=host, port=port, ssl=ssl, settings=settings)
        session = getattr(getattr(client, "_server", None), "_session", None)
        if isinstance(session, httpx.Client):
            session.timeout = httpx.Timeout(_TIMEOUT_S)
        try:
            return cls(client, model, namespace=namespace)
        except BaseException:
            _close(client)
            raise

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self._name

    def count(self) -> int:
        """How many vectors the collection holds."""
        return int(self._collection.count())

    def put(self, key: SessionKey, seqs: Seqs, vectors: Vectors) -> None:
        """Add or replace; the same call twice leaves the same collection."""
        if not len(seqs):
            return
        if self._settled:
            self._put(key, seqs, vectors)
            return
        with self._settling:
            self._put(key, seqs, vectors)
            self._settle(vectors[0])

    def _put(self, key: SessionKey, seqs: Seqs, vectors: Vectors) -> None:
        tag = session_tag(key)
        if self._lock is not None:
            self._lock.check()
        for start in range(0, len(seqs), self._batch):
            part = [int(seq) for seq in seqs[start : start + self._batch]]
            self._collection.upsert(
                ids=[f"{tag}:{seq}" for seq in part],
                embeddings=vectors[start : start + self._batch],
                metadatas=[{"session": tag, "seq": seq} for seq in part],
            )

    def search(self, key: SessionKey, vector: Vectors, *, k: int, before: int | None = None) -> Seqs:
        """About the `k` nearest entries of the session, best first; HNSW may miss some."""
        if not self._settled:
            with self._settling:
                self._settle(vector)
        found = self._collection.query(
            query_embeddings=[vector], n_results=k, where=_only(key, before), include=["metadatas"]
        )
        return np.asarray([int(row["seq"]) for row in found["metadatas"][0]], dtype=np.int64)

    def seqs(self, key: SessionKey) -> Seqs:
        """The entries of the session that the collection holds, ascending."""
        found = self._collection.get(where=_only(key), include=[])
        return np.sort(np.asarray([int(id.rpartition(":")[2]) for id in found["ids"]], dtype=np.int64))

    def vectors_of(self, key: SessionKey, seqs: Seqs) -> tuple[Seqs, Vectors]:
        """What the collection holds of these entries, ascending."""
        tag = session_tag(key)
        found = self._collection.get(ids=[f"{tag}:{int(seq)}" for seq in seqs], include=["embeddings"])
        held = np.asarray([int(id.rpartition(":")[2]) for id in found["ids"]], dtype=np.int64)
        rows = np.asarray(found["embeddings"], dtype=np.float32)
        if not len(held):
            return held, np.zeros((0, 0), np.float32)
        if not self._settled:
            with self._settling:
                self._settle(rows[0])
        order = np.argsort(held)
        return held[order], rows[order]

    def remove(self, key: SessionKey, seqs: Sequence[int] | None = None) -> None:
        """Take entries of the session out, all of them by default.

        They are not found any more; their bytes stay in Chroma's files (chroma#7662).
        """
        if self._lock is not None:
            self._lock.check()
        if seqs is None:
            self._collection.delete(where=_only(key))
        elif len(seqs):
            tag = session_tag(key)
            self._collection.delete(ids=[f"{tag}:{int(seq)}" for seq in seqs])

    def empty(self) -> None:
        """Replace the collection by an empty one."""
        self._client.delete_collection(self._name)
        self._collection = self._open_collection()

    def close(self) -> None:
        """Let go of files and connections. Does nothing the second time."""
        _close(self._client)
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            scrub(self._folder)

    def _settle(self, vector: Vectors) -> None:
        """Have Chroma make its files, and clean them before anything is kept in them."""
        if not self._settled and self._folder is not None:
            self._collection.query(query_embeddings=[vector], n_results=1, include=[])
            scrub(self._folder)
        self._settled = True

    def _open_collection(self) -> Any:
        return self._client.get_or_create_collection(
            self._name, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}, embedding_function=None
        )


def collection_name(model: str, *, namespace: str = "") -> str:
    """The collection of an embedding model; `namespace` keeps databases apart that share a server."""
    return "langmem-" + _digest(namespace, model)


def session_tag(key: SessionKey) -> str:
    """What stands for a session in Chroma: 128 bits that name neither owner nor session."""
    return _digest(key.owner, key.session)


def server_address(where: str) -> tuple[str, int, bool]:
    """Host, port and whether to encrypt, of a Chroma server's address.

    Raises:
        InvalidSetting: Not an http or https address of a host alone.
    """
    try:
        parts = urlsplit(where)
        port = parts.port or (443 if parts.scheme == "https" else 8000)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.username:
        raise InvalidSetting("vectors", _without_password(where), "give a folder, or http://host:port of `chroma run`")
    return parts.hostname, port, parts.scheme == "https"


def _without_password(where: str) -> str:
    scheme, mark, rest = where.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _only(key: SessionKey, before: int | None = None) -> dict[str, Any]:
    """The filter without which nothing is read or deleted (G7)."""
    mine = {"session": session_tag(key)}
    return mine if before is None else {"$and": [mine, {"seq": {"$lt": before}}]}


def _digest(*parts: str) -> str:
    """128 bits of the parts, told apart by their lengths."""
    raw = [part.encode("utf-8", "surrogatepass") for part in parts]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in raw)).hexdigest()[:32]


def _refuse_locked(folder: Path) -> None:
    if (folder / _SQLITE).exists():
        lock = SqliteLock(folder / _SQLITE)
        try:
            lock.check()
        finally:
            lock.close()


def _chroma() -> tuple[Any, Any]:
    import chromadb  # 0.7 s and 77 MB: only where an index is wanted
    from chromadb.config import Settings

    # No telemetry (G14), and no settings out of a .env file that happens to lie around.
    return chromadb, Settings(_env_file=None, anonymized_telemetry=False)


def _close(client: Any) -> None:
    """Close a client, and what its own `close` leaves: a second system, connections, entries in a table."""
    from chromadb.api.shared_system_client import SharedSystemClient

    admin = getattr(client, "_admin_client", None)
    servers = [getattr(each, "_server", None) for each in (client, admin)]
    systems = [getattr(server, "_system", None) for server in servers]
    client.close()
    for server in servers:
        session = getattr(server, "_session", None)
        if session is not None:
            session.close()
    # A client of a server is listed under a name that nobody can ask for again.
    known = getattr(SharedSystemClient, "_identifier_to_system", {})
    for name, system in list(known.items()):
        if any(system is each for each in systems):
            known.pop(name, None)
