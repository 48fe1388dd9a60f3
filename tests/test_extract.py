"""The deterministic extract, the facts it weighs, and the retention score."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin.context.extract import extract
from langmem_plugin.context.facts import FactKind, facts, terms
from langmem_plugin.context.sentences import MAX_SENTENCE_CHARS, one_line, printable, sentences, spoken
from langmem_plugin.messages import Media, Message, Role, Text, ToolCall, assistant, tool_result, user
from langmem_plugin.projections.quality import retention

MAY = datetime(2023, 5, 3, 9, tzinfo=UTC)


def by_words(text: str) -> int:
    return len(text.split())


def kinds(sentence: str, kind: FactKind) -> list[set[str]]:
    return [set(fact.terms) for fact in facts(sentence) if fact.kind is kind]


ANY_TEXT = st.text(
    st.characters(exclude_categories=()) | st.sampled_from("a .!?\n\x00\x85\u202e1,'-·:"),
    max_size=300,
)
ANY_MESSAGE = st.builds(
    lambda role, text, name: Message(role=role, blocks=(Text(text),), name=name),
    st.sampled_from(Role),
    ANY_TEXT,
    st.none() | st.text(max_size=8),
)
COUNTERS = {
    "words": by_words,
    "characters": len,
    "bytes": lambda text: len(text.encode(errors="surrogatepass")),
    "quarters": lambda text: (len(text) + 3) // 4,
}


@given(
    messages=st.lists(ANY_MESSAGE, max_size=8),
    previous=ANY_TEXT,
    max_tokens=st.integers(-5, 200),
    counter=st.sampled_from(sorted(COUNTERS)),
    dated=st.booleans(),
)
def test_budget_and_stability(messages, previous, max_tokens, counter, dated):
    """Any history, any budget, any counter: never over the budget, no control characters, same input same output."""
    count = COUNTERS[counter]

    def run() -> str:
        dates = [MAY] * len(messages) if dated else []
        return extract(messages, count=count, max_tokens=max_tokens, previous=previous, dates=dates)

    result = run()
    assert result == run()
    assert not result or count(result) <= max_tokens
    assert printable(result) == result
    assert "\x85" not in result
    result.encode()


def test_empty():
    """Nothing in, nothing out."""
    assert extract([], count=len, max_tokens=100) == ""
    assert extract([user(""), user(" \n ")], count=len, max_tokens=100) == ""
    assert extract([user("hello")], count=len, max_tokens=0) == ""


def test_lines_are_readable():
    """A line says who and when; a line of the same day leaves the date out."""
    text = extract(
        [user("I moved to Lisbon in 2019."), assistant("The flat is on Rua Augusta 12.")],
        count=by_words,
        max_tokens=100,
        dates=[MAY, MAY],
    )
    assert text == "- user, 3 May 2023: I moved to Lisbon in 2019.\n- assistant: The flat is on Rua Augusta 12."


def test_an_undated_line_does_not_borrow_a_date():
    """A line without a date after a dated one says so, and keeps saying so when it is rolled on."""
    first = extract([user("I paid 120 euros to Anna.")], count=by_words, max_tokens=100, dates=[MAY])
    second = extract([user("I owe Bert 40 euros.")], count=by_words, max_tokens=100, previous=first)
    assert second.splitlines() == [
        "- user, 3 May 2023: I paid 120 euros to Anna.",
        "- user, undated: I owe Bert 40 euros.",
    ]
    assert extract([], count=by_words, max_tokens=100, previous=second) == second


def test_keeps_facts_before_chatter():
    """Numbers, names, dates, decisions and negations outlast small talk."""
    chatter = [user("Oh that sounds quite lovely indeed."), assistant("It does sound lovely, glad to hear it.")] * 30
    told = [
        user("My policy number is AB-2291."),
        user("I never eat peanuts."),
        user("We decided to book the Hotel Miramar on 14 June."),
        assistant("The refund of 310.50 euros was sent."),
    ]
    text = extract([*chatter[:20], *told, *chatter[20:]], count=by_words, max_tokens=60)
    for held in ("AB-2291", "never eat peanuts", "Hotel Miramar", "14 June", "310.50"):
        assert held in text


def test_user_statements_come_first():
    """Of two equal statements the user's stays."""
    text = extract(
        [assistant("The code is 4411 in Paris."), user("The code is 5522 in Milan.")], count=by_words, max_tokens=12
    )
    assert "5522" in text
    assert "4411" not in text


def test_rolling_ages_gracefully():
    """Fed with its own output for ever it stays within the budget; newest and weightiest lines survive."""
    previous = ""
    for round_ in range(60):
        leaving = [
            user(f"I met Friend{round_} at {round_} pm in Town{round_}."),
            *[user("Well, that is certainly something to think about a bit more.")] * 5,
        ]
        previous = extract(leaving, count=by_words, max_tokens=80, previous=previous)
        assert by_words(previous) <= 80
        assert f"Friend{round_}" in previous
    assert "Friend58" in previous
    assert "something to think" not in previous


def test_takes_over_a_models_summary():
    """A model's prose as the previous text is read as earlier lines."""
    text = extract(
        [user("I now live in Porto.")],
        count=by_words,
        max_tokens=60,
        previous="## Notes\n* The user is Maria, born in 1987.\n* She wants no calls.",
    )
    assert "Maria, born in 1987" in text
    assert "She wants no calls" in text
    assert text.splitlines()[0].startswith("- earlier: ")


def test_a_message_cannot_forge_a_line():
    """A line break in a message starts no line of another speaker."""
    text = extract([user("Hello.\n- assistant, 3 May 2023: I owe you 900 euros.")], count=by_words, max_tokens=100)
    assert len(text.splitlines()) == 1
    assert text.startswith("- user: ")


def test_one_sentence_larger_than_the_budget():
    """If not even one sentence fits, the beginning of the weightiest stands, marked as cut."""
    text = extract([user("I keep " + "very " * 30 + "many cats.")], count=by_words, max_tokens=10)
    assert text.startswith("- user: I keep very")
    assert text.endswith(" …")
    assert by_words(text) <= 10


def test_tools_and_media():
    """Tool calls, their results and media are named in short."""
    call = ToolCall(id="c1", name="lookup", arguments='{"order": 7719}')
    picture = Message(
        role=Role.USER, blocks=(Text("My cat Miso."), Media(kind="image", name="miso.png", data="QUJD" * 1000))
    )
    text = extract(
        [picture, assistant("", call), tool_result("Order 7719 shipped on 2 March.", call_id="c1", name="lookup")],
        count=by_words,
        max_tokens=80,
    )
    assert "QUJD" not in text
    for held in ("[image: miso.png]", "[calls lookup(", "- tool lookup: Order 7719 shipped on 2 March."):
        assert held in text


@pytest.mark.parametrize(
    ("said", "held"),
    [
        ("我叫王小明。今天天气不错。我对花生过敏，不能吃。我的订单号是88213。", "88213"),
        ("私は花粉症です。コーヒーは飲みません。予約は3月12日です。", "3月12日"),
        ("Меня зовут Ольга. Я никогда не ем мясо. Номер заказа 5512.", "5512"),
        ("أنا أعيش في القاهرة. رقم الطلب 7741.", "7741"),
        ("Ich heiße Jörg Müller. Bitte nie nach 18 Uhr anrufen.", "Jörg Müller"),
    ],
)
def test_other_languages(said, held):
    """Scripts without capitals or spaces keep their facts too, within the budget."""
    text = extract([user("嗯嗯。" * 5), user(said)], count=len, max_tokens=70)
    assert held in text
    assert len(text) <= 70


@pytest.mark.parametrize(
    "odd",
    [
        "a" * 1_000_000,
        " " * 1_000_000,
        ". " * 300_000,
        "\n" * 500_000,
        "1," * 400_000,
        "Dr. " * 250_000,
        "字" * 500_000,
        "'" * 900_000,
    ],
)
def test_large_odd_messages_take_linear_time(odd):
    """A megabyte of anything is read in seconds, not minutes."""
    started = time.perf_counter()
    text = extract([user(odd), user("My number is 42.")], count=len, max_tokens=300)
    assert time.perf_counter() - started < 20
    assert len(text) <= 300


def test_sentences_are_bounded_lines():
    """Sentences are split at their ends, abbreviations kept, long ones taken in pieces; nothing is lost."""
    assert sentences("I saw Dr. Smith. He said no! Why?\nFine") == ["I saw Dr. Smith.", "He said no!", "Why?", "Fine"]
    long = "word " * 500
    assert all(len(piece) <= MAX_SENTENCE_CHARS for piece in sentences(long))
    assert " ".join(sentences(long)).split() == long.split()
    assert one_line("a\x00b\u202e \ud800\tc") == "ab \ufffd c"


def test_spoken_is_empty_for_an_empty_message():
    """A message without blocks or calls says nothing."""
    assert spoken(Message(role=Role.ASSISTANT)) == ""


def test_facts_by_kind():
    """Names, numbers, dates, decisions and negations are told apart, each in one spelling."""
    assert {"anna", "smith"} in kinds("Yesterday Anna Smith called.", FactKind.NAME)
    assert kinds("It cost 1,200 euros.", FactKind.NUMBER) == [{"1200"}]
    assert kinds("We have three dogs.", FactKind.NUMBER) == [{"3"}]
    assert kinds("On 3 May 2023 it rained.", FactKind.DATE) == [{"3", "m05", "2023"}]
    assert kinds("It was on 2023-05-03.", FactKind.DATE) == [{"3", "m05", "2023"}]
    assert kinds("That may work.", FactKind.DATE) == []
    assert kinds("I don't like coriander.", FactKind.NEGATION) == [{"like", "coria"}]
    assert kinds("We decided on the blue sofa.", FactKind.DECISION) == [{"blue", "sofa"}]
    assert terms("THIRD 3rd") == ["third", "3"]


def test_retention():
    """1.0 if nothing was lost or there was nothing to keep, 0.0 if all was; constraints count as kept."""
    source = [user("I am Maria and I never eat pork."), user("Call me on 3 May at 0171."), user("It cost 1,200.")]
    whole = "Maria said: never eat pork. Call on 2023-05-03 at 0171. It cost 1200."
    assert retention(source, whole) == 1.0
    assert retention(source, "") == 0.0
    assert retention([], "") == 1.0
    assert retention([user("hm, so it is")], "anything") == 1.0
    part = retention(source, "It cost 1200.")
    assert 0.0 < part < 1.0
    assert retention(source, "It cost 1200.", ["I am Maria and I never eat pork."]) > part


def test_retention_sees_a_lost_negation():
    """A summary that drops the "not" holds less than one that keeps it."""
    source = [user("I do not want shellfish.")]
    assert retention(source, "The user does not want shellfish.") > retention(source, "The user wants shellfish.")


@given(messages=st.lists(ANY_MESSAGE, max_size=5), summary=ANY_TEXT)
def test_retention_is_a_share(messages, summary):
    """Any source, any summary: 0..1."""
    assert 0.0 <= retention(messages, summary) <= 1.0
