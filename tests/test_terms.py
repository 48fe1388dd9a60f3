import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import ToolCall, assistant, user
from langmem_plugin.recall.indexed import embedded_text, message_terms
from langmem_plugin.recall.terms import MAX_TERM_CHARS, analyse, analyse_query, count_terms


def test_words_meet_in_their_stems():
    """Forms of one word become one term, and function words are left out."""
    assert analyse("She was painting the sunrises") == analyse("paint sunrise")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("released on 2023-05-08", {"2023-05-08", "2023", "05", "08"}),
        ("use v1.2.3 of it", {"v1.2.3"}),
        ("call my_func now", {"my_func", "func"}),
        ("getUserName failed", {"user", "name"}),
        ("mail bob@example.com", {"bob@example.com", "bob"}),
        ("HTTPServer", {"http", "server"}),
        ("it costs 1500 euros", {"1500"}),
    ],
)
def test_numbers_dates_and_identifiers_stay_findable(text, wanted):
    """What names something exactly is a term as a whole and by its parts."""
    assert wanted <= set(analyse(text))


@pytest.mark.parametrize("identifier", ["getUserName", "my_func", "2023-05-08", "v1.2.3"])
def test_an_identifier_is_found_by_itself(identifier):
    """A query with the identifier shares its whole form with a message that holds it."""
    assert set(analyse_query(identifier)) == set(analyse(identifier))


@pytest.mark.parametrize(
    ("query", "text"), [("烤鸭", "我喜欢北京烤鸭"), ("テスト", "日本語のテストです"), ("서울", "서울에서 만나요")]
)
def test_scripts_without_spaces_are_found_by_pairs(query, text):
    """A word inside a run of characters shares pairs with a query for it."""
    assert set(analyse_query(query)) & set(analyse(text))


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("german", "die Häuser und die Straßen", "das Haus und die Strasse"),
        ("french", "les chansons que nous avons chantées", "une chanson chantée par nous"),
        ("russian", "мои собаки и кошки", "у меня собака и кошка"),
    ],
)
def test_other_languages_are_recognised(language, one, other):
    """Without being told, terms are those of the language that the text is in."""
    assert analyse(one) == analyse(one, language=language)
    assert len(set(analyse(one)) & set(analyse(other))) >= 2


def test_a_short_foreign_query_meets_messages_of_its_language():
    """A query too short to tell its language is looked up by the stems of several."""
    assert set(analyse_query("Häuser")) & set(analyse("Wir haben die Häuser nicht gesehen"))


def test_an_unknown_language_is_refused():
    """The error names what may be given."""
    with pytest.raises(InvalidSetting, match="english"):
        analyse("text", language="klingon")


@given(st.text(alphabet=st.characters(exclude_categories=()), max_size=300))
def test_any_text_gives_terms_that_a_database_accepts(text):
    """Terms of any text, lone surrogates and NUL among them, are short valid UTF-8 without NUL."""
    for term in [*analyse(text), *analyse_query(text)]:
        assert 0 < len(term) <= MAX_TERM_CHARS
        assert "\x00" not in term
        term.encode()


@given(st.text(max_size=200))
def test_counts_are_the_terms_counted(text):
    """The counts add up to the length of the list of terms."""
    assert sum(count_terms(text).values()) == len(analyse(text))


@pytest.mark.parametrize("piece", ["a.b", "ab_C", "漢", "x", "1-", "é.", "Aa"])
def test_a_megabyte_is_analysed_in_linear_time(piece):
    """No text of a million characters takes long, whatever repeats in it."""
    started = time.monotonic()
    analyse(piece * (1_000_000 // len(piece)))
    assert time.monotonic() - started < 20


def test_tool_calls_are_searchable():
    """A message that only calls a tool is found by the tool's name and arguments."""
    message = assistant("", ToolCall(id="1", name="get_weather", arguments='{"city": "Lisbon"}'))
    assert {"get_weather", "weather", "lisbon"} <= set(message_terms(message))


def test_the_speaker_is_embedded_but_no_term():
    """A name stands before the embedded text; the keyword index leaves it to the ranking."""
    message = user("I paint", name="Mel")
    assert embedded_text(message) == "Mel: I paint"
    assert set(message_terms(message)) == {"paint"}
    assert embedded_text(user("")) == ""
