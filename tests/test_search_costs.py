"""What search costs: the latency table, and vectors that are not made twice."""

import numpy as np

from langmem_plugin.evaluation import latency
from langmem_plugin.memory import Memory
from langmem_plugin.projections.embedded_lately import EmbeddedLately


class Counting:
    name = "counting"

    def __init__(self):
        self.seen = []

    def embed(self, texts):
        self.seen += texts
        rows = np.array([[text.lower().count(c) + 0.01 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_latency_is_told_with_and_without_other_peoples_data():
    """One row a length without others, one with them; processor time is part of the time that passed."""
    rows = latency.measure((30,), others=2, each=20, rounds=5)
    assert [(row.messages, row.others) for row in rows] == [(30, 0), (30, 40)]
    assert all(0 < row.cpu_p50_ms <= row.p50_ms + 1 and row.p50_ms <= row.p95_ms for row in rows)
    assert all(row.index_p50_ms > 0 for row in rows)
    assert latency.to_markdown(rows).count("\n") == 3


def test_what_an_owner_says_again_is_embedded_once():
    """The same words of one owner cost one embedding in any session; another owner's are embedded anew (G7)."""
    embedder = Counting()
    with Memory.open(embedder=embedder) as memory:
        memory.session("one", owner="ann").add("Good morning to you.", "Good morning to you.")
        assert memory.wait(20)
        memory.session("two", owner="ann").add("Good morning to you.")
        assert memory.wait(20)
        assert embedder.seen.count("Good morning to you.") == 1
        memory.session("one", owner="bob").add("Good morning to you.")
        assert memory.wait(20)
        assert embedder.seen.count("Good morning to you.") == 2
        memory.session("two", owner="ann").forget()
        memory.session("three", owner="ann").add("Good morning to you.")
        assert memory.wait(20)
        assert embedder.seen.count("Good morning to you.") == 3


def test_the_least_recently_used_vector_leaves():
    """No more than so many are kept, and a text without a vector is not kept at all."""
    lately, embedder = EmbeddedLately(most=2), Counting()
    for text in ("a", "b", "a", "c", "a", "b"):
        lately.rows("ann", "m", [text], embedder.embed)
    assert embedder.seen == ["a", "b", "c", "b"]
    for _ in range(2):
        assert lately.rows("ann", "m", ["none"], lambda _: [None]) == [None]
