"""Forgetting in Redis: what is deleted, what stays in its place, and what to look for afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from langmem_plugin.messages import Message, forgotten, load_json
from langmem_plugin.records import SessionKey
from langmem_plugin.store.collected import Collected
from langmem_plugin.store.keeping import Erased
from langmem_plugin.store.rank_index import RankIndexes
from langmem_plugin.store.redis_access import take_keys
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_derived import take_vectors
from langmem_plugin.store.redis_keys import list_owners
from langmem_plugin.store.redis_transaction import VECTORS_LEFT, HeldSession, Transaction
from langmem_plugin.store.rows import to_micros
from langmem_plugin.store.scan import Needles
from langmem_plugin.store.sealing import MARK


class RedisErasure:
    """Deletes; memory of the server is free at once, its files when it writes them anew."""

    _database: RedisDatabase
    _indexes: RankIndexes
    _writer: str

    def forget(self, key: SessionKey, *, keep_constraints: bool = False) -> None:
        """See `Store.forget`; so a session that the server lost begins anew."""

        def change(transaction: Transaction) -> int:
            held = transaction.session
            entry = transaction.owner.get(f"s:{key.session}")
            there = held.head is not None or (entry is not None and not held.hash.exists)
            if there or (held.hash.exists and not keep_constraints):
                now = held.head["created_at"] if held.head else 0
                transaction.end_session(held, now, keep_constraints=keep_constraints)
            return held.generation[0]

        self._indexes.forget(self._database.change(key, change, lost=True))

    def erase(self, *, owner: str, session: str | None = None, now: datetime) -> Erased:
        """See `Store.erase`."""
        while True:
            names = [session] if session is not None else self._names(owner)
            if not names:
                self._database.drop_orphans(owner)
            erased = self._erase(owner, names, session, now)
            if erased is not None:
                break
        self._database.vacuum()
        return erased

    def erase_expired(self, *, now: datetime, limit: int) -> Erased:
        """See `Store.erase_expired`; one transaction an owner."""
        moment = to_micros(now)
        over = [
            one
            for held in list_owners(self._database)
            for one in held.sessions
            if not one.forgotten and one.entry["expires_at"] is not None and one.entry["expires_at"] <= moment
        ]
        over.sort(key=lambda one: (one.entry["expires_at"], one.entry["id"]))
        by_owner: dict[str, list[str]] = {}
        for one in over[:limit]:
            by_owner.setdefault(one.key.owner, []).append(one.key.session)
        seen = _Seen()
        for owner, names in by_owner.items():
            self._erase_over(owner, names, now, seen)
        self._end_keys(moment)
        if seen.keys:
            self._database.vacuum()
        return replace(seen.done(None), vectors_left=self._database.take_note(VECTORS_LEFT))

    def _erase_over(self, owner: str, names: Sequence[str], now: datetime, total: _Seen) -> None:
        moment = to_micros(now)

        def change(transaction: Transaction) -> tuple[_Seen, list[int]]:
            transaction.only_delete()
            seen, ids = _Seen(), []
            for one in transaction.sessions.values():
                entry = transaction.owner.get(f"s:{one.key.session}")
                if entry is None or "ended" in entry or entry["expires_at"] is None or entry["expires_at"] > moment:
                    continue  # somebody wrote to it meanwhile
                rows = (one.hash.get("constraints") or []) if one.hash.exists else []
                seen.constraints(rows, lambda _: True, _ignore)
                seen.session(one, version=entry["version"] + 1)
                transaction.end_session(one, moment, keep_constraints=False)
                ids.append(one.generation[0])
            gone = {key.session for key in seen.keys}
            seen.keys_gone(take_keys(transaction, lambda _, row: row["session"] in gone))
            return seen, ids

        seen, ids = self._database.change(SessionKey(owner, names[0]), change, others=names[1:], lost=True, whole=True)
        for session_id in ids:
            self._indexes.forget(session_id)
        total.add(seen)

    def _end_keys(self, moment: int) -> None:
        """Take out every key whose time is over."""

        def over(_id: str, row: dict[str, Any]) -> bool:
            return row["expires_at"] is not None and row["expires_at"] <= moment

        database = self._database
        named = database.patiently(lambda: database.client.hgetall(database.directory))
        for owner in {value.decode() for name, value in named.items() if name.startswith(b"k:")}:
            database.change(SessionKey(owner, "-"), lambda transaction: take_keys(transaction, over), whole=True)

    def erase_messages(self, key: SessionKey, seqs: Sequence[int], *, now: datetime) -> Erased:
        """See `Store.erase_messages`."""
        wanted = sorted({int(seq) for seq in seqs})

        def change(transaction: Transaction) -> tuple[Erased, int]:
            session = transaction.session
            head = session.head
            rows = [(seq, row) for seq, row in session.rows(wanted) if "forgotten" not in row] if head else []
            if head is None or not rows:
                return Erased(), 0
            gone = {seq for seq, _ in rows}
            seen = _Seen()
            version = transaction.new_version(now, [("forgotten", str(len(rows)), "")], self._writer, prolongs=False)
            seen.keys.append(key)
            seen.versions.append(version)
            for seq, row in rows:
                seen.message(row["body"])
                body = forgotten(Message.from_json(row["body"])).to_json()
                session.hash.put(f"m{seq}", {**row, "body": body, "tokens": 0, "counter": "", "forgotten": version})
            transaction.frees = True
            head["terms"] -= seen.derived(session, sorted(gone))
            head["tokens"] -= sum(row["tokens"] for _, row in rows)
            seen.constraints(
                session.hash.get("constraints") or [],
                lambda row: row["seq"] in gone,
                lambda left: session.hash.put("constraints", left),
            )
            seen.constraints(
                transaction.owner.get("constraints") or [],
                lambda row: row["session"] == key.session and row["seq"] in gone,
                transaction.put_owner_constraints,
            )
            seen.summaries(session, from_seq=min(gone))
            seen.attachments(session, gone)
            head["erased"] = version
            transaction.put_head()
            return seen.done(session), head["id"]

        erased, session_id = self._database.change(key, change, whole=True)
        if erased.keys:
            self._indexes.forget(session_id)
            self._database.vacuum()
        return erased

    def said_in_rows(self, needles: Needles) -> set[bytes]:
        """Those of the byte strings that stand in what remains."""
        found: set[bytes] = set()
        for owner in list_owners(self._database):
            names = [self._database.session_key(one.key) for one in owner.sessions]
            for name in (*names, self._database.owner_key(owner.owner)):
                held = self._database.patiently(lambda name=name: self._database.client.hgetall(name))  # type: ignore[misc]
                texts = [text for field, value in held.items() for text in _texts(field, value)]
                found |= needles.found_in(b"\0\0".join(texts))
        return found

    def _names(self, owner: str) -> list[str]:
        """The owner's sessions, lost and ended ones among them."""
        name = self._database.owner_key(owner)
        fields = self._database.patiently(lambda: self._database.client.hkeys(name))
        return [field.decode()[2:] for field in fields if field.startswith(b"s:")]

    def _erase(self, owner: str, names: Sequence[str], session: str | None, now: datetime) -> Erased | None:
        """What was erased; None if the owner got another session meanwhile."""
        first = names[0] if names else "-"

        def change(transaction: Transaction) -> tuple[Erased | None, list[int]]:
            transaction.only_delete()
            seen = _Seen()
            held = list(transaction.sessions.values())
            if session is None:
                entries = [one for one in transaction.owner.names() if one.startswith("s:")]
                if len(entries) > len(names):
                    return None, []
                seen.constraints(transaction.owner.get("constraints") or [], lambda _: True, _ignore)
            ids = [one.generation[0] for one in held]
            for one in held:
                entry = transaction.owner.get(f"s:{one.key.session}")
                rows = (one.hash.get("constraints") or []) if one.hash.exists else []
                seen.constraints(rows, lambda _: True, _ignore)
                if one.head is not None or (entry is not None and not entry.get("ended")):
                    seen.session(one, version=(one.head or entry)["version"] + 1)
                if one.hash.exists or entry is not None:
                    transaction.end_session(one, to_micros(now), keep_constraints=False)
            seen.keys_gone(take_keys(transaction, lambda _, row: session in (None, row["session"])))
            if session is None:
                transaction.drop_owner()
            return seen.done(None), ids

        erased, ids = self._database.change(SessionKey(owner, first), change, others=names[1:], lost=True, whole=True)
        for session_id in ids:
            self._indexes.forget(session_id)
        return erased


class _Seen(Collected):
    """Collects what goes, and takes it out."""

    def session(self, held: HeldSession, *, version: int) -> None:
        """What a session holds; the caller drops it."""
        self.keys.append(held.key)
        self.versions.append(version)
        self._counts["sessions"] += 1
        if held.head is None:  # the server lost it
            return
        for _, row in held.rows(range(1, held.head["last_seq"] + 1)):
            self.message(row["body"])
        for turn in held.hash.many(f"t:{name}" for name in held.head["pending"]):
            for row in (turn or {}).get("staged", {}).values():
                self.message(row["body"], "staged")
        self.attachments(held, None)
        self.derived(held, None)
        self.summaries(held, from_seq=0)

    def derived(self, held: HeldSession, seqs: Sequence[int] | None) -> int:
        """Keywords and vectors of entries, all of a session's by default; gives the number of terms."""
        last = held.head["last_seq"] if held.head else 0
        fields = [f"k{seq}" for seq in (range(1, last + 1) if seqs is None else seqs)]
        total = 0
        for counts in held.hash.many(fields):
            self._terms.update(dict.fromkeys(counts or ()))
            self._counts["postings"] += len(counts or ())
            total += sum((counts or {}).values())
        if fields:
            held.hash.remove(fields)
        vectors = take_vectors(held, seqs)
        self._vectors += vectors
        self._counts["embeddings"] += len(vectors)
        return total

    def keys_gone(self, count: int) -> None:
        """Keys to what goes."""
        self._counts["access_keys"] += count

    def add(self, other: _Seen) -> None:
        """Take in what another one collected."""
        self.keys += other.keys
        self.versions += other.versions
        self._counts += other._counts
        self._messages += other._messages
        self._strings |= other._strings
        self._terms |= other._terms
        self._vectors += other._vectors

    def constraints(
        self,
        rows: Sequence[dict[str, Any]],
        which: Callable[[dict[str, Any]], bool],
        keep: Callable[[Sequence[dict[str, Any]]], None],
    ) -> None:
        gone = [row for row in rows if which(row)]
        for row in gone:
            self._strings[str(load_json(row["text"]))] = None
        self._counts["constraints"] += len(gone)
        if gone:
            keep([row for row in rows if not which(row)])

    def summaries(self, held: HeldSession, *, from_seq: int) -> None:
        """Those that saw the entry `from_seq`: each stands for everything up to its end."""
        head = held.head or {}
        gone = [one for one in head["summaries"] if one["upto"] >= from_seq]
        fields = [f"s{one['number']}" for one in gone]
        for summary in filter(None, held.hash.many(fields)):
            self._strings[summary["text"]] = None
        self._counts["summaries"] += len(gone)
        if gone:
            held.hash.remove(fields)
            head["summaries"] = [one for one in head["summaries"] if one not in gone]

    def attachments(self, held: HeldSession, seqs: set[int] | None) -> None:
        """Recalled blocks that quote one of the entries."""
        for seq, row in held.rows(range(1, (held.head or {})["last_seq"] + 1)):
            block = row.get("attachment")
            if block is not None and (seqs is None or seqs & set(block["seqs"])):
                self._counts["recalled"] += 1
                self._strings[block["text"]] = None
                held.hash.put(f"m{seq}", {name: value for name, value in row.items() if name != "attachment"})

    def done(self, remaining: HeldSession | None) -> Erased:
        """All of it; keywords that another message of the session has as well are left out."""
        if remaining is not None:
            last = remaining.head["last_seq"] if remaining.head else 0
            for counts in remaining.hash.many(f"k{seq}" for seq in range(1, last + 1)):
                for term in counts or ():
                    self._terms.pop(term, None)
        return self.erased()


def _texts(field: bytes, value: bytes) -> Iterator[bytes]:
    """A field as it stands, and the texts of constraints, which are JSON within JSON."""
    yield field
    yield value
    if field == b"constraints" and not value.startswith(MARK.encode()):
        for row in load_json(value.decode()):
            yield row["text"].encode()


def _ignore(_rows: Sequence[dict[str, Any]]) -> None:
    """They go with the hash that they stand in."""
