"""Recall: which earlier messages help with this query, within milliseconds and without a model.

A keyword leg (BM25+ over postings) and, if an embedder answers in time, a vector leg
score every message of the session; a small linear model puts them, their neighbours and
the time on one scale; the best are read, and judged again by speaker and by whether
they answer a question.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.config import RecallConfig
from langmem_plugin.models import Embedder
from langmem_plugin.recall import need as need_model
from langmem_plugin.recall.bm25 import Floats, Keywords, bm25_plus
from langmem_plugin.recall.duplicates import keep_distinct
from langmem_plugin.recall.features import Dense, Ints, dense, near, speaker, standardise
from langmem_plugin.recall.meaning import QueryVectors, shorten
from langmem_plugin.recall.rank import first_scores, second_scores
from langmem_plugin.recall.sources import KeywordStats, RecallStore, VectorSearch
from langmem_plugin.recall.terms import analyse, analyse_query, check_language
from langmem_plugin.recall.when import Span, find_span
from langmem_plugin.records import Entry, Hit, Recalled, SessionKey

MAX_TERMS: Final = 96
"""Of a longer query so many distinct terms are looked up."""
MAX_QUERY_CHARS: Final = 8_000
"""Of a longer query the beginning and the end are read."""
_SAMPLE: Final = 12


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
    entries: dict[int, Entry]
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
    ) -> None:
        if config.language != "auto":
            check_language(config.language)
        self._store = store
        self._config = config
        self._vectors = vectors
        self._queries = QueryVectors(embedder) if embedder is not None and vectors is not None else None

    def forget(self) -> None:
        """Let go of queries that were embedded (guarantee G11)."""
        if self._queries is not None:
            self._queries.forget()

    def recall(
        self,
        key: SessionKey,
        query: str,
        *,
        before: int | None = None,
        now: datetime,
        k: int | None = None,
        deadline_s: float | None = None,
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
            deadline_s: Seconds the embedding may take; the configuration's by default.
        """
        limit = self._config.candidates if k is None else k
        if not self._config.enabled or limit <= 0:
            return Recalled()
        seen = self.look(key, query, before=before, now=now, candidates=max(limit, 20) * 5 // 4, deadline_s=deadline_s)
        if seen is None:
            return Recalled()
        scores = second_scores(seen.features, meaning=seen.dense.meaning)
        need = need_model.need(need_features(query, seen, scores))
        order = np.lexsort((-seen.seqs, -scores))
        floor = self._config.threshold * (1.0 - need)
        ranked = [int(place) for place in order if scores[place] >= floor and int(seen.seqs[place]) in seen.entries]
        texts = [seen.entries[int(seen.seqs[place])].message.text for place in ranked]
        kept = [ranked[place] for place in keep_distinct(texts)][:limit]
        return Recalled(
            hits=tuple(self._hit(seen, place, float(scores[place])) for place in kept),
            need=need,
            legs=("keyword", "vector") if seen.dense.meaning else ("keyword",),
            note=seen.note,
        )

    def look(
        self,
        key: SessionKey,
        query: str,
        *,
        before: int | None = None,
        now: datetime,
        candidates: int = 150,
        deadline_s: float | None = None,
    ) -> Looked | None:
        """The best candidates for a query with all that is known of them; None if there is nothing to look at."""
        query = shorten(query, MAX_QUERY_CHARS).strip()
        if not query or (before is not None and before <= 1):
            return None
        stats = self._store.keyword_stats(key)
        if stats.documents <= 0:
            return None
        names = self._names(key, stats)
        terms = [term for term in analyse_query(query, language=self._config.language) if term not in names]
        postings = self._store.postings(key, terms[:MAX_TERMS])
        seqs, cosines, note = self._nearest(key, query, candidates=candidates, before=before, deadline_s=deadline_s)
        size = 1 + max(
            [stats.documents, *(int(found.seqs[-1]) for found in postings.values() if len(found.seqs))]
            + ([int(seqs.max())] if seqs is not None and len(seqs) else [])
        )
        keywords = bm25_plus(terms[:MAX_TERMS], stats, postings, size=size)
        nearness = None
        if seqs is not None and cosines is not None:
            population = stats.documents if before is None else min(stats.documents, before - 1)
            nearness = standardise(seqs, cosines, documents=population, size=size)
        span = find_span(query, now=now)
        first = dense(keywords, nearness, self._within(key, span, size) if span is not None else None)
        rough = first_scores(first)
        rough[0] = -np.inf
        if before is not None:
            rough[before:] = -np.inf
        best = _best(rough, candidates)
        wanted = sorted({seq for one in best.tolist() for seq in (one - 1, one) if seq > 0})
        entries = {entry.seq: entry for entry in self._store.entries_at(key, wanted)}
        return Looked(
            seqs=best,
            features=near(first, best, entries, query),
            dense=first,
            keywords=keywords,
            cosines={} if seqs is None or cosines is None else dict(zip(seqs.tolist(), cosines.tolist(), strict=True)),
            entries=entries,
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
            seqs, cosines = self._vectors.search(key, vector, k=max(400, 3 * candidates), before=before)
        except Exception as error:  # noqa: BLE001 - an index that fails costs its leg, never the turn (G10)
            return None, None, f"the vector search failed ({type(error).__name__}); recall is by keyword"
        if not len(seqs):
            return None, None, "no message has a vector yet; recall is by keyword"
        return seqs, cosines, ""

    def _names(self, key: SessionKey, stats: KeywordStats) -> frozenset[str]:
        """Terms of the speakers' names, from a sample of messages.

        They are no search terms: a name in a message is mostly the other speaker calling;
        whom the query names is judged from who speaks.
        """
        spread = np.linspace(1, stats.documents, num=min(_SAMPLE, stats.documents))
        sample = self._store.entries_at(key, sorted({round(seq) for seq in spread.tolist()}))
        return frozenset(term for entry in sample for term in analyse(speaker(entry.message)))

    def _within(self, key: SessionKey, span: Span, size: int) -> Floats:
        """1 for messages written within a span of time, fading over the two days after it; by seq."""
        out: Floats = np.zeros(size)
        first = self._first_at(key, span.start, size)
        last = self._first_at(key, span.end, size)
        out[first:last] = 1.0
        return out

    def _first_at(self, key: SessionKey, moment: datetime, size: int) -> int:
        """The first seq written at `moment` or later: a search in the log, whose times ascend."""
        low, high = 1, size
        while low < high:
            step = max(1, (high - low) // 16)
            probes = list(range(low, high, step))[:17]
            found = self._store.entries_at(key, probes)
            earlier = [entry.seq for entry in found if entry.created_at < moment]
            later = [entry.seq for entry in found if entry.created_at >= moment]
            if not found:
                return high
            low = max(earlier) + 1 if earlier else low
            high = min(later) if later else high
            if step == 1:
                return low if earlier else min(later, default=low)
        return low

    @staticmethod
    def _hit(seen: Looked, place: int, score: float) -> Hit:
        seq = int(seen.seqs[place])
        cosine = seen.cosines.get(seq)
        matched = [term for term, (seqs, _) in seen.keywords.rows.items() if _holds(seqs, seq)]
        reasons = []
        if matched:
            reasons.append("matches " + ", ".join(matched[:8]))
        if cosine is not None:
            reasons.append(f"nearness {cosine:.2f}")
        if not matched:
            reasons.append("beside or like what matches")
        return Hit(
            entry=seen.entries[seq],
            score=score,
            keyword=min(1.0, float(seen.keywords.scores[seq]) / seen.keywords.best) if seen.keywords.best > 0 else 0.0,
            vector=None if cosine is None else float(min(1.0, max(0.0, cosine))),
            why="; ".join(reasons),
        )


def need_features(query: str, seen: Looked, scores: Floats) -> dict[str, float]:
    """What the need of a query is judged by, for its candidates and their scores."""
    found = [weight for _, weight in seen.keywords.rows.values()]
    rare = sum(found) / len(found) / seen.keywords.absent_idf if found and seen.keywords.absent_idf else 0.0
    return need_model.features(query, best=float(scores.max(initial=0.0)), rare=rare)


def _best(rough: Floats, count: int) -> Ints:
    """The `count` highest seqs of a score array, ascending; equal scores by newest."""
    if len(rough) > count:
        worst = np.partition(rough, -count)[-count]
        above, level = np.flatnonzero(rough > worst), np.flatnonzero(rough == worst)
        order = np.concatenate([above, level[len(level) - (count - len(above)) :]])
    else:
        order = np.arange(len(rough))
    return np.sort(order[np.isfinite(rough[order])]).astype(np.int64)


def _holds(seqs: Ints, seq: int) -> bool:
    at = int(np.searchsorted(seqs, seq))
    return at < len(seqs) and int(seqs[at]) == seq
