"""A Chroma collection as an index over stored vectors: in a child process, or on a server.

One collection an embedding model: a collection costs 2.7 MB and four file descriptors,
so sessions share it. Whose a vector is stands in its metadata. No text is ever given to Chroma, and no name of a user.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from langmem_plugin.errors import InvalidSetting, StoreUnavailable
from langmem_plugin.projections.chroma_child import DEADLINE_S, ChromaChild
from langmem_plugin.projections.chroma_collection import Collection, chroma
from langmem_plugin.projections.chroma_scrub import scrub
from langmem_plugin.projections.vector_table import Seqs, Vectors
from langmem_plugin.records import SessionKey

_TIMEOUT_S = 10.0


class ChromaIndex:
    """One collection of an open Chroma. Every method may raise what Chroma raises."""

    def __init__(self, held: Collection | ChromaChild, name: str, *, folder: Path | None = None) -> None:
        """Takes the collection over.

        Args:
            held: It, open.
            name: Its name.
            folder: Chroma's files, if they are ours.
        """
        self._held = held
        self._name = name
        self._folder = folder
        self._settling = threading.Lock()
        self._settled = folder is None
        self._batch = held.batch()

    @classmethod
    def in_folder(
        cls,
        folder: Path,
        model: str,
        *,
        claim: int | None = None,
        loaded: Callable[[], object] = lambda: None,
        stop: Callable[[], bool] = lambda: False,
        deadline_s: float = DEADLINE_S,
    ) -> ChromaIndex:
        """Chroma in a child process, its files in `folder`.

        Args:
            folder: Where.
            model: The embedder's name.
            claim: A file descriptor that the child keeps open as long as it lives.
            loaded: Called before a file is touched.
            stop: Asked now and then; True ends the start, and calls soon after.
            deadline_s: Seconds that a call may take; a child that takes longer is ended.

        Raises:
            StoreUnavailable: No child can be started, or Chroma cannot open the files.
        """
        child = ChromaChild(folder, claim=claim, stop=stop, deadline_s=deadline_s)
        try:
            loaded()
            name = collection_name(model)
            child.open(folder, name)
            return cls(child, name, folder=folder)
        except BaseException:
            with contextlib.suppress(StoreUnavailable):  # it ended before: the error says how
                child.close()
            raise

    @classmethod
    def at(cls, url: str, model: str, *, namespace: str = "") -> ChromaIndex:
        """A Chroma server, http://host:port or https://host:port."""
        import httpx

        host, port, ssl = server_address(url)
        chromadb, settings = chroma()
        # Chroma's own session waits for ever; a server that hangs is found out here.
        httpx.get(f"{url.rstrip('/')}/api/v2/heartbeat", timeout=_TIMEOUT_S).raise_for_status()
        client = chromadb.HttpClient(host=host, port=port, ssl=ssl, settings=settings)
        session = getattr(getattr(client, "_server", None), "_session", None)
        if isinstance(session, httpx.Client):
            session.timeout = httpx.Timeout(_TIMEOUT_S)
        name = collection_name(model, namespace=namespace)
        held = Collection(client, name)
        try:
            held.open()
            return cls(held, name)
        except BaseException:
            held.close()
            raise

    @property
    def collection(self) -> str:
        """The collection's name."""
        return self._name

    @property
    def pid(self) -> int | None:
        """The process that has the files open; None if there is none of ours."""
        return self._held.pid if isinstance(self._held, ChromaChild) else None

    def count(self) -> int:
        """How many vectors the collection holds."""
        return self._held.count()

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
        for start in range(0, len(seqs), self._batch):
            part = slice(start, start + self._batch)
            self._held.put(tag, seqs[part], vectors[part])

    def search(self, key: SessionKey, vector: Vectors, *, k: int, before: int | None = None) -> Seqs:
        """About the `k` nearest entries of the session, best first; HNSW may miss some."""
        if not self._settled:
            with self._settling:
                self._settle(vector)
        return self._held.search(session_tag(key), k, before, vector)

    def seqs(self, key: SessionKey) -> Seqs:
        """The entries of the session that the collection holds, ascending."""
        return self._held.seqs(session_tag(key))

    def vectors_of(self, key: SessionKey, seqs: Seqs) -> tuple[Seqs, Vectors]:
        """What the collection holds of these entries, ascending."""
        held, vectors = self._held.vectors_of(session_tag(key), seqs)
        if len(held) and not self._settled:
            with self._settling:
                self._settle(vectors[0])
        return held, vectors

    def probe(self, vector: Vectors, *, k: int) -> tuple[int, float]:
        """How many of `k` neighbours a search among all sessions reaches, and how far the nearest is."""
        return self._held.probe(k, vector)

    def remove(self, key: SessionKey, seqs: Sequence[int] | None = None) -> None:
        """Take entries of the session out, all of them by default.

        They are not found any more; their bytes stay in Chroma's files (chroma#7662).
        """
        self._held.remove(session_tag(key), None if seqs is None else np.asarray(list(seqs), dtype=np.int64))

    def empty(self) -> None:
        """Replace the collection by an empty one."""
        self._held.empty()

    def close(self) -> None:
        """Let go of files and connections; returns when they are free. Does nothing the second time.

        Raises:
            StoreUnavailable: Chroma's process did not end in order; with a `pid`, it has not ended.
        """
        self._held.close()
        if self._folder is not None:
            scrub(self._folder)

    def _settle(self, vector: Vectors) -> None:
        """Have Chroma make its files, and clean them before anything is kept in them."""
        if not self._settled and self._folder is not None:
            self._held.probe(1, vector)
            scrub(self._folder)
        self._settled = True


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


def _digest(*parts: str) -> str:
    """128 bits of the parts, told apart by their lengths."""
    raw = [part.encode("utf-8", "surrogatepass") for part in parts]
    return hashlib.sha256(b"".join(b"%d:%s" % (len(part), part) for part in raw)).hexdigest()[:32]
