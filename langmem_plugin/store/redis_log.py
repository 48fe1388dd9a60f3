"""Sessions, turns and the log in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import dump_json
from langmem_plugin.records import Entry, Head, SessionKey
from langmem_plugin.store.holder import HELD, this_process
from langmem_plugin.store.protocol import PendingTurn, Staged, TurnState, TurnWrite
from langmem_plugin.store.redis_constraints import Constraints
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_keys import list_keys
from langmem_plugin.store.redis_rows import attachment_json, entries_of, message_row, staged_of
from langmem_plugin.store.redis_transaction import HeldSession, Transaction
from langmem_plugin.store.rows import can_be_kept, from_micros, to_micros


class RedisLog:
    """What was said, turn by turn."""

    def __init__(self, database: RedisDatabase, *, writer: str = "") -> None:
        self._database = database
        self._writer = writer
        self._holder = this_process()

    def head(self, key: SessionKey) -> Head:
        """See `Store.head`."""
        return self._database.read(key, lambda transaction: transaction.session.as_head())

    def keys(self, *, owner: str | None = None) -> list[SessionKey]:
        """See `Store.keys`; sessions whose time is over are left out."""
        return list_keys(self._database, owner)

    # Turns

    def stage(self, key: SessionKey, turn_id: str, staged: Sequence[Staged], *, position: int, now: datetime) -> None:
        """See `Store.stage`."""
        rows = [message_row(one) for one in staged]

        def change(transaction: Transaction) -> None:
            hash = transaction.session.hash
            turn = hash.get(f"t:{turn_id}")
            if turn is not None and turn["state"] == "committed":
                raise TurnClosed(turn_id, turn["state"])
            held = {int(place): row for place, row in (turn or {}).get("staged", {}).items()}
            there = [row["body"] for place, row in sorted(held.items()) if place >= position]
            if rows and list(map(dump_json, there)) == [dump_json(row["body"]) for row in rows]:
                return
            if any(position + offset in held for offset in range(len(rows))):
                raise VersionConflict(expected=position, actual=position + 1)
            held |= {position + offset: row for offset, row in enumerate(rows)}
            head = transaction.begin_session(now)
            if head["ttl"] is not None:
                transaction.prolong(now)
            if turn_id not in head["pending"]:
                head["pending"].append(turn_id)
            begun = (turn or {}).get("started", to_micros(now))
            until = to_micros(now + HELD)
            turn = {"state": "pending", "started": begun, "holder": self._holder, "until": until, "staged": held}
            hash.put(f"t:{turn_id}", turn)
            _know(transaction.session, turn_id, rows)
            transaction.put_head()

        self._database.change(key, change, f"t:{turn_id}")

    def pending(self, key: SessionKey) -> list[PendingTurn]:
        """See `Store.pending`."""

        def read(transaction: Transaction) -> list[PendingTurn]:
            session = transaction.session
            names = [] if session.head is None else session.head["pending"]
            turns = zip(names, session.hash.many(f"t:{name}" for name in names), strict=True)
            return [
                PendingTurn(
                    turn_id=name,
                    staged=tuple(staged_of(turn["staged"][place]) for place in sorted(turn["staged"], key=int)),
                    started_at=from_micros(turn["started"]),
                    holder=turn["holder"],
                    held_until=from_micros(turn["until"]),
                )
                for name, turn in sorted(turns, key=lambda one: int(one[1]["started"]))
            ]

        return self._database.read(key, read)

    def turn_state(self, key: SessionKey, turn_id: str) -> TurnState | None:
        """See `Store.turn_state`."""

        def read(transaction: Transaction) -> TurnState | None:
            turn = transaction.session.hash.get(f"t:{turn_id}")
            return None if turn is None else turn["state"]

        return self._database.read(key, read, f"t:{turn_id}")

    def commit(self, key: SessionKey, turn_id: str, write: TurnWrite, *, now: datetime) -> Head:
        """See `Store.commit`."""
        rows = [message_row(one) for one in write.staged]

        def change(transaction: Transaction) -> Head:
            session = transaction.session
            turn = session.hash.get(f"t:{turn_id}")
            if turn is not None and turn["state"] == "committed":
                return session.as_head()
            if turn is None and write.begun:
                raise TurnClosed(turn_id, "forgotten")
            if write.expected_version is not None:
                _check_version(session, write.expected_version)
            head = transaction.begin_session(now)
            first, version = head["last_seq"] + 1, head["version"] + 1
            begun = (turn or {}).get("started", to_micros(now))
            ended = {"state": "committed", "started": begun, "ended": to_micros(now), "version": version}
            session.hash.put(f"t:{turn_id}", {**ended, "first": first})
            _forget_staged(session, turn_id, turn)
            head["pending"] = [one for one in head["pending"] if one != turn_id]
            for offset, row in enumerate(rows):
                kept = {**row, "turn": turn_id, "version": version}
                if write.attachment is not None and offset == write.attached_to:
                    kept["attachment"] = attachment_json(write.attachment)
                session.hash.put(f"m{first + offset}", kept)
            _know(session, turn_id, rows)
            for offset, counts in enumerate(write.terms):
                session.hash.put(f"k{first + offset}", dict(counts))
                head["terms"] += sum(counts.values())
            head["documents"] += len(write.terms)
            head["tokens"] += sum(row["tokens"] for row in rows)
            head["last_seq"] += len(rows)
            head["history_tokens"] = write.history_tokens or head["history_tokens"]
            changes = [("turn", turn_id, str(len(rows)))]
            changes += [("constraint", new.id, new.state.value) for new in write.constraints]
            changes += [("constraint", one.id, one.state.value) for one in write.ended]
            transaction.new_version(now, changes, self._writer, turn=turn_id, first=first)
            self._constrain(transaction, write, first, now)
            transaction.put_head()
            return session.as_head(first_seq=first if rows else 0)

        return self._database.change(key, change, f"t:{turn_id}", "constraints")

    def abort(self, key: SessionKey, turn_id: str, *, now: datetime) -> None:
        """See `Store.abort`."""

        def change(transaction: Transaction) -> None:
            session = transaction.session
            turn = session.hash.get(f"t:{turn_id}")
            if session.head is None or turn is None or turn["state"] != "pending":
                return
            _forget_staged(session, turn_id, turn)
            session.head["pending"].remove(turn_id)
            aborted = {"state": "aborted", "started": turn["started"], "ended": to_micros(now)}
            session.hash.put(f"t:{turn_id}", aborted)
            transaction.put_head()

        self._database.change(key, change, f"t:{turn_id}")

    # The log

    def entries(
        self, key: SessionKey, *, after: int = 0, upto: int | None = None, limit: int | None = None
    ) -> list[Entry]:
        """See `Store.entries`."""

        def read(transaction: Transaction) -> list[Entry]:
            session = transaction.session
            last = 0 if session.head is None else session.head["last_seq"]
            end = min(last, last if upto is None else upto, last if limit is None else max(0, after) + limit)
            return entries_of(session.rows(range(max(0, after) + 1, end + 1)))

        return self._database.read(key, read)

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        """See `Store.entries_at`."""
        wanted = sorted({int(seq) for seq in seqs})
        return self._database.read(key, lambda transaction: entries_of(transaction.session.rows(wanted)))

    def find(self, key: SessionKey, message_ids: Iterable[str]) -> dict[str, str]:
        """See `Store.find`."""
        wanted = [one for one in dict.fromkeys(message_ids) if can_be_kept(one)]

        def read(transaction: Transaction) -> dict[str, str]:
            held = transaction.session.hash.many(f"i:{one}" for one in wanted)
            return {one: turns[-1] for one, turns in zip(wanted, held, strict=True) if turns}

        return self._database.read(key, read)

    def seqs_of(self, key: SessionKey, message: str | int, *, whole_turn: bool = False) -> list[int]:
        """See `Store.seqs_of`."""

        def read(transaction: Transaction) -> list[int]:
            session = transaction.session
            if session.head is None:
                return []
            if isinstance(message, int):
                found = session.rows([message])
                turns = [found[0][1]["turn"]] if found else []
            else:
                turns = (session.hash.get(f"i:{message}") if can_be_kept(message) else None) or []
            seqs = []
            for turn in session.hash.many(f"t:{name}" for name in turns):
                if turn is None or turn["state"] != "committed":
                    continue
                for seq, row in session.rows(range(turn["first"], session.head["last_seq"] + 1)):
                    if row["version"] != turn["version"]:
                        break
                    if whole_turn or message in (seq, row["id"]):
                        seqs.append(seq)
            return sorted(seqs)

        return self._database.read(key, read)

    def _constrain(self, transaction: Transaction, write: TurnWrite, first: int, now: datetime) -> None:
        if not write.constraints and not write.ended:
            return
        held = Constraints(transaction)
        for new in write.constraints:
            said_at = write.staged[new.position].created_at
            held.add(new.said(seq=first + new.position, at=said_at, version=0), now)
        for ended in write.ended:
            one = held.find(ended.id)
            if one is not None and one.constraint.state == "active" and not one.constraint.pinned:
                held.end(one, ended.state, now, by=ended.superseded_by)
        held.put()


def _check_version(session: HeldSession, expected: int) -> None:
    """Refuse if anybody but the summary's projection changed the session since."""
    version = session.begins_at if session.head is None else session.head["version"]
    records = session.hash.many(f"v{number}" for number in range(max(0, expected) + 1, version + 1))
    behind = sum(1 for one in records if one is not None and one["changes"][0][0] == "summary")
    if version != expected + behind:
        raise VersionConflict(expected=expected, actual=version)


def _know(session: HeldSession, turn_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note which turn has these messages."""
    ids = list(dict.fromkeys(row["id"] for row in rows if row["id"] is not None))
    for id, turns in zip(ids, session.hash.many(f"i:{id}" for id in ids), strict=True):
        session.hash.put(f"i:{id}", [*(one for one in turns or () if one != turn_id), turn_id])


def _forget_staged(session: HeldSession, turn_id: str, turn: Mapping[str, Any] | None) -> None:
    staged = (turn or {}).get("staged", {}).values()
    ids = list(dict.fromkeys(row["id"] for row in staged if row["id"] is not None))
    for id, turns in zip(ids, session.hash.many(f"i:{id}" for id in ids), strict=True):
        left = [one for one in turns or () if one != turn_id]
        if left:
            session.hash.put(f"i:{id}", left)
        else:
            session.hash.remove([f"i:{id}"])
