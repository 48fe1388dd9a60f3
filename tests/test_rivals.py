"""Requests that other ways fill, beside ours: within the budget, and only as good as their search."""

import gc
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from langmem_plugin.evaluation.loaders import Conversation, Question, Turn
from langmem_plugin.evaluation.rivals import rivals_level
from langmem_plugin.messages import assistant, user
from langmem_plugin.tokens import TokenCounter

# LlamaIndex's Memory leaves its SQLite connection to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
FACTS = {10: "My passport lies in the blue drawer.", 30: "The cat is called Pumpernickel."}


class Letters:
    name = "letters"

    def embed(self, texts):
        rows = np.array([[text.lower().count(c) + 0.01 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def rows():
    turns = []
    for place in range(60):
        text = FACTS.get(place, f"Small talk number {place} about nothing in particular, really.")
        message = user(text) if place % 2 == 0 else assistant(text)
        turns.append(
            Turn(id=f"t{place}", message=message, created_at=NOW + timedelta(minutes=place), session=str(place // 20))
        )
    questions = (
        Question(text="Where does my passport lie?", evidence=("t10",), category="1"),
        Question(text="What is the cat called?", evidence=("t30",), category="1"),
    )
    talk = Conversation(id="c", turns=tuple(turns), questions=questions)
    found = {
        row.method: row.figures
        for row in rivals_level([talk], embedder=Letters(), budgets=(300,), counter=TokenCounter.for_model("gpt-4o"))
    }
    gc.collect()
    return found


def test_every_search_fills_its_budget_and_never_more(rows):
    """What a search fills is under the budget by less than a line, counted like our own requests."""
    for method, figures in rows.items():
        assert figures["over budget"] == 0, method
        if "LlamaIndex" not in method:
            assert 260 < figures["tokens"] <= 300, method


def test_a_window_has_no_old_fact_and_a_keyword_search_has_both(rows):
    """Newest first finds nothing that is far behind; rank_bm25 finds what shares the question's words."""
    assert rows["newest first, 300 tokens"]["frac"] == 0.0
    assert rows["rank_bm25 Okapi, our terms, 300 tokens"]["frac"] == 1.0


def test_the_frameworks_own_parts_are_asked(rows):
    """LangChain's ensemble retriever and LlamaIndex's memory with a vector block stand in the table."""
    assert rows["LangChain EnsembleRetriever, 300 tokens"]["frac"] >= 0.5
    assert rows["LlamaIndex Memory, vector block, 300 tokens"]["tokens"] > 100
