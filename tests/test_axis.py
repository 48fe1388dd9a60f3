"""A long session is ranked around what was found, with the figures that the whole of it would give."""

import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.evaluation.overhead import said
from langmem_plugin.messages import assistant, user
from langmem_plugin.recall import recaller as module
from langmem_plugin.recall.axis import Axis
from langmem_plugin.recall.bm25 import Keywords
from langmem_plugin.recall.features import dense, standardise
from langmem_plugin.recall.rank import first_scores
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import Entry, SessionKey

KEY = SessionKey("ann", "s")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


@given(st.integers(0, 10_000), st.integers(2, 400), st.integers(1, 30), st.booleans())
def test_what_may_be_chosen_has_the_features_that_it_has_among_all(seed, size, count, meaning):
    """Whatever was found where, every place that may be chosen has the same features, and the same rough score."""
    chance = np.random.default_rng(seed)
    rows = {}
    scores = np.zeros(size)
    for term in range(3):
        seqs = np.flatnonzero(chance.random(size - 1) < 0.1) + 1
        rows[str(term)] = (seqs, float(term + 1))
        scores[seqs] += term + chance.random(len(seqs))
    keywords = Keywords(scores=scores, floor=0.0, best=9.0, rows=rows, absent=1, absent_idf=2.0)
    before = int(chance.integers(2, size + 1))
    found = np.flatnonzero(chance.random(before - 1) < 0.05) + 1 if meaning else np.empty(0, np.int64)
    cosines = chance.random(len(found)).astype(np.float32)
    axis = Axis.around(keywords, found, before=before, count=count)
    near, nearby = (
        standardise(at, cosines, documents=before - 1, size=places) if meaning else None
        for at, places in ((found, size), (axis.places(found), len(axis.seqs)))
    )
    whole, part = dense(keywords, near), dense(axis.keywords(keywords), nearby)
    places = np.flatnonzero(axis.open)
    seqs = axis.seqs[places]
    assert (part.rows(places) == whole.rows(seqs)).all()
    assert first_scores(part)[places] == pytest.approx(first_scores(whole)[seqs], abs=1e-12)
    best = np.argsort(-scores[:before])[:count]
    assert set(best[scores[best] > 0]) | set(found) <= set(seqs)


def test_a_long_session_gives_what_it_would_as_a_short_one(monkeypatch):
    """The best finds and their scores are those of looking at every message."""
    chance = random.Random(3)
    index = ListIndex()
    index.add(
        KEY,
        [
            Entry(seq=seq, turn=f"t{seq}", message=(user, assistant)[seq % 2](said(chance)), tokens=9, created_at=at)
            for seq in range(1, 3_001)
            for at in [NOW + timedelta(minutes=seq)]
        ],
    )
    same = most = 0
    for _ in range(20):
        query = said(chance) + "?"
        found = []
        for long in (10_000, 100):
            monkeypatch.setattr(module, "LONG", long)
            recaller = Recaller(index, RecallConfig(candidates=20))
            found.append(recaller.recall(KEY, query, before=2_900, now=NOW + timedelta(days=9)).hits)
        whole, part = ([hit.entry.seq for hit in hits[:10]] for hits in found)
        assert whole[:3] == part[:3]
        same, most = same + len(set(whole) & set(part)), most + len(set(whole) | set(part))
    assert most > 60
    assert same >= 0.95 * most
