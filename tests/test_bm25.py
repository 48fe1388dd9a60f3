import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Plus

from langmem_plugin.memory import Memory
from langmem_plugin.recall.bm25 import DELTA, K1, B, bm25_plus
from langmem_plugin.recall.sources import KeywordStats, Postings
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.stores import check_keyword_scores


def index(documents: list[list[str]]) -> tuple[KeywordStats, dict[str, Postings]]:
    rows: dict[str, list[tuple[int, int, int]]] = {}
    for seq, document in enumerate(documents, start=1):
        for term in dict.fromkeys(document):
            rows.setdefault(term, []).append((seq, document.count(term), len(document)))
    postings = {
        term: Postings(
            np.array([seq for seq, _, _ in found], np.int64),
            np.array([count for _, count, _ in found], np.int32),
            np.array([length for _, _, length in found], np.int32),
        )
        for term, found in rows.items()
    }
    return KeywordStats(documents=len(documents), length=sum(map(len, documents))), postings


words = st.sampled_from(["apple", "bear", "cat", "dog", "eel", "fox"])
documents = st.lists(st.lists(words, max_size=12), min_size=1, max_size=15).filter(any)


@given(documents, st.lists(words, max_size=6))
def test_scores_equal_rank_bm25(docs, query):
    """Score and floor together are rank_bm25's BM25Plus for every document, to 1e-6."""
    stats, postings = index(docs)
    found = bm25_plus(query, stats, postings, size=len(docs) + 1)
    oracle = BM25Plus(docs, k1=K1, b=B, delta=DELTA).get_scores(query)
    assert found.scores[1:] + found.floor == pytest.approx(oracle, abs=1e-6)


@given(documents, st.lists(words, min_size=1, max_size=6, unique=True))
def test_no_score_exceeds_the_best_possible(docs, query):
    """Every score lies between 0 and what a perfect document would reach."""
    stats, postings = index(docs)
    found = bm25_plus(query, stats, postings, size=len(docs) + 1)
    assert (found.scores >= 0).all()
    assert found.scores.max() <= found.best + 1e-9


def test_an_empty_session_has_no_scores():
    """Nothing divides by nothing."""
    found = bm25_plus(["cat"], KeywordStats(0, 0), {}, size=1)
    assert found.scores.tolist() == [0.0]
    assert found.best == 0.0


def test_the_store_in_memory_scores_as_rank_bm25():
    """What the conformance suite asks of the stores that can be reopened holds for `sqlite://`, turn by turn."""
    texts = ["copper gate by the river", "a gate, a gate, a stone gate", "winter", "the lantern of the harbour"] * 3
    queries = ["copper lantern", "stone gate gate", "nothing of it"]
    with Memory.open("sqlite://") as memory:
        for number, text in enumerate(texts, start=1):
            memory.session("s", owner="ann").add(text)
            memory.session("s", owner="bob").add(text + " copper copper")
            memory.session("s", owner="ann").recall(queries[0])
            if number in (1, 5, len(texts)):
                check_keyword_scores(memory, SessionKey("ann", "s"), texts[:number], queries)
