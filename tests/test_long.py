"""The long evaluation: what it plants, what it finds, whom it can measure, and its exit code."""

from __future__ import annotations

import json

import pytest

from langmem_plugin import Budget, Memory, MemoryConfig, TokenCounter
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.evaluation import outage
from langmem_plugin.evaluation.long import OwnMemory, as_long_memory, conversation, measure
from langmem_plugin.messages import user

COUNTER = TokenCounter.for_model("gpt-4o")


class Window:
    """Knows the last four exchanges."""

    def __init__(self):
        self.said = []

    def add(self, question, answer):
        self.said = [*self.said, question][-4:]

    def request(self, question):
        return [user("\n".join([*self.said, question]))]


def forgetful():
    return Window()


def test_the_conversation_is_the_same_each_time():
    """A fact in every fourth exchange that no rule takes, each with a value of its own; equal at each run."""
    first = list(conversation(200))
    assert first == list(conversation(200))
    facts = [fact for _, _, fact in first if fact]
    assert len(facts) > 40
    assert len({fact.said.rsplit(" is ", 1)[0] for fact in facts}) == len(facts)
    assert all(fact.value not in fact.question for fact in facts)


def test_our_memory_loses_nothing():
    """G2: each rule in force in each request, no ended one in a system prompt, every fact found, within the budget."""
    memory = OwnMemory.opened(budget=1_000)
    rows = measure(memory, turns=(10, 60), counter=COUNTER)
    memory.close()
    assert [row.turns for row in rows] == [10, 60]
    assert [row.recall for row in rows] == [1.0, 1.0]
    assert [row.constraints for row in rows] == [1.0, 1.0]
    assert [row.ended for row in rows] == [0.0, 0.0]
    assert all(row.largest <= 1_000 for row in rows)
    assert rows[0].everything < 1_000 < 2_000 < rows[1].everything


def test_what_is_lost_is_seen():
    """A memory of four exchanges loses facts and rules, and the figures say so."""
    (row,) = measure(Window(), turns=(40,), counter=COUNTER)
    assert row.recall < 0.2
    assert row.constraints < 0.5


def test_few_questions_of_many():
    """Of many facts evenly chosen ones are asked for."""
    (row,) = measure(Window(), turns=(100,), counter=COUNTER, most_questions=5)
    assert row.facts == 5


def test_memories_of_both_frameworks():
    """A LangChain history, a chain's memory, a LlamaIndex memory and a Memory are measured alike."""
    pytest.importorskip("langchain_classic")
    pytest.importorskip("llama_index.core")
    from llama_index.core.memory import ChatMemoryBuffer

    from langchain_langmem_plugin import HybridChainMemory, HybridChatMessageHistory
    from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer

    config = MemoryConfig(budget=Budget(max_tokens=1_000, completion=0))
    with Memory.open(config=config) as memory:
        given = (
            memory,
            HybridChatMessageHistory("history", memory=memory, owner="ann"),
            HybridChainMemory(memory, owner="ann", session_id="chain", return_messages=True),
            HybridChainMemory(memory, owner="ann", session_id="text"),
            HybridChatMemoryBuffer.from_defaults(memory=memory, owner="ann", session_id="buffer"),
        )
        for one in given:
            (row,) = measure(as_long_memory(one), turns=(13,), counter=COUNTER)
            assert row.constraints == 1.0, one
        (row,) = measure(as_long_memory(ChatMemoryBuffer.from_defaults(token_limit=300)), turns=(13,), counter=COUNTER)
        assert row.recall < 1.0
    with pytest.raises(InvalidSetting, match="request"):
        as_long_memory(object())


def test_the_gate(tmp_path, monkeypatch, capsys):
    """Exit code 0 where the figures are good enough, 3 with the reason where they are not; JSON either way."""
    (tmp_path / "my_memory.py").write_text(
        "class Mine:\n"
        "    def add(self, question, answer): pass\n"
        "    def request(self, question): return []\n"
        "make = Mine\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("eval", "long", "--turns", "20", "--json", "long.json")
    assert main((*arguments, "--memory", "my_memory:make")) == 0
    assert main((*arguments, "--memory", "my_memory:make", "--min-recall", "0.9", "--min-constraints", "1")) == 3
    err = capsys.readouterr().err
    assert "recall is 0.000 after 20 exchanges, at least 0.9 was asked for" in err
    assert "constraints is" in err
    assert json.loads((tmp_path / "long.json").read_text())[0]["turns"] == 20
    assert main((*arguments, "--min-recall", "0.9")) == 0
    assert main((*arguments, "--memory", "my_memory:absent")) == 1
    assert "MODULE:FUNCTION" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main((*arguments, "--min-recall", "2"))


def test_a_summariser_that_is_away_costs_no_fact(monkeypatch):
    """Each turn is answered without a call on its path, all that left is found, and the model's summary comes after."""
    found = outage.measure(turns=80, budget=1_000)
    assert found["passed"], found
    assert found["left_window"] > 40
    assert found["facts"] == found["found"] > 5
    assert found["failed_calls"] >= 1
    monkeypatch.setattr(outage, "_found", lambda _session, facts: len(facts) - 1)
    monkeypatch.setattr(outage, "_PATIENCE_S", 0.0)
    lost = outage.measure(turns=40, budget=600)
    assert not lost["passed"]
    assert lost["caught_up_s"] is None
    assert "never" in outage.to_markdown(lost)
