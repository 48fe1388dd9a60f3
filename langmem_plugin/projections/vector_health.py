"""Whether a Chroma folder can be trusted, found out in a child process.

A damaged HNSW file does not always raise: it can find one vector of a thousand without
an error, or end the process with a segmentation fault (chroma#7238). So the child loads
it, walks it, and compares what it holds with the stored vectors.

This file is also the child's program; as such it imports nothing of this package.
"""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

WALK = 20_000
"""At most so many vectors are compared and walked over."""


def is_healthy(
    folder: Path,
    collection: str,
    ids: list[str],
    vectors: npt.NDArray[np.float32],
    *,
    timeout_s: float = 300.0,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Whether the collection answers, and answers as the stored vectors say.

    Vectors that the collection lacks are no damage: they may have been stored just
    before a crash. False also when the child cannot be run: a rebuild is always safe.

    Args:
        folder: Chroma's own folder; nobody else may have it open.
        collection: The collection's name.
        ids: Some of the ids that it should hold, ...
        vectors: ... and their vectors, in the same order.
        timeout_s: A child that takes longer is ended.
        stop: Asked now and then; True ends the child.
    """
    question = io.BytesIO()
    np.savez(question, ids=np.asarray(ids, dtype=np.str_), vectors=vectors)
    program = [sys.executable, "-P", __file__, str(folder), collection]
    try:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    except OSError:
        return False
    with child:
        try:
            if child.stdin is not None:
                child.stdin.write(question.getvalue())  # the child reads all of it before anything else
                child.stdin.close()
            deadline = time.monotonic() + timeout_s
            while child.poll() is None:
                if time.monotonic() > deadline or stop():
                    return False
                time.sleep(0.02)
            answer = child.stdout.read() if child.stdout is not None else b""
            return child.returncode == 0 and answer.strip() == b"healthy"
        except OSError:  # it died while it was told
            return False
        finally:
            child.kill()


def _check(folder: str, collection: str, question: io.BytesIO) -> str:
    import chromadb
    from chromadb.config import Settings

    with np.load(question, allow_pickle=False) as given:
        ids: list[str] = [str(id) for id in given["ids"]]
        vectors = given["vectors"]
    client = chromadb.PersistentClient(path=folder, settings=Settings(_env_file=None, anonymized_telemetry=False))
    held = client.get_collection(collection, embedding_function=None)
    count = held.count()
    if not count:
        return "healthy"
    stored = dict(zip(ids, vectors, strict=True))
    present = []
    for start in range(0, len(ids), 1_000):
        found = held.get(ids=ids[start : start + 1_000], include=["embeddings"])
        for id, row in zip(found["ids"], found["embeddings"], strict=True):
            if not np.allclose(row, stored[id], atol=1e-4):
                return "a vector differs"
            present.append(id)
    if not present:
        return "healthy" if not ids else "none of the vectors is there"
    wanted = min(count, WALK)
    found = held.query(query_embeddings=[stored[present[0]]], n_results=wanted, include=[])
    if len(found["ids"][0]) < 0.99 * wanted:  # HNSW itself may not reach one in some thousand
        return "vectors cannot be found"
    for id in present[:: max(1, len(present) // 200)]:
        found = held.query(query_embeddings=[stored[id]], n_results=1, include=["distances"])
        if not found["distances"][0] or found["distances"][0][0] > 1e-3:
            return "a vector does not find itself"
    client.close()
    return "healthy"


if __name__ == "__main__":
    print(_check(sys.argv[1], sys.argv[2], io.BytesIO(sys.stdin.buffer.read())))
