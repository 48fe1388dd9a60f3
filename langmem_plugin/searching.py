"""Search in all sessions of an owner."""

from __future__ import annotations

from langmem_plugin.engine import Engine, check_name
from langmem_plugin.reader import Reader
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.recall.meaning import shorten
from langmem_plugin.recall.recaller import MAX_QUERY_CHARS, MAX_TERMS
from langmem_plugin.recall.terms import analyse_query
from langmem_plugin.recall.when import find_span
from langmem_plugin.records import Hit, SessionKey


def search(
    engine: Engine, query: str, *, owner: str, k: int, only: RecallFilter | None = None
) -> list[tuple[str, Hit]]:
    """See `Memory.recall`."""
    check_name("owner", owner)
    found = [
        (key.session, hit)
        for key in _where(engine, query, owner)
        for hit in Reader(engine, key).search(query, k=k, only=only).hits[:k]
    ]
    return sorted(found, key=lambda one: -(one[1].score + one[1].keyword + (one[1].vector or 0.0)))[:k]


def _where(engine: Engine, query: str, owner: str) -> list[SessionKey]:
    """The sessions that may hold what is asked for: those with one of its words, if words are all there is to go by."""
    short = shorten(query, MAX_QUERY_CHARS)
    if engine.recaller.by_meaning or find_span(short, now=engine.clock()) is not None:
        return engine.store.keys(owner=owner)
    terms = analyse_query(short, language=engine.config.recall.language)[:MAX_TERMS]
    return engine.store.holding(owner=owner, terms=terms) if terms else []
