"""Whole conversations through both adapters: G1, G2 and G3 at the model, not at the memory."""

from __future__ import annotations

from langmem_plugin import Memory
from langmem_plugin.demo.script import shipped
from langmem_plugin.evaluation import histories
from langmem_plugin.evaluation.frameworks import check, to_markdown
from langmem_plugin.evaluation.loaders import Conversation, Turn, load
from langmem_plugin.messages import Role, ToolCall, assistant, system, tool_result, user
from langmem_plugin.testing.random_histories import Ask, random_history


def assert_clean(outcomes, *, requests):
    for outcome in outcomes:
        assert outcome.requests == requests
        assert outcome.clean, outcome.faults
        assert outcome.largest <= outcome.budget
    assert "| langchain | 1,000 |" in to_markdown(outcomes)


def demonstration() -> Conversation:
    turns = []
    for day in shipped():
        for exchange in day.exchanges:
            said = (user(exchange.user), assistant(exchange.answer or "Let me see."))
            turns += [
                Turn(id=f"{exchange.number}.{m.role}", message=m, created_at=day.begins, session="1") for m in said
            ]
    return Conversation(id="demonstration", turns=tuple(turns), questions=())


def test_the_demonstration_passes_through_both_adapters():
    """G1, G2, G3: every request of a long conversation is within its budget, valid and carries every constraint."""
    conversation = demonstration()
    assert_clean(check([conversation], budgets=(1_000,)), requests=len(conversation.turns) // 2)


def test_locomo_conversations_pass_through_both_adapters(data_dir):
    """G1, G2, G3: LoCoMo's conversations, the first 20 exchanges of each; `eval frameworks` runs them whole."""
    assert_clean(check(load(data_dir / "locomo" / "dev.json"), budgets=(1_000,), most=20), requests=20)


def test_a_request_over_its_budget_would_be_seen():
    """The check can fail: a constraint too long for the model's instructions is reported, not passed over."""
    from langmem_plugin.evaluation.frameworks import _Judge

    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        session.add_constraint("Answer in French.")
        judge = _Judge(memory, session, 10)
        judge.expect("Hello?")
        judge.look([assistant("What?"), user("word " * 50)])
        outcome = judge.outcome("c", "langchain")
    assert not outcome.clean
    assert (outcome.over_budget, outcome.invalid, outcome.without_constraint, outcome.without_question) == (1, 1, 1, 1)


def test_random_histories_pass_through_both_adapters():
    """G1, G2, G3: 64 of the histories that `eval histories` sends by the thousand, each way of them taken."""
    tallies = histories.measure(64)
    for tally in tallies:
        assert tally.clean, tally.faults
        assert tally.histories == 32
        assert min(tally.longer, tally.requests, tally.constraints, tally.refused) > 0
    table = histories.to_markdown(tallies)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [tally.way for tally in tallies]


def test_a_history_is_the_same_for_the_same_number():
    """What failed can be tried again alone, and the kinds that are promised do occur."""
    made = [random_history(seed) for seed in range(300)]
    assert made == [random_history(seed) for seed in range(300)]
    said = [message for history in made for message in history.messages]
    assert {message.role for message in said} == set(Role)
    assert any(len(message.tool_calls) > 2 for message in said)
    assert any(not message.text.strip() and not message.tool_calls for message in said)
    assert any(message.text.startswith("\ud800") for message in said)
    assert any(len(message.blocks) == 2 for message in said)
    assert min(history.budget for history in made) < 60
    assert max(history.budget for history in made) > 5_000


def test_a_broken_request_of_a_random_history_would_be_seen():
    """The check can fail: each fault is counted where it belongs, with the seed that shows it again."""
    history = random_history(7)
    tally = histories.Tally(way="LangChain agent")
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        session.add_constraint("Answer in French.")
        judge = histories.Judge(tally, memory, session, history)
        judge.expect(Ask(message=user("Hello?")))
        whole = system(memory.session("s", owner="ann").context("Hello?").system)
        judge.look([whole, user("Hello?")])
        assert tally.over_budget == (history.budget < memory.counter.count_request([whole, user("Hello?")]))
        tally.over_budget = 0
        judge.look([user("word " * 20_000), assistant("Hm.")])
        judge.look([whole, user("Hello?"), user("Hello?")])
        judge.look([whole, user("Hello?"), assistant("", ToolCall(id="a", name="f", arguments="{}"))])
        judge.look([whole, user("Hello?"), assistant("Yes."), tool_result("1", call_id="a")])
    assert (tally.requests, tally.constraints) == (5, 5)
    assert (tally.without_message, tally.without_constraint) == (1, 1)
    assert (tally.split_pairs, tally.invalid, tally.errors) == (2, 1, 0)
    assert tally.over_budget >= 1
    assert not tally.clean
    assert all(fault.startswith("seed 7: ") for fault in tally.faults)
