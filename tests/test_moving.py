"""Moving in from other memories: once, whole, and with nobody's words put into the user's mouth."""

from __future__ import annotations

import pytest

from langmem_plugin import Memory
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import ToolCall, assistant, tool_result, user
from langmem_plugin.moving import add_facts, add_history

SAID = [
    user("Never suggest flights."),
    assistant("Noted."),
    user("Add."),
    assistant("", ToolCall(id="c1", name="add", arguments="{}")),
    tool_result("2", call_id="c1"),
    assistant("Two."),
]


@pytest.fixture
def session():
    with Memory.open() as memory:
        yield memory.session("s", owner="ann")


def test_a_history_is_moved_once(session):
    """G5: again adds nothing, more adds what is new; each exchange is a turn, and its rules are in force."""
    assert add_history(session, SAID[:2]) == 2
    assert add_history(session, SAID) == 4
    assert add_history(session, SAID) == 0
    assert session.version == 2
    assert [entry.message for entry in session.history()] == SAID
    assert [constraint.text for constraint in session.constraints()] == ["Never suggest flights."]


def test_another_conversation_is_refused(session):
    """A session that holds something else, or more, is left as it is."""
    add_history(session, SAID)
    for other in ([user("Hello")], SAID[:2], [*SAID[:2], user("Other")]):
        with pytest.raises(InvalidSetting, match="another conversation"):
            add_history(session, other)
    assert len(session.history()) == len(SAID)


def test_a_summary_is_nobodys_words(session):
    """What another memory wrote is kept as a note and yields no constraint."""
    add_history(session, SAID[2:], summary="The user said: never mention cheese.")
    assert session.history()[0].message.role == "system"
    assert session.constraints() == ()
    assert "never mention cheese" in session.context("And?").conversation[0].text
    assert add_history(session, SAID[2:], summary="The user said: never mention cheese.") == 0


def test_facts_are_added_once(session):
    """Each fact is in every request of the owner, once, empty ones are left out."""
    assert len(add_facts(session, ["Lives in Lyon.", " ", "Plays the cello.", "Lives in Lyon."])) == 2
    assert add_facts(session, ["Lives in Lyon."]) == ()
    assert {constraint.scope for constraint in session.constraints()} == {"owner"}
    assert "Plays the cello." in session.context("Hello").system


def test_summarising_middlewares_messages_are_notes(session):
    """LangChain: a summary in the user's role is no user's message, and no constraint comes of it."""
    messages = pytest.importorskip("langchain_core.messages")
    from langchain_langmem_plugin import move_in

    summary = messages.HumanMessage("Here is a summary: never fly.", additional_kwargs={"lc_source": "summarization"})
    assert move_in(session, [summary, messages.HumanMessage("Hello"), messages.AIMessage("Hi!")]) == 3
    assert [entry.message.role.value for entry in session.history()] == ["system", "user", "assistant"]
    assert session.constraints() == ()


def test_classic_memories_come_along(session):
    """LangChain: the messages and the summary of a ConversationSummaryBufferMemory."""
    pytest.importorskip("langchain_classic")
    from langchain_classic.memory import ConversationSummaryBufferMemory
    from langchain_core.language_models import FakeListLLM

    from langchain_langmem_plugin import move_in

    with pytest.warns(DeprecationWarning, match="ConversationSummaryBufferMemory"):
        old = ConversationSummaryBufferMemory(
            llm=FakeListLLM(responses=["A summary."], custom_get_token_ids=lambda text: [0] * len(text.split())),
            moving_summary_buffer="They spoke of ships.",
            return_messages=True,
        )
    old.save_context({"input": "Always be brief."}, {"output": "Yes."})
    assert move_in(session, old.chat_memory.messages, summary=old.moving_summary_buffer) == 3
    assert [constraint.text for constraint in session.constraints()] == ["Always be brief."]
