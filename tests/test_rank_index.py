"""The keyword index that is rebuilt in memory, and sets of numbers as ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Plus

from langmem_plugin.recall.bm25 import DELTA, K1, B, bm25_plus
from langmem_plugin.recall.sources import KeywordStats
from langmem_plugin.store.ranges import count, joined, numbers, ranges_of, without
from langmem_plugin.store.rank_index import RankIndex, RankIndexes

words = st.sampled_from(["apple", "bear", "cat", "dog", "eel", "fox"])
documents = st.lists(st.lists(words, max_size=12), min_size=1, max_size=15).filter(any)
sets = st.sets(st.integers(1, 30))


@given(documents, st.lists(words, max_size=6), st.integers(0, 15))
def test_an_index_that_grew_scores_as_rank_bm25(docs, query, first):
    """Built at once or in two steps, its postings give BM25Plus's scores for every document."""
    index = RankIndex()
    index.extend(docs[:first])
    index.extend(docs[first:])
    stats = KeywordStats(documents=len(docs), length=sum(map(len, docs)))
    found = bm25_plus(query, stats, index.postings(query), size=len(docs) + 1)
    oracle = BM25Plus(docs, k1=K1, b=B, delta=DELTA).get_scores(query)
    assert found.scores[1:] + found.floor == pytest.approx(oracle, abs=1e-6)
    assert index.upto == len(docs)


def test_indexes_that_are_too_large_leave():
    """The one that was not asked for the longest time goes; another generation of a session replaces its own."""
    indexes = RankIndexes(max_bytes=1)
    for generation in ((1, 0), (2, 0)):
        indexes.get(generation).extend([["a", "b"]])
        indexes.grew(generation)
    assert indexes.get((2, 0)).upto == 1
    assert indexes.get((1, 0)).upto == 0
    assert indexes.get((2, 5)).upto == 0
    assert RankIndex().postings(["a"]) == {}


@given(sets, sets)
def test_ranges_are_sets(one, other):
    """Joining, taking out and counting agree with Python's sets, and ranges are never adjacent."""
    a, b = ranges_of(one), ranges_of(other)
    assert set(numbers(a)) == one
    assert joined(a, b) == ranges_of(one | other)
    assert without(a, b) == ranges_of(one - other)
    assert count(a) == len(one)
