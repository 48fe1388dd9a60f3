"""Which turns recall finds, apart from any budget: ours beside the usual baselines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from rank_bm25 import BM25Okapi

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.fit import index_of, key_of
from langmem_plugin.evaluation.loaders import Conversation, Question
from langmem_plugin.evaluation.metrics import Row, Tally
from langmem_plugin.models import Embedder, Reranker
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.recall.terms import analyse, analyse_query

KS: Final = (1, 5, 10, 20)
_RRF: Final = 60
Ranking: TypeAlias = Callable[[str, datetime], Sequence[int]]
"""Question and moment -> places of turns, best first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One question that has evidence."""

    conversation: Conversation
    question: Question
    evidence: frozenset[str]
    now: datetime


def asked(conversations: Sequence[Conversation], *, skip: frozenset[str] = frozenset({"5"})) -> Iterator[Asked]:
    """The questions with evidence, without the categories to skip (LoCoMo's 5 has no answer)."""
    for conversation in conversations:
        known = {turn.id for turn in conversation.turns}
        for question in conversation.questions:
            evidence = frozenset(question.evidence) & known
            if evidence and question.category not in skip:
                yield Asked(conversation, question, evidence, question.asked_at or conversation.turns[-1].created_at)


def turn_level(
    conversations: Sequence[Conversation],
    *,
    embedder: Embedder | None = None,
    reranker: Reranker | None = None,
    ks: Sequence[int] = KS,
    progress: Callable[[str], None] | None = None,
) -> list[Row]:
    """any, all and share of the evidence in the first k turns and sittings, by method.

    Args:
        conversations: With questions whose evidence is known.
        embedder: For the methods that use vectors; without one they are left out.
        reranker: For one more row of ours, by what recall does with one by default.
        ks: How many turns (and sittings) count as found.
        progress: Told each method before it runs.
    """
    questions = list(asked(conversations))
    rows = []
    for name, rankings in _methods(conversations, embedder, reranker):
        if progress:
            progress(name)
        tally, spent = Tally(), []
        for one in questions:
            started = time.perf_counter()
            places = list(rankings[one.conversation.id](one.question.text, one.now))
            spent.append(1000 * (time.perf_counter() - started))
            _count(tally, one, places, ks)
        figures = tally.means()
        figures["ms p50"], figures["ms p95"] = (
            (float(np.percentile(spent, p)) for p in (50, 95)) if spent else (0.0, 0.0)
        )
        rows.append(Row(method=name, figures=figures))
    return rows


def _count(tally: Tally, one: Asked, places: Sequence[int], ks: Sequence[int]) -> None:
    turns = one.conversation.turns
    sitting = {turn.id: turn.session for turn in turns}
    sittings = list(dict.fromkeys(turns[place].session for place in places))
    for k in ks:
        got = {turns[place].id for place in places[:k]}
        tally.found(f"@{k}", one.evidence, got, category=one.question.category if k == 10 else "")
    for k in ks:
        tally.found(f" session@{k}", {sitting[turn] for turn in one.evidence}, set(sittings[:k]))


def _methods(
    conversations: Sequence[Conversation], embedder: Embedder | None, reranker: Reranker | None
) -> Iterator[tuple[str, dict[str, Ranking]]]:
    found: dict[str, dict[str, Ranking]] = {}
    for conversation in conversations:
        for name, ranking in rankings_of(conversation, embedder):
            found.setdefault(name, {})[conversation.id] = ranking
    yield from found.items()
    yield "langmem-plugin, keyword only", _ours(conversations, None)
    if embedder is not None:
        yield "langmem-plugin", _ours(conversations, embedder)
    if reranker is not None:
        yield "langmem-plugin, reranked", _ours(conversations, embedder, reranker)


def rankings_of(conversation: Conversation, embedder: Embedder | None) -> Iterator[tuple[str, Ranking]]:
    """The usual ways to rank one conversation's turns, ours not among them."""
    yield "newest first", _newest(conversation)
    yield "rank_bm25 Okapi, lower-cased words", _okapi(conversation, str.split)
    yield "rank_bm25 Okapi, our terms", _okapi(conversation, analyse)
    if embedder is not None:
        yield "dense only", _dense(conversation, embedder)
        yield "reciprocal rank fusion of the last two", _fused(conversation, embedder)
        if find_spec("langchain_classic") is not None:
            from langmem_plugin.evaluation.rival_memory import ensemble

            yield "LangChain EnsembleRetriever", ensemble(conversation, embedder)


def _newest(conversation: Conversation) -> Ranking:
    return lambda _text, _now: range(len(conversation.turns) - 1, -1, -1)


def _okapi(conversation: Conversation, words: Callable[[str], list[str]]) -> Ranking:
    documents = [
        words(turn.message.text.lower() if words is str.split else turn.message.text) for turn in conversation.turns
    ]
    scorer = BM25Okapi([document or [""] for document in documents])
    asks = (lambda text: text.lower().split()) if words is str.split else analyse_query
    return lambda text, _now: _best_first(scorer.get_scores(asks(text)))


def _dense(conversation: Conversation, embedder: Embedder) -> Ranking:
    vectors = embedder.embed([embedded_text(turn.message) for turn in conversation.turns])
    return lambda text, _now: _best_first(vectors @ embedder.embed([text])[0])


def _fused(conversation: Conversation, embedder: Embedder) -> Ranking:
    legs = (_okapi(conversation, analyse), _dense(conversation, embedder))

    def ranking(text: str, now: datetime) -> list[int]:
        scores = np.zeros(len(conversation.turns))
        for leg in legs:
            for rank, place in enumerate(leg(text, now), start=1):
                scores[place] += 1 / (_RRF + rank)
        return _best_first(scores)

    return ranking


def _ours(
    conversations: Sequence[Conversation], embedder: Embedder | None, reranker: Reranker | None = None
) -> dict[str, Ranking]:
    index = index_of(conversations, embedder.embed if embedder else None)
    recaller = Recaller(
        index,
        RecallConfig(deadline_s=60.0, threshold=0.0),
        vectors=index if embedder else None,
        embedder=embedder,
        reranker=reranker,
    )

    def ranking(conversation: Conversation) -> Ranking:
        key = key_of(conversation)
        return lambda text, now: [hit.entry.seq - 1 for hit in recaller.recall(key, text, now=now).hits]

    return {conversation.id: ranking(conversation) for conversation in conversations}


def _best_first(scores: npt.NDArray[np.floating]) -> list[int]:
    found: list[int] = np.argsort(-scores, kind="stable").tolist()
    return found
