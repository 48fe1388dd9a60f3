"""What providers reported, read back from a Redis store's sessions, and what was learned of their counting."""

from __future__ import annotations

import json
from datetime import datetime

from langmem_plugin.records import SessionKey
from langmem_plugin.store.redis_database import RedisDatabase
from langmem_plugin.store.redis_log import RedisLog
from langmem_plugin.store.spending import Learned, Reported, model_of

_LEARNED = "correction:"


class RedisSpending:
    """Usage stands in the messages; corrections have a field each beside the owners."""

    _database: RedisDatabase

    def learned(self, counter: str) -> list[Learned]:
        """See `SpendStore.learned`."""
        database = self._database
        found = database.patiently(lambda: database.client.hgetall(database.directory))
        rows = [json.loads(value) for name, value in found.items() if name.decode().startswith(_LEARNED)]
        return [
            Learned(model=row["model"], ratio=row["ratio"], extra=row["extra"])
            for row in rows
            if row["counter"] == counter
        ]

    def save_learned(self, counter: str, learned: Learned) -> None:
        """See `SpendStore.save_learned`; of two processes that learn at one moment, the later one's stands."""
        database = self._database
        if any(
            one.model == learned.model and one.ratio >= learned.ratio and one.extra >= learned.extra
            for one in self.learned(counter)
        ):
            return
        name = f"{_LEARNED}{counter}:{learned.model}"
        value = json.dumps({"counter": counter, "model": learned.model, "ratio": learned.ratio, "extra": learned.extra})
        database.patiently(lambda: database.client.hset(database.directory, name, value))


def reported_in(log: RedisLog, keys: list[SessionKey], *, since: datetime | None) -> list[Reported]:
    """The usage that the messages of these sessions carry, oldest first."""
    found: list[Reported] = []
    for key in keys:
        said = [(entry.created_at, entry.message) for entry in log.entries(key)]
        said += [(one.created_at, one.message) for turn in log.pending(key) for one in turn.staged]
        found += [
            Reported(session=key.session, at=at, model=model_of(message), usage=message.usage)
            for at, message in said
            if message.usage is not None and (since is None or at > since)
        ]
    return sorted(found, key=lambda one: one.at)
