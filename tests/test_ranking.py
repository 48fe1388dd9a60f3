"""The ranker: its net, what it is trained with, and the features that need neighbours."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.evaluation.train_net import train_net
from langmem_plugin.messages import Message, Role, Text, user
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.recall.features import DENSE, NEAR
from langmem_plugin.recall.net import Net
from langmem_plugin.recall.rank import net_of
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import Entry, SessionKey
from langmem_plugin.testing.vector_table import MemoryVectorTable

KEY = SessionKey("ann", "s")
NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Letters:
    name = "letters"

    def embed(self, texts):
        rows = np.array([[text.lower().count(c) + 0.01 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def filled(texts):
    index = ListIndex()
    entries = [
        Entry(seq=seq, turn=f"t{seq}", message=message, tokens=9, created_at=NOW + timedelta(minutes=seq))
        for seq, message in enumerate(texts, start=1)
    ]
    index.add(KEY, entries)
    index.set_vectors(KEY, np.arange(1, len(texts) + 1), Letters().embed([message.text for message in texts]))
    return index


def test_a_net_is_read_as_it_was_written():
    """Written and read again, a net gives the same figures but for rounding; features without a line count nothing."""
    draw = np.random.default_rng(0)
    net = Net(draw.normal(size=(3, 4)), draw.normal(size=4), draw.normal(size=4), 0.25)
    rows = draw.normal(size=(6, 3))
    assert np.allclose(
        Net.read(net.written(["a", "b", "c"]), ["a", "b", "c"]).logits(rows), net.logits(rows), atol=0.01
    )
    fewer = Net.read(net.written(["a", "b", "c"]), ["a", "none", "c"])
    assert not fewer.inner[1].any()


@pytest.mark.parametrize("legs", ["both", "keyword"])
def test_the_shipped_nets_know_every_feature_that_they_may_use(legs):
    """Each has a line for every feature, but those that need vectors where there are none."""
    net = net_of(legs)
    unused = {name for name, row in zip(DENSE + NEAR, net.inner, strict=True) if not row.any()}
    with_vectors = {name for name in DENSE + NEAR if "meaning" in name or name == "window"}
    assert unused == (set() if legs == "both" else with_vectors)


def test_training_finds_what_tells_right_from_wrong():
    """A net ranks unseen lists by the one column that mattered, and is the same for the same lists."""
    draw = np.random.default_rng(1)

    def lists(count):
        made = [draw.normal(size=(20, 5)) for _ in range(count)]
        return [rows[np.argsort(-rows[:, 2])] for rows in made]

    net = train_net(lists(60), [2] * 60)
    assert np.mean([np.argmax(net.logits(rows)) < 2 for rows in lists(40)]) > 0.8
    same = [np.arange(8.0).reshape(4, 2), np.ones((3, 2))]
    assert np.array_equal(train_net(same, [1, 1]).inner, train_net(same, [1, 1]).inner)


def test_vectors_are_given_by_number():
    """A vector index gives stored vectors by number, held in memory or not, and leaves out what has none."""
    table = MemoryVectorTable()
    vectors = Letters().embed(["one", "two", "three", "four"])
    for _ in vectors:
        table.commit(KEY, user("x"))
    table.save_vectors(KEY, "m", [1, 2, 4], vectors[[0, 1, 3]])
    index = VectorIndex(table, "m")
    for _ in range(2):
        seqs, rows = index.rows(KEY, [1, 3, 4, 9])
        assert seqs.tolist() == [1, 4]
        assert np.allclose(rows, vectors[[0, 3]])
        index.search(KEY, vectors[0], k=2)
    index.close()


def test_vectors_that_cannot_be_read_again_cost_their_feature_alone():
    """Where the neighbours' vectors fail, both legs answer all the same (G10)."""
    index = filled([user(f"note number {n} about plums") for n in range(9)])

    class Broken:
        search = index.search

        def rows(self, key, seqs):
            raise OSError("gone")

    found = Recaller(index, RecallConfig(deadline_s=30), vectors=Broken(), embedder=Letters()).recall(
        KEY, "what was note 3 about?", now=NOW
    )
    assert found.legs == ("keyword", "vector")
    assert found.hits


def test_a_question_about_a_speaker_asks_for_the_past():
    """A question that names who speaks here needs the past more than one that names nobody."""
    said = [
        Message(role=role, name=name, blocks=(Text(text),))
        for role, name, text in (
            (Role.USER, "Ann", "My knee is better, I walk again."),
            (Role.ASSISTANT, "Bob", "Good to hear. The garden needs water."),
        )
        * 6
    ]
    index = filled(said)
    recaller = Recaller(index, RecallConfig(deadline_s=30))
    about, other = (
        recaller.recall(KEY, text, now=NOW).need
        for text in ("What attributes describe Ann?", "What attributes describe one?")
    )
    assert about > 0.5 > other
