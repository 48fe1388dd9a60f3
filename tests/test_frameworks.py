"""Whole conversations through both adapters: G1, G2 and G3 at the model, not at the memory."""

from __future__ import annotations

from langmem_plugin.demo.script import shipped
from langmem_plugin.evaluation.frameworks import check, to_markdown
from langmem_plugin.evaluation.loaders import Conversation, Turn, load
from langmem_plugin.messages import assistant, user


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
    from langmem_plugin import Memory
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
