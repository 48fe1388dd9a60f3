"""Filters of a search: what is found is what would be found, of the messages that fit."""

from datetime import UTC, datetime, timedelta

import pytest

from langmem_plugin import Memory
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Message, Role, Text, ToolCall, assistant, tool_result
from langmem_plugin.recall.filters import RecallFilter

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def memory():
    """Three hundred days of talk about one garage, a turn a day; every tenth calls a tool."""
    now = [START]
    with Memory.open(clock=lambda: now[0]) as memory:
        session = memory.session("s", owner="ann")
        for day in range(300):
            now[0] = START + timedelta(days=day)
            said = [
                Message(
                    role=Role.USER, blocks=(Text(f"The code of garage {day} is {day * 7}."),), metadata={"day": day}
                )
            ]
            if day % 10 == 0:
                call = ToolCall(id=f"c{day}", name="lookup", arguments="{}")
                said += [
                    assistant("", call),
                    tool_result(f"garage {day}: code on file", call_id=call.id, name="lookup"),
                ]
            session.add(*said, assistant(f"I noted the garage code of day {day}."))
        memory.session("other", owner="ann").add("The code of the garage in Nice is 4711.")
        memory.session("s", owner="bob").add("The code of the garage in Ghent is 815.")
        yield memory


@pytest.mark.parametrize(
    "only",
    [
        RecallFilter(role="assistant"),
        RecallFilter(since=START + timedelta(days=40), until=START + timedelta(days=45)),
        RecallFilter(tool="lookup"),
        RecallFilter(metadata={"day": 123}),
        RecallFilter(role=Role.USER, since=START + timedelta(days=290)),
    ],
)
def test_all_that_is_found_fits_and_what_fits_is_found(memory, only):
    """Every hit fits the filter, and as many are found as there are, up to k."""
    session = memory.session("s", owner="ann")
    fitting = [entry for entry in session.history() if only.fits(entry) and entry.message.text]
    hits = session.recall("What is the code of the garage?", k=8, only=only)
    assert hits
    assert all(only.fits(hit.entry) for hit in hits)
    assert len(hits) >= min(5, len(fitting), 8)


def test_a_filter_that_nothing_passes_finds_nothing(memory):
    """No message before the first, none of a tool that nobody called."""
    session = memory.session("s", owner="ann")
    for only in (RecallFilter(until=START), RecallFilter(tool="nobody"), RecallFilter(metadata={"no": 1})):
        assert session.recall("What is the code of the garage?", only=only) == []


def test_all_sessions_of_an_owner_are_searched(memory):
    """The best of all sessions come first; another owner's are never read (G7)."""
    found = memory.recall("What is the code of the garage in Nice?", owner="ann", k=5)
    assert "Nice" in found[0][1].entry.message.text
    assert found[0][0] == "other"
    assert all("Ghent" not in hit.entry.message.text for _, hit in found)
    assert memory.recall("garage", owner="nobody") == []


@pytest.mark.parametrize(
    "given",
    [
        {"since": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is the fault
        {"since": START, "until": START},
        {"role": "robot"},
    ],
)
def test_a_wrong_filter_is_refused(given):
    """A time without an offset, an empty span and an unknown role are typed errors."""
    with pytest.raises(InvalidSetting):
        RecallFilter(**given)
