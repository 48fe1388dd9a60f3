"""Recall: which earlier messages help with this query, within milliseconds and without a model.

A keyword leg (BM25+ over postings) and, if an embedder answers in time, a vector leg
score every message of the session; a small linear model puts them, their neighbours and
the time on one scale; the best are read, and judged again by speaker and by whether
they answer a question. A cross-encoder, if there is one, judges the first of them once more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from langmem_plugin.config import RecallConfig
from langmem_plugin.models import Embedder, Reranker
from langmem_plugin.recall import need as need_model
from langmem_plugin.recall.axis import LONG, Axis
from langmem_plugin.recall.bm25 import Floats, Keywords, bm25_plus
from langmem_plugin.recall.duplicates import keep_distinct
from langmem_plugin.recall.features import Dense, dense, named_in, near, standardise
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.recall.meaning import QueryVectors, shorten
from langmem_plugin.recall.rank import first_scores, second_scores
from langmem_plugin.recall.reranking import Reranking, deal
from langmem_plugin.recall.sources import RecallStore, VectorSearch
from langmem_plugin.recall.terms import analyse, analyse_query, check_language
from langmem_plugin.recall.traits import Ints, TraitCache, Traits, micros
from langmem_plugin.recall.when import Span, find_span
from langmem_plugin.records import Entry, Hit, Recalled, SessionKey

MAX_TERMS: Final = 96
"""Of a longer query so many distinct terms are looked up."""
MAX_FILTERED: Final = 4_000
"""Of a session so many messages are looked at for one that a filter lets through."""
MAX_QUERY_CHARS: Final = 8_000
"""Of a longer query the beginning and the end are read."""
_ALONE: Final = 3**0.5
"""How long the sum of three vectors is that have nothing in common."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at a session saw; what the weights are fitted on, too."""

    seqs: Ints
    """The candidates."""
    features: Floats
    """One row a candidate, as `features.near` gives them."""
    dense: Dense
    keywords: Keywords
    cosines: dict[int, float]
    named: bool
    """Whether the query names somebody who speaks among the candidates."""
    note: str


class Recaller:
    """Finds earlier messages of a session for a query. Thread-safe; starts no thread until a query is embedded."""

    def __init__(
        self,
        store: RecallStore,
        config: RecallConfig,
        *,
        vectors: VectorSearch | None = None,
        embedder: Embedder | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        if config.language != "auto":
            check_language(config.language)
        self._store = store
        self._config = config
        self._vectors = vectors
        self._traits = TraitCache()
        self._before: int | None = None
        self._queries = QueryVectors(embedder) if embedder is not None and vectors is not None else None
        self._reranking = Reranking(reranker) if reranker is not None else None

    @property
    def by_meaning(self) -> bool:
        """Whether it looks for what means the same in other words, too."""
        return self._queries is not None

    def over(self, store: RecallStore, *, before: int) -> Recaller:
        """The same recall over a store whose log ended earlier: only vectors with a smaller `seq` are found."""
        other = copy(self)
        other._store = store  # noqa: SLF001 - its own kind
        other._traits = TraitCache()  # noqa: SLF001
        other._before = before  # noqa: SLF001
        return other

    def recall(
        self,
        key: SessionKey,
        query: str,
        *,
        before: int | None = None,
        now: datetime,
        k: int | None = None,
        only: RecallFilter | None = None,
        deadline_s: float | None = None,
        least_need: float = 0.0,
    ) -> Recalled:
        """The messages that help with a query, best first.

        Never raises for any query; without a query, or in a session without messages,
        nothing is found. A leg that fails or is late is left out and named in `note`.

        Args:
            key: The session; nothing of another one is ever read (G7).
            query: The user's message.
            before: Only entries with a smaller seq: what is not in the window.
            now: What "last week" counts from; aware.
            k: At most so many hits; the configuration's `candidates` by default.
            deadline_s: Seconds that embedding and reranking may take; the configuration's by default.
            only: Which messages may be found; of a long session the best few thousand are looked at.
            least_need: A query that asks less for the past gets its need alone, and no message is read.
        """
        limit = self._config.candidates if k is None else k
        if not self._config.enabled or limit <= 0:
            return Recalled()
        ends = time.monotonic() + (deadline_s or self._config.deadline_s)
        room = limit if self._reranking is None else max(limit, self._config.rerank)
        wanted = max(room, 20) * 5 // 4
        while True:
            seen = self.look(key, query, before=before, now=now, candidates=wanted, deadline_s=deadline_s, only=only)
            if seen is None:
                return Recalled()
            scores = second_scores(seen.features, meaning=seen.dense.meaning)
            need = need_model.need(need_features(query, seen, scores))
            legs = ("keyword", "vector") if seen.dense.meaning else ("keyword",)
            missing = ("vector",) if seen.note else ()
            if need < least_need:
                return Recalled(need=need, legs=legs, note=seen.note, missing=missing)
            order = np.lexsort((-seen.seqs, -scores))
            above = order[scores[order] >= self._config.threshold * (1.0 - need)].tolist()
            entries = {entry.seq: entry for entry in self._store.entries_at(key, seen.seqs[above].tolist())}
            ranked = [
                place for place in above if (seq := int(seen.seqs[place])) in entries and _fits(entries[seq], only)
            ]
            texts = [entries[int(seen.seqs[place])].message.text for place in ranked]
            kept = [ranked[place] for place in keep_distinct(texts)][:room]
            looked_at_all = len(order) < wanted or 2 * len(above) < len(order) or wanted >= MAX_FILTERED
            if only is None or len(kept) == room or looked_at_all:
                break
            wanted = min(4 * wanted, MAX_FILTERED)
        note = seen.note
        if self._reranking is not None and kept:
            late = self._reorder(
                self._reranking, query, seen, kept, scores, entries, deadline_s=ends - time.monotonic()
            )
            if late:
                note, missing = "; ".join(filter(None, (note, late))), (*missing, "reranker")
            else:
                legs = (*legs, "reranker")
        return Recalled(
            hits=_hits(seen, kept[:limit], scores, entries),
            need=need,
            legs=legs,
            note=note,
            missing=missing,
        )

    def _reorder(
        self,
        reranking: Reranking,
        query: str,
        seen: Looked,
        kept: list[int],
        scores: Floats,
        entries: Mapping[int, Entry],
        *,
        deadline_s: float,
    ) -> str:
        """Order the first of the kept places anew, and their scores, with what the cross-encoder says; or why not."""
        first = kept[: self._config.rerank]
        texts = [embedded_text(entries[int(seen.seqs[place])].message) for place in first]
        judged, late = reranking.judge(query, texts, deadline_s=deadline_s)
        if judged is None:
            return late
        order, dealt = deal(scores[first], judged, share=self._config.rerank_share)
        kept[: len(first)] = [first[place] for place in order]
        scores[kept[: len(first)]] = dealt
        return ""

    def look(
        self,
        key: SessionKey,
        query: str,
        *,
        before: int | None = None,
        now: datetime,
        candidates: int = 150,
        deadline_s: float | None = None,
        only: RecallFilter | None = None,
    ) -> Looked | None:
        """The best candidates for a query with all that is known of them; None if there is nothing to look at."""
        query = shorten(query, MAX_QUERY_CHARS).strip()
        if not query or (before is not None and before <= 1):
            return None
        stats = self._store.keyword_stats(key)
        if stats.documents <= 0:
            return None
        traits = partial(self._traits.of, key, stats.generation, read=partial(self._store.entries_at, key))
        names = _names(traits, stats.documents)
        terms = [term for term in analyse_query(query, language=self._config.language) if term not in names]
        postings = self._store.postings(key, terms[:MAX_TERMS])
        seqs, cosines, note = self._nearest(key, query, candidates=candidates, before=before, deadline_s=deadline_s)
        size = 1 + max(
            [stats.documents, *(int(found.seqs[-1]) for found in postings.values() if len(found.seqs))]
            + ([int(seqs.max())] if seqs is not None and len(seqs) else [])
        )
        keywords = bm25_plus(terms[:MAX_TERMS], stats, postings, size=size)
        end = size if before is None else min(size, before)
        span = find_span(query, now=now)
        if size <= LONG or span is not None or only is not None:
            axis = Axis.whole(size)
        else:
            found = seqs if seqs is not None else np.empty(0, np.int64)
            axis = Axis.around(keywords, found, before=end, count=2 * candidates)
        nearness = None
        if seqs is not None and cosines is not None:
            population = stats.documents if before is None else min(stats.documents, before - 1)
            nearness = standardise(axis.places(seqs), cosines, documents=population, size=len(axis.seqs))
        first = dense(axis.keywords(keywords), nearness, _within(traits, span, size) if span is not None else None)
        rough = first_scores(first)
        rough[0] = -np.inf
        rough[axis.first_from(end) :] = -np.inf
        if axis.open is not None:
            rough[~axis.open] = -np.inf
        if only is not None and only.since is not None:
            rough[: _first_at(traits, micros(only.since), size)] = -np.inf
        if only is not None and only.until is not None:
            rough[_first_at(traits, micros(only.until), size) :] = -np.inf
        places = _best(rough, candidates)
        if not len(places):
            return None
        best = axis.seqs[places]
        around = traits(np.concatenate([best, best - 1]))
        here, ahead = (Traits(rows, around.names) for rows in np.split(around.rows, 2))
        lengths = self._lengths(key, best, end) if first.meaning else None
        return Looked(
            seqs=best,
            features=near(
                first, places, here, ahead, query, lengths=lengths, end=axis.first_from(end), age=best / max(1, end - 1)
            ),
            dense=first,
            keywords=keywords,
            cosines={} if seqs is None or cosines is None else dict(zip(seqs.tolist(), cosines.tolist(), strict=True)),
            named=bool(named_in(query, around.speakers())),
            note=note,
        )

    def _nearest(
        self, key: SessionKey, query: str, *, candidates: int, before: int | None, deadline_s: float | None
    ) -> tuple[Ints | None, npt.NDArray[np.float32] | None, str]:
        """The vector leg: numbers and cosines, or None and why."""
        if self._queries is None or self._vectors is None:
            return None, None, ""
        vector, note = self._queries.embed(query, deadline_s=deadline_s or self._config.deadline_s)
        if vector is None:
            return None, None, note
        try:
            seqs, cosines = self._vectors.search(
                key, vector, k=max(400, 3 * candidates), before=self._before if before is None else before
            )
        except Exception as error:  # noqa: BLE001 - an index that fails costs its leg, never the turn (G10)
            return None, None, f"the vector search failed ({type(error).__name__}); recall is by keyword"
        if not len(seqs):
            return None, None, "no message has a vector yet; recall is by keyword"
        return seqs, cosines, ""

    def _lengths(self, key: SessionKey, seqs: Ints, end: int) -> Floats:
        """Of each message: the length of the sum of its vector and those of its two neighbours."""
        beside = seqs[:, None] + np.arange(-1, 2)
        wanted = np.unique(beside)
        wanted = wanted[(wanted > 0) & (wanted < min(end, self._before or end))]
        alone: Floats = np.full(len(seqs), _ALONE)
        if self._vectors is None:
            return alone
        try:
            known, vectors = self._vectors.rows(key, wanted.tolist())
        except Exception:  # noqa: BLE001 - as in the search: what fails costs its part, never the turn (G10)
            return alone
        if not known.size:
            return alone
        places = np.searchsorted(known, beside)
        there = np.take(np.append(known, -1), places) == beside
        padded = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), vectors.dtype)])
        parts = padded[np.where(there, places, len(known))]
        lengths: Floats = np.linalg.norm(parts.sum(axis=1), axis=1).astype(np.float64)
        return lengths

    def saw(self, key: SessionKey, entries: Sequence[Entry]) -> None:
        """Take in entries that were read for another purpose, so that no query need read them again."""
        self._traits.add(key, entries)

    def forget(self) -> None:
        """Drop what is held in memory: what something was forgotten of is read anew (guarantee G11)."""
        self._traits.forget()
        if self._queries is not None:
            self._queries.forget()
        if self._reranking is not None:
            self._reranking.forget()


class _TraitsOf(Protocol):
    def __call__(self, seqs: Ints) -> Traits: ...


def _names(traits: _TraitsOf, documents: int) -> frozenset[str]:
    """Terms of the speakers' names, from a sample of messages.

    They are no search terms: a name in a message is mostly the other speaker calling;
    whom the query names is judged from who speaks. The sample stays the same while the
    session doubles, and holds two neighbours wherever it looks.
    """
    stride = 1 << max(0, documents.bit_length() - 4)
    some = np.arange(1, documents + 1, stride)
    sample = np.concatenate([some, some[some < documents] + 1])
    return frozenset(term for name in traits(sample).speakers() for term in analyse(name))


def _within(traits: _TraitsOf, span: Span, size: int) -> Floats:
    """1 for messages written within a span of time; by seq."""
    out: Floats = np.zeros(size)
    out[_first_at(traits, micros(span.start), size) : _first_at(traits, micros(span.end), size)] = 1.0
    return out


def _first_at(traits: _TraitsOf, moment: int, size: int) -> int:
    """The first seq written at `moment` (microseconds) or later: a search in the log, whose times ascend."""
    low, high = 1, size
    while low < high:
        probes = np.unique(np.linspace(low, high - 1, num=min(16, high - low)).astype(np.int64))
        found = traits(probes)
        late = (found.rows["written"] >= moment) | ~found.exist
        place = int(np.argmax(late)) if late.any() else len(probes)
        low, high = (
            (int(probes[place - 1]) + 1 if place else low),
            (int(probes[place]) if place < len(probes) else high),
        )
    return low


def _fits(entry: Entry, only: RecallFilter | None) -> bool:
    return only is None or only.fits(entry)


def _hits(seen: Looked, places: Sequence[int], scores: Floats, entries: Mapping[int, Entry]) -> tuple[Hit, ...]:
    seqs = seen.seqs[np.asarray(places, dtype=np.int64)]
    matched: list[list[str]] = [[] for _ in places]
    for term, (holding, _) in seen.keywords.rows.items():
        at = np.minimum(np.searchsorted(holding, seqs), len(holding) - 1)
        for place in np.flatnonzero(holding[at] == seqs).tolist():
            matched[place].append(term)
    parts = seen.keywords.scores[seqs] / seen.keywords.best if seen.keywords.best > 0 else np.zeros(len(seqs))
    return tuple(
        _hit(entries[seq], float(scores[place]), min(1.0, float(part)), seen.cosines.get(seq), terms)
        for seq, place, part, terms in zip(seqs.tolist(), places, parts, matched, strict=True)
    )


def _hit(entry: Entry, score: float, keyword: float, cosine: float | None, matched: Sequence[str]) -> Hit:
    reasons = []
    if matched:
        reasons.append("matches " + ", ".join(matched[:8]))
    if cosine is not None:
        reasons.append(f"nearness {cosine:.2f}")
    if not matched:
        reasons.append("beside or like what matches")
    return Hit(
        entry=entry,
        score=score,
        keyword=keyword,
        vector=None if cosine is None else float(min(1.0, max(0.0, cosine))),
        why="; ".join(reasons),
    )


def need_features(query: str, seen: Looked, scores: Floats) -> dict[str, float]:
    """What the need of a query is judged by, for its candidates and their scores."""
    found = [weight for _, weight in seen.keywords.rows.values()]
    rare = sum(found) / len(found) / seen.keywords.absent_idf if found and seen.keywords.absent_idf else 0.0
    return need_model.features(query, named=seen.named, best=float(scores.max(initial=0.0)), rare=rare)


def _best(rough: Floats, count: int) -> Ints:
    """The `count` highest seqs of a score array, ascending; equal scores by newest."""
    if len(rough) > count:
        worst = np.partition(rough, -count)[-count]
        above, level = np.flatnonzero(rough > worst), np.flatnonzero(rough == worst)
        order = np.concatenate([above, level[len(level) - (count - len(above)) :]])
    else:
        order = np.arange(len(rough))
    return np.sort(order[np.isfinite(rough[order])]).astype(np.int64)
