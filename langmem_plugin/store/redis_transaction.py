"""What a call on Redis sees of an owner and sessions at one moment, and what it makes of them."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from langmem_plugin.errors import StoreLost
from langmem_plugin.messages import dump_json, load_json
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store.redis_hash import FIELDS, HEAD, REV, RedisHash
from langmem_plugin.store.rows import micros_of, to_micros
from langmem_plugin.store.sealing import HashSeal

if TYPE_CHECKING:
    from langmem_plugin.store.redis_database import RedisDatabase

_log = logging.getLogger(__name__)

VECTORS_LEFT = b"vectors_left"
"""A field of the directory: vectors of a session that ended unseen may still be in an index."""
_LISTED = ("id", "version", "last_seq", "tokens", "created_at", "updated_at", "ttl", "expires_at", "worked")
"""What an owner's hash says of each session, so that a list does not read the sessions."""
_GRACE_MS = 86_400_000
"""A session whose time is over and that nobody swept is dropped by the server a day later."""
_NAMED_MS = 30 * 86_400_000
"""Its name stays for thirty days, so that versions go on."""
_PART = 1_000
"""Fields in one command: a longer one keeps other clients waiting."""

Change: TypeAlias = tuple[str, str, str]
"""Kind, reference and detail of an event."""


class Moved(Exception):
    """Another writer changed what a transaction read; it begins again. Never leaves the store."""


class HeldSession:
    """One session within a transaction."""

    def __init__(self, key: SessionKey, hash: RedisHash, before: dict[str, Any], *, moment: int | None) -> None:
        """Look at what is there.

        Args:
            key: The session.
            hash: Its hash.
            before: Of one that is not there: the `version` that it goes on from, the `ttl` that it had.
            moment: The present; None to see a session whose time is over.
        """
        self.key = key
        self.hash = hash
        self.head: dict[str, Any] | None = hash.get("head") if hash.exists else None
        """None if nobody wrote to the session since it began, was forgotten or expired."""
        self.before = before
        self.rewound = 0
        """How often the server was seen to have lost versions of it."""
        self.over = False
        """Its time is over: it reads as absent, and is dropped by the next write."""
        if self.head is None:
            return
        if self.head.get("ended"):
            self.before, self.head = self.head, None
        elif moment is not None and self.head["expires_at"] is not None and self.head["expires_at"] <= moment:
            self.over = True
            self.before = {**self.head, "version": self.head["version"] + 1}
            self.before["vectors"] = any(one["kept"] for one in (hash.get("models") or {}).values())
            self.head = None
            hash.hide()

    @property
    def begins_at(self) -> int:
        """The version that a new one goes on from."""
        return int(self.before.get("version", 0))

    @property
    def generation(self) -> tuple[int, int]:
        """See `Snapshot.generation`; another one after the server lost versions, too."""
        if self.head is None:
            return (0, 0)
        return (self.head["id"] + (self.rewound << 48), self.head["erased"])

    def as_head(self, *, first_seq: int = 0) -> Head:
        """Where the session stands."""
        if self.head is None:
            return Head(version=0, last_seq=0, history_tokens=0)
        return Head(
            version=self.head["version"],
            last_seq=self.head["last_seq"],
            history_tokens=self.head["history_tokens"],
            first_seq=first_seq,
            erased=self.head["erased"],
            tokens=self.head["tokens"],
        )

    def rows(self, seqs: Iterable[int]) -> list[tuple[int, dict[str, Any]]]:
        """The log's rows with these numbers, in order; absent ones are left out."""
        wanted = list(seqs)
        held = self.hash.many(f"m{seq}" for seq in wanted)
        return [(seq, row) for seq, row in zip(wanted, held, strict=True) if row is not None]


class Transaction:
    """The directory, an owner, and some of the owner's sessions."""

    def __init__(
        self,
        database: RedisDatabase,
        key: SessionKey,
        names: Sequence[str],
        ahead: Sequence[str],
        *,
        whole: bool,
        lost: bool,
    ) -> None:
        self._database = database
        self.key = key
        self.mark = secrets.token_hex(8).encode()
        """Of every hash that this transaction changes."""
        self.directory_sets: dict[bytes, bytes] = {}
        self.directory_gone: set[bytes] = set()
        self.frees = False
        """It deletes more than it adds: a server that is out of memory takes it."""
        keys = [SessionKey(key.owner, name) for name in names]
        known = {one: database.known.get(one) for one in keys}
        names_of = [database.directory, database.owner_key(key.owner), *map(database.session_key, keys)]
        subjects = [database.subject(one) for one in keys]
        wanted = [[b"instance", f"o:{key.owner}".encode(), *(f"x:{one}".encode() for one in subjects)]]
        wanted.append([REV, FIELDS, HEAD, b"constraints"])
        wanted[1] += [f"{sort}:{one.session}".encode() for one in keys for sort in "sd"]
        for one in keys:
            seen = known[one]
            fields = [REV, FIELDS, HEAD, *(field.encode() for field in ahead)]
            wanted.append(fields if seen is None else [*fields, f"v{seen.version}".encode()])
        arguments: list[bytes | str | int] = [int(whole)]
        for fields in wanted:
            arguments += [len(fields), *fields]
        (seconds, micros), *answers = database.look(names_of, arguments)
        self._now_ms = int(seconds) * 1000 + int(micros) // 1000
        counts, found = answers[::2], answers[1::2]
        instance, named, *tombstones = found[0]
        if instance is None or instance.decode() != database.instance:
            raise database.lost_directory()
        read = [
            dict(zip(one[::2], one[1::2], strict=True)) if whole else dict(zip(fields, one, strict=True))
            for fields, one in zip(wanted[1:], found[1:], strict=True)
        ]
        self.owner = self._hash(names_of[1], read[0], whole, "owner")
        self._check_whole(self.owner, counts[1], "what an owner's sessions share", lost=lost)
        if named and not self.owner.exists and not lost:
            raise self._lost("what an owner's sessions share was evicted", "memory.forget(owner=...)")
        self.sessions: dict[str, HeldSession] = {}
        for one, name, count, fields_of, tombstone in zip(
            keys, names_of[2:], counts[2:], read[1:], tombstones, strict=True
        ):
            hash = self._hash(name, fields_of, whole, "session", one.session)
            self._check_whole(hash, count, f"a part of session {one.session!r}", lost=lost)
            before = self._before(one, hash, tombstone, lost=lost)
            held = HeldSession(one, hash, before, moment=None if lost else to_micros(database.clock()))
            held.rewound = database.known.check(held, known[one])
            self.sessions[one.session] = held

    @property
    def session(self) -> HeldSession:
        """The session, where there is one."""
        return self.sessions[self.key.session]

    @property
    def changed(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.directory_sets or self.directory_gone) or any(one.changed for one in self._hashes())

    @property
    def is_behind(self) -> bool:
        """Whether it wrote with a key that is no longer its owner's newest."""
        return any(one.is_behind() for one in self._hashes())

    def only_delete(self) -> None:
        """Go on where no key opens what is to be deleted."""
        for one in self._hashes():
            one.blind = True

    def marks(self) -> list[bytes]:
        """Who changed each hash last."""
        return [one.rev for one in self._hashes() if one.rev]

    def script(self, instance: str) -> tuple[list[bytes], list[bytes | str | int]]:
        """Keys and arguments of the script that writes this."""
        hashes = [one for one in self._hashes() if one.changed or one is self.owner]
        out: list[bytes | str | int] = [instance]
        out += [one.rev if one.marked or one is not self.owner else b"*" for one in hashes]
        out.append(int(self.frees))
        out += [0, "", "", len(self.directory_sets)]
        out += [part for pair in self.directory_sets.items() for part in pair]
        out += [len(self.directory_gone), *self.directory_gone]
        names = {id(held.hash): name for name, held in self.sessions.items()}
        for one in hashes:
            sets = dict(one.sets)
            if one.marked and (sets or not one.dropped):
                sets[REV] = self.mark
            out += [int(one.dropped), f"d:{names[id(one)]}" if id(one) in names else "", one.lives, len(sets)]
            out += [part for pair in sets.items() for part in pair]
            out += [len(one.gone), *one.gone]
        return [self._database.directory, *(one.name for one in hashes)], out

    # Changes

    def begin_session(self, now: datetime, held: HeldSession | None = None) -> dict[str, Any]:
        """The session's head, made if there is none."""
        held = held or self.session
        if held.head is None:
            constraints = held.hash.get("constraints")
            if held.hash.exists:  # its time is over; or it was forgotten, and its constraints were kept
                held.hash.drop()
            if held.before.get("vectors"):
                self.directory_sets[VECTORS_LEFT] = b"1"
            ttl = held.before.get("ttl")
            if ttl is None and self._database.ttl is not None:
                ttl = micros_of(self._database.ttl)
            if constraints is not None:
                held.hash.put("constraints", constraints)
            held.head = {
                "owner": held.key.owner, "session": held.key.session, "id": self._database.next_numbers(),
                "version": held.begins_at, "last_seq": 0, "history_tokens": 0, "documents": 0, "terms": 0,
                "erased": 0, "refined": 0, "shares": True, "sharing": [], "created_at": to_micros(now), "moment": 0,
                "pending": [], "summaries": [], "stamp": "", "tokens": 0, "updated_at": to_micros(now), "ttl": ttl,
                "expires_at": None, "worked": 0,
            }  # fmt: skip
            self.prolong(now, held)
            self._name_owner()
            self.owner.remove([f"d:{held.key.session}"])
            self._sweep()
        return held.head

    def put_head(self, held: HeldSession | None = None) -> None:
        """Keep the session's head as it now is."""
        held = held or self.session
        if held.head is None:
            raise LookupError("a session that was not begun has no head")
        held.hash.put("head", held.head)
        entry = {name: held.head[name] for name in _LISTED}
        self.owner.put(f"s:{held.key.session}", entry, mark=self.owner.marked)

    def prolong(self, now: datetime, held: HeldSession | None = None) -> None:
        """Let the session live on from a write at this moment; counted by the store's clock, and by the server's."""
        held = held or self.session
        head = self.begin_session(now, held)
        head["updated_at"] = to_micros(now)
        ttl = head["ttl"]
        head["expires_at"] = None if ttl is None else to_micros(self._database.clock()) + ttl
        held.hash.lives = "on" if ttl is None else ttl // 1_000 + _GRACE_MS

    def new_version(
        self, now: datetime, changes: Sequence[Change], writer: str, *, prolongs: bool = True, **more: Any
    ) -> int:
        """Count one more version of the session, with its events; the head is put afterwards.

        Args:
            now: The present moment.
            changes: What made the version.
            writer: Who changed it.
            prolongs: Whether the session lives on from now; not for what is made behind it.
            more: What else the version's record is to say.
        """
        head = self.begin_session(now)
        head["version"] += 1
        if prolongs:
            self.prolong(now)
        self.note(self.session, now, changes, writer, **more)
        return int(head["version"])

    def note(self, held: HeldSession, now: datetime, changes: Sequence[Change], writer: str, **more: Any) -> None:
        """Put the events of the session's newest version."""
        head = held.head or {}
        at = to_micros(now)
        if changes[0][0] != "summary":
            head["moment"] = max(head["moment"], at)
        head["stamp"] = self.mark.decode()
        record = {"at": at, "writer": writer, "changes": changes, "moment": head["moment"], "stamp": head["stamp"]}
        held.hash.put(f"v{head['version']}", {**record, "last_seq": head["last_seq"], **more})

    def end_session(self, held: HeldSession, now: int, *, keep_constraints: bool) -> None:
        """Drop the session; a tombstone keeps its version, or the session itself where constraints are kept."""
        constraints = held.hash.get("constraints") if keep_constraints else None
        entry = self.owner.get(f"s:{held.key.session}") or {}
        version = (held.head or entry).get("version", held.begins_at - 1) + 1
        last_seq, ttl = (held.head or entry).get("last_seq", 0), (held.head or entry).get("ttl")
        held.hash.drop()
        self.owner.remove([f"s:{held.key.session}", f"d:{held.key.session}"])
        if constraints:
            self._name_owner()
            ended = {"ended": True, "version": version, "ttl": ttl}
            held.hash.put("head", {"owner": held.key.owner, "session": held.key.session, **ended})
            held.hash.put("constraints", constraints)
            self.owner.put(f"s:{held.key.session}", ended)
        subject = self._database.subject(held.key)
        tombstone = dump_json({"version": version, "last_seq": last_seq, "at": now, "ttl": ttl})
        self.directory_sets[f"x:{subject}".encode()] = tombstone.encode()

    def drop_owner(self) -> None:
        """Take out what the owner's sessions share, and the owner's name."""
        self.owner.drop()
        self.directory_gone.add(f"o:{self.key.owner}".encode())

    def numbers(self, count: int) -> int:
        """The first of some numbers that ascend with every call."""
        return self._database.next_numbers(count)

    def put_owner_constraints(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep the constraints that hold in every session of the owner."""
        self._name_owner()
        self.owner.put("constraints", list(rows))

    def put_key(self, id: str, row: dict[str, Any]) -> None:
        """Keep a key that the application hands out."""
        self._name_owner()
        self.owner.put(f"a:{id}", row)
        self.directory_sets[f"k:{id}".encode()] = self.key.owner.encode()

    def remove_keys(self, ids: Sequence[str]) -> None:
        """Take such keys out."""
        if ids:
            self.owner.remove([f"a:{id}" for id in ids])
            self.directory_gone.update(f"k:{id}".encode() for id in ids)

    def _sweep(self) -> None:
        """Take out the names of sessions that the server dropped at their end a good while ago."""
        if not self.owner.exists:
            return
        read = self._database.client.hgetall(self.owner.name)
        if read.get(REV) != self.owner.rev:
            raise Moved
        over = [
            name[2:].decode()
            for name, value in read.items()
            if name.startswith(b"d:") and int(value) < self._now_ms - _NAMED_MS
        ]
        self.owner.fill(read)
        self.owner.remove(f"{sort}:{name}" for name in over if name not in self.sessions for sort in "sd")

    def _name_owner(self) -> None:
        self.owner.marked = True
        self.directory_sets[f"o:{self.key.owner}".encode()] = b"1"
        if not self.owner.exists:
            self.owner.put("head", {"owner": self.key.owner})

    # What was read

    def _hashes(self) -> list[RedisHash]:
        return [self.owner, *(held.hash for held in self.sessions.values())]

    def _hash(self, name: bytes, read: dict[bytes, bytes | None], whole: bool, *place: str) -> RedisHash:
        seal = HashSeal(self._database.sealing, self.key.owner, *place)
        return RedisHash(name, read, whole=whole, fetch=self._fetch, seal=seal)

    def _fetch(self, hash: RedisHash, fields: Sequence[bytes]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for start in range(0, len(fields), _PART):
            rev, *values = self._database.client.hmget(hash.name, [REV, *fields[start : start + _PART]])
            if rev != hash.rev:
                raise Moved
            found += values
        return found

    def _before(self, key: SessionKey, hash: RedisHash, tombstone: bytes | None, *, lost: bool) -> dict[str, Any]:
        """What a session that is not there goes on from."""
        if hash.exists:
            return {}
        entry = self.owner.get(f"s:{key.session}")
        if entry is None:
            return {} if tombstone is None else dict(load_json(tombstone.decode()))
        (deadline,) = self.owner.raw([f"d:{key.session}"])
        if not lost and (deadline is None or self._now_ms < int(deadline)):
            raise self._lost(
                f"session {key.session!r} was evicted at version {entry['version']}",
                "session.forget() begins it anew",
            )
        return {**entry, "version": entry["version"] + 1, "vectors": True}

    def _check_whole(self, hash: RedisHash, count: int, what: str, *, lost: bool) -> None:
        (fields,) = hash.raw(["fields"]) if hash.exists else (b"0",)
        if count != int(fields or 0) and not lost:
            raise self._lost(f"{what} is missing", "restore the server's data, or forget what is damaged")

    def _lost(self, what: str, way_out: str) -> StoreLost:
        return StoreLost(
            self._database.url, what, f"{way_out}; set maxmemory-policy noeviction to keep what is written"
        )


class Known:
    """The last version that this process saw of each session: a server that restarts may have lost it."""

    def __init__(self, *, most: int = 50_000) -> None:
        self._most = most
        self._seen: OrderedDict[SessionKey, Seen] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: SessionKey) -> Seen | None:
        """What was seen last; None if nothing was."""
        with self._lock:
            return self._seen.get(key)

    def check(self, held: HeldSession, before: Seen | None) -> int:
        """Compare a session with what had been seen when it was read; gives how often some was found lost."""
        head = held.head
        if head is None:
            return 0
        if before is None:
            now = Seen(head["id"], head["version"], head["stamp"], 0)
        else:
            record = held.hash.get(f"v{before.version}") if before.stamp else None
            same = head["id"] != before.id or not before.stamp
            same = same or (record is not None and record["stamp"] == before.stamp)
            if same and head["id"] >= before.id:
                now = Seen(head["id"], head["version"], head["stamp"], before.rewound)
            else:
                _log.warning("Redis lost versions of a session that were acknowledged; it goes on from an earlier one")
                now = Seen(head["id"], head["version"], head["stamp"], before.rewound + 1)
        with self._lock:
            if self._seen.get(held.key) is before:
                self._seen[held.key] = now
                self._seen.move_to_end(held.key)
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)
        return now.rewound


class Seen:
    """A version of a session."""

    __slots__ = ("id", "rewound", "stamp", "version")

    def __init__(self, id: int, version: int, stamp: str, rewound: int) -> None:
        self.id = id
        self.version = version
        self.stamp = stamp
        self.rewound = rewound
