"""One collection of an open Chroma; and the program that keeps one for a parent process.

As a program it reads calls from its standard input and writes what they give to its
standard output: a frame is two lengths, a JSON object, and the bytes of arrays. It ends
when its input does. It imports nothing of this package, which costs half as much again.
"""

from __future__ import annotations

import json
import math
import os
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, Final, TypeAlias

if __name__ == "__main__":  # what the parent can import, behind what this interpreter finds itself
    sys.path += [each for each in json.loads(sys.argv[1]) if each not in sys.path]

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

_THREADS: Final = 4
_LENGTHS: Final = struct.Struct("<IQ")
_LONGEST: Final = 1 << 31
_TYPES: Final[dict[str, np.dtype[Any]]] = {"f": np.dtype("<f4"), "i": np.dtype("<i8")}


class Collection:
    """Vectors by session tag and seq. Every method may raise what Chroma raises; thread-safe as Chroma is."""

    def __init__(self, client: Any, name: str) -> None:
        """Takes the client over; nothing is asked yet."""
        self._client = client
        self._name = name

    def open(self) -> None:
        """Make the collection if it is not there."""
        self._held = self._client.get_or_create_collection(
            self._name, configuration={"hnsw": {"space": "cosine", "ef_search": 200}}, embedding_function=None
        )

    def batch(self) -> int:
        """How many vectors `put` takes at once."""
        return max(1, min(1_000, int(self._client.get_max_batch_size())))

    def count(self) -> int:
        """How many vectors there are."""
        return int(self._held.count())

    def put(self, tag: str, seqs: Array, vectors: Array) -> None:
        """Add or replace."""
        self._held.upsert(
            ids=[f"{tag}:{seq}" for seq in seqs.tolist()],
            embeddings=vectors,
            metadatas=[{"session": tag, "seq": seq} for seq in seqs.tolist()],
        )

    def search(self, tag: str, k: int, before: int | None, vector: Array) -> Array:
        """About the `k` nearest of the session, best first."""
        found = self._held.query(
            query_embeddings=[vector], n_results=k, where=_only(tag, before), include=["metadatas"]
        )
        return np.asarray([int(row["seq"]) for row in found["metadatas"][0]], dtype=np.int64)

    def seqs(self, tag: str) -> Array:
        """What there is of the session, ascending."""
        found = self._held.get(where=_only(tag), include=[])
        return np.sort(np.asarray([int(id.rpartition(":")[2]) for id in found["ids"]], dtype=np.int64))

    def vectors_of(self, tag: str, seqs: Array) -> tuple[Array, Array]:
        """What there is of these entries, ascending."""
        found = self._held.get(ids=[f"{tag}:{seq}" for seq in seqs.tolist()], include=["embeddings"])
        held = np.asarray([int(id.rpartition(":")[2]) for id in found["ids"]], dtype=np.int64)
        if not len(held):
            return held, np.zeros((0, 0), np.float32)
        order = np.argsort(held)
        return held[order], np.asarray(found["embeddings"], dtype=np.float32)[order]

    def remove(self, tag: str, seqs: Array | None = None) -> None:
        """Take entries of the session out, all of them by default."""
        if seqs is None:
            self._held.delete(where=_only(tag))
        elif len(seqs):
            self._held.delete(ids=[f"{tag}:{seq}" for seq in seqs.tolist()])

    def probe(self, k: int, vector: Array) -> tuple[int, float]:
        """How many of `k` neighbours a search among all sessions reaches, and how far the nearest is."""
        found = self._held.query(query_embeddings=[vector], n_results=k, include=["distances"])
        distances = found["distances"][0]
        return len(distances), float(distances[0]) if len(distances) else math.inf

    def empty(self) -> None:
        """Replace it by an empty one."""
        self._client.delete_collection(self._name)
        self.open()

    def close(self) -> None:
        """Let go of files and connections, also of what the client's own `close` leaves."""
        from chromadb.api.shared_system_client import SharedSystemClient

        admin = getattr(self._client, "_admin_client", None)
        servers = [getattr(each, "_server", None) for each in (self._client, admin)]
        systems = [getattr(server, "_system", None) for server in servers]
        self._client.close()
        for server in servers:
            session = getattr(server, "_session", None)
            if session is not None:
                session.close()
        # A client of a server is listed under a name that nobody can ask for again.
        known = getattr(SharedSystemClient, "_identifier_to_system", {})
        for name, system in list(known.items()):
            if any(system is each for each in systems):
                known.pop(name, None)


_CALLS: Final[dict[str, Callable[..., Any]]] = {
    call.__name__: call
    for call in (
        Collection.batch,
        Collection.count,
        Collection.put,
        Collection.search,
        Collection.seqs,
        Collection.vectors_of,
        Collection.remove,
        Collection.probe,
        Collection.empty,
    )
}
"""What a parent may call."""


def chroma() -> tuple[Any, Any]:
    """The chromadb package and its settings: 0.7 s and 60 MB, so only where a Chroma is wanted."""
    import chromadb
    from chromadb.config import Settings

    # No telemetry (G14), and no settings out of a .env file that happens to lie around.
    return chromadb, Settings(_env_file=None, anonymized_telemetry=False)


def in_folder(folder: str, name: str) -> Collection:
    """A collection of a Chroma inside this process, its files in `folder`."""
    chromadb, settings = chroma()
    collection = Collection(chromadb.PersistentClient(path=folder, settings=settings), name)
    try:
        collection.open()
    except BaseException:
        collection.close()
        raise
    return collection


def pack(header: dict[str, Any], arrays: Sequence[Array] = ()) -> bytes:
    """A frame: what `unpack` reads again."""
    kinds = ["i" if array.dtype.kind in "iu" else "f" for array in arrays]
    body = b"".join(array.astype(_TYPES[kind]).tobytes() for array, kind in zip(arrays, kinds, strict=True))
    shapes = [[kind, array.shape] for array, kind in zip(arrays, kinds, strict=True)]
    head = json.dumps({**header, "arrays": shapes}).encode("ascii")
    return _LENGTHS.pack(len(head), len(body)) + head + body


def unpack(stream: IO[bytes]) -> tuple[dict[str, Any], list[Array]] | None:
    """The next frame; None at the end.

    Raises:
        ValueError: It is none, or ends in its midst.
    """
    lengths = _read(stream, _LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size or max(_LENGTHS.unpack(lengths)) > _LONGEST:
        raise ValueError("not a frame")
    head, body = (_read(stream, length) for length in _LENGTHS.unpack(lengths))
    header: dict[str, Any] = json.loads(head)
    arrays, at = [], 0
    for kind, shape in header["arrays"]:
        arrays.append(np.frombuffer(body, _TYPES[kind], math.prod(shape), at).reshape(shape))
        at += arrays[-1].nbytes
    return header, arrays


def _read(stream: IO[bytes], length: int) -> bytes:
    """So many bytes, or what is left: a pipe gives what it has."""
    parts = []
    while length and (part := stream.read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def _only(tag: str, before: int | None = None) -> dict[str, Any]:
    """The filter without which nothing is read or deleted (G7)."""
    mine = {"session": tag}
    return mine if before is None else {"$and": [mine, {"seq": {"$lt": before}}]}


class _Service:
    """Answers calls, some at once, until told to close, or nobody is there to ask."""

    def __init__(self, questions: IO[bytes], answers: IO[bytes]) -> None:
        self._questions = questions
        self._answers = answers
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._free = threading.Semaphore(_THREADS)
        self._opened: list[Collection] = []

    def run(self) -> None:
        """Each thread reads a call, makes it, and says what it gave: nothing is handed over."""
        for _ in range(_THREADS - 1):
            threading.Thread(target=self._work, daemon=True).start()
        self._work()

    def say(self, number: int, error: str = "", values: Sequence[Any] = ()) -> None:
        plain = [value for value in values if not isinstance(value, np.ndarray | None)]
        frame = pack(
            {"number": number, "error": error, "values": plain},
            [value for value in values if isinstance(value, np.ndarray)],
        )
        with self._writing:
            self._answers.write(frame)
            self._answers.flush()

    def _work(self) -> None:
        while True:
            with self._reading:
                header, arrays = self._next()
                if header["call"] == "close":
                    self._close(header["number"])
                self._free.acquire()
            self._answer(header["number"], header["call"], header["given"], arrays)
            self._free.release()

    def _next(self) -> tuple[dict[str, Any], list[Array]]:
        try:
            frame = unpack(self._questions)
        except ValueError:
            frame = None
        if frame is None:
            os._exit(0)  # whatever other threads are at
        return frame

    def _answer(self, number: int, call: str, given: list[Any], arrays: list[Array]) -> None:
        try:
            if call == "open":
                self._opened.append(in_folder(*given))
                values: Any = None
            else:
                values = _CALLS[call](self._opened[0], *given, *arrays)
        except BaseException as error:  # noqa: BLE001 - Chroma raises anything, a panic of Rust's is no Exception
            self.say(number, type(error).__name__)
        else:
            self.say(number, values=values if isinstance(values, tuple) else (values,))

    def _close(self, number: int) -> None:
        for _ in range(_THREADS):
            self._free.acquire()  # the others are done
        error = ""
        try:
            for collection in self._opened:
                collection.close()
        except BaseException as raised:  # noqa: BLE001 - as above
            error = type(raised).__name__
        self.say(number, error)
        os._exit(0)


def _stand_alone() -> None:
    """End with the parent, whatever Chroma does just then, and leave no vectors in a core file (G11)."""
    if sys.platform == "win32":
        return
    import resource
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the parent, which closes first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import contextlib
        import ctypes

        with contextlib.suppress(OSError, AttributeError):  # without it, the end of the input says so
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _main() -> None:
    _stand_alone()
    with os.fdopen(os.dup(0), "rb") as questions, os.fdopen(os.dup(1), "wb") as answers:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)  # whatever else prints
        chroma()
        service = _Service(questions, answers)
        service.say(0)
        service.run()


if __name__ == "__main__":
    _main()
