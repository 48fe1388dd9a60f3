"""A session as it was at an earlier version: read-only, and the same bytes as then (guarantee G12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langmem_plugin.config import Budget
from langmem_plugin.context.assembly import assemble
from langmem_plugin.context.request import Context, Document, View
from langmem_plugin.engine import Engine, Said, as_message, most_hits
from langmem_plugin.messages import Role
from langmem_plugin.recall.sources import KeywordStats, Postings
from langmem_plugin.records import Constraint, Entry, Recalled, SessionKey, Summary
from langmem_plugin.store.protocol import Snapshot, Store


class PastSession:
    """What `Session.at` gives."""

    def __init__(self, engine: Engine, key: SessionKey, snapshot: Snapshot) -> None:
        self._engine = engine
        self._key = key
        self._snapshot = snapshot

    def __repr__(self) -> str:
        return f"PastSession(id={self._key.session!r}, owner={self._key.owner!r}, version={self.version})"

    @property
    def version(self) -> int:
        """The version."""
        return self._snapshot.head.version

    @property
    def summary(self) -> Summary | None:
        """The summary that stood for older messages then; None if there was none."""
        return self._snapshot.summary

    def constraints(self) -> tuple[Constraint, ...]:
        """Those that were in force, in creation order."""
        return self._snapshot.constraints

    def history(self, *, after: int = 0) -> list[Entry]:
        """The log as it ended then; what was forgotten since is a tombstone."""
        upto = self._snapshot.head.last_seq
        return self._engine.store.entries(self._key, after=after, upto=upto) if upto else []

    def context(
        self,
        query: Said | None = None,
        *,
        system: str = "",
        tools: Sequence[Mapping[str, Any]] = (),
        budget: Budget | None = None,
        documents: Sequence[Document] = (),
        recall_as: Literal["prefix", "pair"] = "prefix",
    ) -> Context:
        """The request that `Session.context` gave at that version for the same arguments.

        The same bytes if the configuration and the counter are the same, nothing it held was
        forgotten since, and the vectors that are there now were there then.
        """
        engine, snapshot = self._engine, self._snapshot
        message = None if query is None else as_message(query, Role.USER)
        recalled = Recalled()
        if message is not None and engine.config.recall.enabled:
            last = snapshot.head.last_seq
            recaller = engine.recaller.over(_Ended(engine.store, last), before=last + 1)
            recalled = recaller.recall(
                self._key,
                message.text,
                now=snapshot.moment or engine.clock(),
                k=most_hits(budget or engine.config.budget, engine.config),
            )
        return assemble(
            View(
                version=self.version,
                constraints=snapshot.constraints,
                summary=snapshot.summary,
                entries=tuple(engine.counted(entry) for entry in snapshot.entries),
            ),
            counter=engine.counter,
            config=engine.config,
            budget=budget or engine.config.budget,
            system=system,
            tools=tools,
            query=message,
            recalled=recalled,
            attachment=None,
            documents=documents,
            recall_as=recall_as,
        )


class _Ended:
    """A store whose sessions end at an entry, for recall."""

    def __init__(self, store: Store, last: int) -> None:
        self._store = store
        self._last = last

    def keyword_stats(self, key: SessionKey) -> KeywordStats:
        return self._store.keyword_stats_at(key, self._last)

    def postings(self, key: SessionKey, terms: Sequence[str]) -> dict[str, Postings]:
        found = {}
        for term, one in self._store.postings(key, terms).items():
            kept = one.seqs <= self._last
            if kept.any():
                found[term] = Postings(one.seqs[kept], one.counts[kept], one.lengths[kept])
        return found

    def entries_at(self, key: SessionKey, seqs: Sequence[int]) -> list[Entry]:
        return self._store.entries_at(key, [seq for seq in seqs if seq <= self._last])
