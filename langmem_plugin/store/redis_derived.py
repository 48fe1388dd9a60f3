"""What is derived from the log, in Redis: keywords, summaries, vectors."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from langmem_plugin.messages import load_json
from langmem_plugin.records import Entry, SessionKey, Summary, Uncovered
from langmem_plugin.store.protocol import KeywordStats, Postings
from langmem_plugin.store.ranges import Ranges, count, joined, numbers, ranges_of, without
from langmem_plugin.store.rank_index import RankIndex, RankIndexes, repeated
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_keys import list_keys
from langmem_plugin.store.redis_rows import entry_of, summary_json, summary_of
from langmem_plugin.store.redis_transaction import HeldSession, Transaction

_VECTOR = np.dtype("<f4")
_TOGETHER = 500
"""Sessions that are asked at a time."""


class RedisDerived:
    """Everything that a rebuild from the log gives back (guarantee G10)."""

    _database: RedisDatabase

    def __init__(self) -> None:
        self._indexes = RankIndexes()

    # Keyword index

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        """See `Store.keyword_stats`."""

        def read(transaction: Transaction) -> KeywordStats:
            session = transaction.session
            if session.head is None:
                return KeywordStats(0, 0)
            return KeywordStats(session.head["documents"], session.head["terms"], session.generation)

        return self._database.read(key, read)

    def postings(self, key: SessionKey, terms: Sequence[str]) -> dict[str, Postings]:
        """See `Store.postings`; the session's index is built when it is first asked, and then grows with it."""

        def read(transaction: Transaction) -> RankIndex | None:
            session = transaction.session
            if session.head is None:
                return None
            index = self._indexes.get(session.generation)
            with index.lock:
                new = range(index.upto + 1, session.head["last_seq"] + 1)
                index.extend([repeated(counts) for counts in session.hash.many(f"k{seq}" for seq in new)])
            if new:
                self._indexes.grew(session.generation)
            return index

        index = self._database.read(key, read)
        if index is None:
            return {}
        with index.lock:
            return index.postings(terms)

    # Summaries

    def summaries(self, key: SessionKey) -> tuple[Summary | None, Summary | None]:
        """See `Store.summaries`."""
        return self._database.read(
            key, lambda transaction: (newest(transaction.session, method="model"), newest(transaction.session))
        )

    def uncovered(self, key: SessionKey) -> Uncovered | None:
        """See `Store.uncovered`."""

        def read(transaction: Transaction) -> Uncovered | None:
            session = transaction.session
            if session.head is None:
                return None
            shown = newest(session)
            after = 0 if shown is None else shown.upto_seq
            rows = session.rows(range(after + 1, session.head["last_seq"] + 1))
            tokens = sum(row["tokens"] for _, row in rows)
            return Uncovered(session.as_head(), tokens, None if shown is None else shown.method == "model")

        return self._database.read(key, read)

    def save_summary(
        self, key: SessionKey, summary: Summary, *, expected: Summary | None, now: datetime | None = None
    ) -> bool:
        """See `Store.save_summary`."""

        def change(transaction: Transaction) -> bool:
            session = transaction.session
            head = session.head
            if head is None or newest(session) != expected:
                return False
            if summary.upto_seq > head["last_seq"] or head["erased"] > summary.created_version:
                return False  # it was begun before something was forgotten that it may hold
            number = max((one["number"] for one in head["summaries"]), default=0) + 1
            what = ("summary", str(summary.upto_seq), summary.method)
            version = transaction.new_version(now or datetime.now(UTC), [what], "", prolongs=False)
            session.hash.put(f"s{number}", summary_json(summary, version))
            entry = {"number": number, "upto": summary.upto_seq, "method": summary.method, "version": version}
            head["summaries"].append(entry)
            transaction.put_head()
            return True

        return self._database.change(key, change)

    # Vectors

    def unembedded(self, key: SessionKey, model: str, *, limit: int) -> list[Entry]:
        """See `Store.unembedded`."""

        def read(transaction: Transaction) -> list[Entry]:
            session = transaction.session
            if session.head is None or limit <= 0:
                return []
            done = _models(session).get(model, {}).get("done", [])
            left = list(numbers(without([[1, session.head["last_seq"]]] if session.head["last_seq"] else [], done)))
            found: list[Entry] = []
            for start in range(0, len(left), limit):
                rows = session.rows(left[start : start + limit])
                found += [entry_of(seq, row) for seq, row in rows if "forgotten" not in row]
                if len(found) >= limit:
                    break
            return found[:limit]

        return self._database.read(key, read, "models")

    def save_vectors(self, key: SessionKey, model: str, seqs: Sequence[int], vectors: npt.NDArray[np.float32]) -> None:
        """See `Store.save_vectors`."""
        blobs = [np.ascontiguousarray(vector, dtype=_VECTOR).tobytes() for vector in vectors]
        self._save_blobs(key, model, seqs, blobs)

    def skip_vectors(self, key: SessionKey, model: str, seqs: Sequence[int]) -> None:
        """See `Store.skip_vectors`."""
        self._save_blobs(key, model, seqs, [b""] * len(seqs))

    def vectors(
        self, key: SessionKey, model: str, *, after: int = 0
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `Store.vectors`."""

        def read(transaction: Transaction) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
            kept = _models(transaction.session).get(model, {}).get("kept", [])
            return _matrix(transaction.session, model, [seq for seq in numbers(kept) if seq > after])

        return self._database.read(key, read, "models")

    def vectors_of(
        self, key: SessionKey, model: str, seqs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """See `Store.vectors_of`."""
        wanted = sorted({int(seq) for seq in seqs})
        return self._database.read(key, lambda tx: _matrix(tx.session, model, wanted), "models")

    def count_vectors(self, model: str, *, key: SessionKey | None = None) -> int:
        """See `Store.count_vectors`."""
        if key is not None:
            return self._database.read(key, lambda tx: _kept(_models(tx.session), model), "models")
        return sum(_kept(models, model) for _, models in self._every_model())

    def vector_keys(self, model: str) -> list[SessionKey]:
        """See `Store.vector_keys`."""
        return [key for key, models in self._every_model() if model in models]

    def _every_model(self) -> list[tuple[SessionKey, dict[str, Any]]]:
        """Every session with its models; those that the server lost are left out."""
        keys = list_keys(self._database)
        found: list[tuple[SessionKey, dict[str, Any]]] = []
        for start in range(0, len(keys), _TOGETHER):
            part = keys[start : start + _TOGETHER]

            def ask(part: Sequence[SessionKey] = part) -> list[bytes | None]:
                pipeline = self._database.client.pipeline(transaction=False)
                for key in part:
                    pipeline.hget(self._database.session_key(key), "models")
                return list(pipeline.execute())

            held = self._database.patiently(ask)
            found += [(key, load_json(one.decode())) for key, one in zip(part, held, strict=True) if one is not None]
        return found

    def _save_blobs(self, key: SessionKey, model: str, seqs: Sequence[int], blobs: Sequence[bytes]) -> None:
        pairs = dict(zip(map(int, seqs), blobs, strict=True))

        def change(transaction: Transaction) -> None:
            session = transaction.session
            if session.head is None or not pairs:  # forgotten meanwhile
                return
            models = _models(session)
            held = models.setdefault(model, {"number": len(models), "done": [], "kept": []})
            wanted = list(numbers(without(ranges_of(pairs), held["done"])))
            new = [seq for seq, row in session.rows(wanted) if "forgotten" not in row]
            if not new:
                return
            for seq in new:
                if pairs[seq]:
                    session.hash.put_raw(f"e{held['number']}:{seq}", pairs[seq])
            held["done"] = joined(held["done"], ranges_of(new))
            held["kept"] = joined(held["kept"], ranges_of(seq for seq in new if pairs[seq]))
            session.hash.put("models", models)

        self._database.change(key, change, "models")


def newest(session: HeldSession, *, method: str | None = None, version: int | None = None) -> Summary | None:
    """The summary that reaches furthest; of two that reach as far, the later one."""
    entries = [] if session.head is None else session.head["summaries"]
    entries = [
        one
        for one in entries
        if (method is None or one["method"] == method) and (version is None or one["version"] <= version)
    ]
    if not entries:
        return None
    last = max(entries, key=lambda one: (one["upto"], one["number"]))
    return summary_of(session.hash.get(f"s{last['number']}"))


def take_vectors(session: HeldSession, seqs: Sequence[int] | None) -> list[bytes]:
    """Take entries' vectors out of a session, all of them by default; gives their bytes."""
    models = _models(session)
    gone: list[bytes] = []
    for held in models.values():
        kept: Ranges = held["kept"]
        taken = kept if seqs is None else without(kept, without(kept, ranges_of(seqs)))
        fields = [f"e{held['number']}:{seq}" for seq in numbers(taken)]
        gone += [blob for blob in session.hash.raw(fields) if blob]
        if fields:
            session.hash.remove(fields)
        held["kept"] = without(kept, taken)
    if gone:
        session.hash.put("models", models)
    return gone


def _models(session: HeldSession) -> dict[str, Any]:
    """Each model's number, which entries it is done with, and of which vectors are kept."""
    return {} if session.head is None else session.hash.get("models") or {}


def _kept(models: dict[str, Any], model: str) -> int:
    return count(models[model]["kept"]) if model in models else 0


def _matrix(
    session: HeldSession, model: str, seqs: Sequence[int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    models = _models(session)
    fields = [f"e{models[model]['number']}:{seq}" for seq in seqs] if model in models else []
    rows = [(seq, blob) for seq, blob in zip(seqs, session.hash.raw(fields), strict=False) if blob]
    if not rows:
        return np.empty(0, np.int64), np.empty((0, 0), np.float32)
    matrix = np.frombuffer(b"".join(blob for _, blob in rows), dtype=_VECTOR).reshape(len(rows), -1)
    return np.array([seq for seq, _ in rows], np.int64), matrix.astype(np.float32, copy=True)
