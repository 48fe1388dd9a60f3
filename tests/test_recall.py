import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langmem_plugin.config import RecallConfig
from langmem_plugin.errors import InvalidSetting, ModelFailed
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.in_time import FAILURES, PAUSE_S
from langmem_plugin.messages import assistant, user
from langmem_plugin.recall.meaning import QueryVectors
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.recall.when import find_span
from langmem_plugin.records import Entry, Recalled, SessionKey

KEY = SessionKey("ann", "s1")
START = datetime(2024, 3, 1, 9, 0, tzinfo=UTC)
NOW = datetime(2024, 6, 15, 12, 0, tzinfo=UTC)
TALK = [
    user("Hi there, how are you today?"),
    assistant("I'm well, thanks! What can I do for you?"),
    user("My sister Clara moved to Lisbon in January, she works at a bakery."),
    assistant("Lisbon is lovely. Does she like the work?"),
    user("Very much. By the way, my passport number is X1234567."),
    assistant("Noted. Where would you like to go on holiday this year?"),
    user("Somewhere with mountains and a quiet lake."),
    assistant("The Dolomites could be a good choice."),
    user("I am allergic to penicillin, please keep that in mind."),
    assistant("Of course."),
    user("Let us talk about the garden. The tomatoes have blight again."),
    assistant("Remove the infected leaves and water only the soil."),
]


class Letters:
    """A deterministic embedder: letter frequencies."""

    name = "letters"

    def embed(self, texts):
        rows = np.array([[text.lower().count(c) + 0.01 for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Failing(Letters):
    def __init__(self):
        self.calls = 0

    def embed(self, texts):
        self.calls += 1
        raise ModelFailed("embedder", "no model")


class Stuck(Letters):
    def __init__(self):
        self.free = threading.Event()

    def embed(self, texts):
        self.free.wait(10)
        return super().embed(texts)


def entries(messages, *, start=START, step=timedelta(days=7), first=1):
    return [
        Entry(seq=seq, turn=f"t{seq}", message=message, tokens=10, created_at=start + step * place)
        for place, (seq, message) in enumerate(enumerate(messages, start=first))
    ]


@pytest.fixture
def index():
    found = ListIndex()
    found.add(KEY, entries(TALK))
    found.set_vectors(KEY, np.arange(1, len(TALK) + 1), Letters().embed([m.text for m in TALK]))
    return found


def ask(index, query, *, embedder=None, config=None, **more):
    recaller = Recaller(index, config or RecallConfig(), vectors=index if embedder else None, embedder=embedder)
    return recaller.recall(KEY, query, now=NOW, **more)


@pytest.mark.parametrize("embedder", [None, Letters()])
@pytest.mark.parametrize(
    ("query", "seq"),
    [
        ("Where did my sister move?", 3),
        ("What is my passport number?", 5),
        ("What am I allergic to?", 9),
        ("What did I tell you about X1234567?", 5),
        ("Which disease do my tomatoes have?", 11),
    ],
)
def test_the_message_that_answers_is_found(index, query, seq, embedder):
    """A question about what was said brings the message among the first three."""
    found = ask(index, query, embedder=embedder)
    assert seq in [hit.entry.seq for hit in found.hits[:3]]
    assert found.legs == (("keyword", "vector") if embedder else ("keyword",))
    assert found.note == ""


def test_hits_are_ordered_and_on_a_scale(index):
    """Scores lie between 0 and 1, best first, and no entry comes twice."""
    hits = ask(index, "What is my passport number?", embedder=Letters()).hits
    assert all(0 <= hit.score <= 1 and 0 <= hit.keyword <= 1 and 0 <= hit.vector <= 1 and hit.why for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.entry.seq for hit in hits}) == len(hits)


def test_only_what_is_before_is_found(index):
    """With `before`, no entry at or after it is returned by either leg."""
    found = ask(index, "What did I say about tomatoes and penicillin?", embedder=Letters(), before=9)
    assert found.hits
    assert all(hit.entry.seq < 9 for hit in found.hits)
    assert ask(index, "tomatoes", before=1) == Recalled()


def test_k_limits_the_hits(index):
    """At most `k` hits are returned, and they are the best."""
    wide, narrow = (ask(index, "What is my passport number?", k=k).hits for k in (10, 2))
    assert [hit.entry.seq for hit in narrow] == [hit.entry.seq for hit in wide[:2]]


def test_nothing_is_found_for_nothing(index):
    """An empty query, an empty session or a memory without recall give an empty result."""
    assert ask(index, "") == ask(index, " \n ") == Recalled()
    assert ask(ListIndex(), "Where do I live?") == Recalled()
    assert ask(index, "passport", config=RecallConfig(enabled=False)) == Recalled()


def test_other_sessions_are_never_read(index):
    """What another session or owner said is not found (G7)."""
    for other in (SessionKey("ann", "s2"), SessionKey("bob", "s1")):
        index.add(other, entries([user("The secret passport is Z999.")]))
    assert all("Z999" not in hit.entry.message.text for hit in ask(index, "passport Z999 secret").hits)


def test_two_calls_are_equal(index):
    """Recall reads only: the same question at the same state has the same answer."""
    assert ask(index, "Where did Clara move?", embedder=Letters()) == ask(
        index, "Where did Clara move?", embedder=Letters()
    )


def test_need_tells_small_talk_from_questions_about_the_past(index):
    """Small talk needs next to nothing of the past, a question about it nearly all."""
    assert ask(index, "Thanks, that sounds great! See you tomorrow.").need < 0.2
    assert ask(index, "What is my passport number?").need > 0.7
    assert ask(index, "Do you remember where my sister moved?").need > 0.7


@pytest.mark.parametrize("name", [None, "Clara"])
def test_the_speaker_that_the_query_names_comes_first(name):
    """Of two equal messages the one by the speaker named in the query ranks higher."""
    index = ListIndex()
    said = [(speaker, f"I went to the theatre with {friend}") for speaker, friend in (("Bo", "Al"), ("Clara", "Ed"))]
    index.add(
        KEY, entries([user(text, name=who) if name else user(f"{who}: {text}") for who, text in said] + TALK[5:8])
    )
    for asked, other, who in ((2, 1, "Clara"), (1, 2, "Bo")):
        order = [hit.entry.seq for hit in ask(index, f"Did {who} go to the theatre?").hits]
        assert asked in order
        assert other not in order or order.index(asked) < order.index(other)


def test_a_date_in_the_query_prefers_messages_of_that_time():
    """Of equal messages the one written in the month asked for comes first."""
    index = ListIndex()
    index.add(
        KEY, entries([user(f"We had dinner with friends at place {n}") for n in "abcdefgh"], step=timedelta(days=30))
    )
    first = ask(index, "Where did we have dinner in May 2024?").hits[0]
    assert (first.entry.created_at.year, first.entry.created_at.month) == (2024, 5)


def test_near_duplicates_come_once():
    """The same sentence said three times is one hit; another number makes another hit."""
    index = ListIndex()
    told = ["My budget for the trip to Rome is 500 euros"] * 3 + ["My budget for the trip to Rome is 900 euros"]
    index.add(KEY, entries([user(text) for text in told] + TALK))
    texts = [hit.entry.message.text for hit in ask(index, "What is my budget for the trip to Rome?").hits]
    assert texts.count(told[0]) == 1
    assert told[3] in texts


def test_a_late_embedder_leaves_the_keyword_leg(index):
    """Past the deadline recall answers by keyword and says so."""
    stuck = Stuck()
    started = time.monotonic()
    found = ask(index, "What is my passport number?", embedder=stuck, deadline_s=0.05)
    assert time.monotonic() - started < 2
    stuck.free.set()
    assert found.legs == ("keyword",)
    assert "0.05 s" in found.note
    assert found.hits[0].entry.seq == 5


def test_a_failing_embedder_rests_and_is_tried_again():
    """After some failures the breaker opens; after its pause one query tries again."""
    clock, failing = [0.0], Failing()
    queries = QueryVectors(failing, clock=lambda: clock[0])
    notes = [queries.embed(f"q{n}", deadline_s=5)[1] for n in range(FAILURES + 3)]
    assert failing.calls == FAILURES
    assert "ModelFailed" in notes[0]
    assert "rests" in notes[-1]
    clock[0] += PAUSE_S + 1
    queries.embed("again", deadline_s=5)
    assert failing.calls == FAILURES + 1


def test_a_query_is_embedded_once():
    """The cache answers a repeated query without the embedder, even while the breaker is open."""
    calls = []

    class Counting(Letters):
        def embed(self, texts):
            calls.append(texts)
            return super().embed(texts)

    queries = QueryVectors(Counting())
    first, second = queries.embed("one", deadline_s=5)[0], queries.embed("one", deadline_s=5)[0]
    assert len(calls) == 1
    assert np.array_equal(first, second)


def test_a_failing_vector_search_leaves_the_keyword_leg(index):
    """An index that raises costs its leg, never the answer (G10)."""

    class Broken:
        def search(self, key, vector, *, k, before=None):
            raise OSError("disk gone")

    found = Recaller(index, RecallConfig(), vectors=Broken(), embedder=Letters()).recall(KEY, "passport", now=NOW)
    assert found.legs == ("keyword",)
    assert "OSError" in found.note
    assert found.hits[0].entry.seq == 5


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=200))
def test_no_query_fails(query):
    """Any text is a query: lone surrogates, NUL, dates that do not exist."""
    index = ListIndex()
    index.add(KEY, entries(TALK))
    assert 0 <= ask(index, query).need <= 1


@pytest.mark.parametrize(
    "query", ["on 31 February 2024", "99 years ago", "999 years ago", "in 0000-00", "\x00", "?" * 10_000]
)
def test_odd_dates_and_lengths_are_no_trouble(index, query):
    """A date that is none is no date."""
    ask(index, query)


def test_an_unknown_language_is_refused_at_once(index):
    """The setting is checked when the recaller is made, not at the first turn."""
    with pytest.raises(InvalidSetting):
        Recaller(index, RecallConfig(language="klingon"))


@pytest.mark.parametrize(
    ("text", "start", "days"),
    [
        ("on 2024-05-08", (2024, 5, 8), 1),
        ("on 8 May, 2023", (2023, 5, 8), 1),
        ("on May 8th", (2024, 5, 8), 1),
        ("in December", (2023, 12, 1), 31),
        ("last May", (2024, 5, 1), 31),
        ("during 2022", (2022, 1, 1), 365),
        ("yesterday", (2024, 6, 14), 1),
        ("last week", (2024, 6, 3), 7),
        ("last month", (2024, 5, 1), 31),
        ("last Friday", (2024, 6, 14), 1),
    ],
)
def test_dates_are_read(text, start, days):
    """A date or relative time becomes the span it means, counted from now."""
    span = find_span(f"What did we do {text}?", now=NOW)
    assert span is not None
    assert span.start == datetime(*start, tzinfo=UTC)
    assert (span.end - span.start).days == days


def test_no_date_is_no_span():
    """Words that are months elsewhere name no time."""
    assert find_span("May I march on?", now=NOW) is None
    two_weeks = find_span("What did I say two weeks ago?", now=NOW)
    assert two_weeks is not None
    assert two_weeks.start < NOW - timedelta(days=14) < two_weeks.end
