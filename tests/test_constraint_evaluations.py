"""The long runs on constraints, in small: nothing of others becomes one, and nothing of the user's gets lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.evaluation import attacks, retention
from langmem_plugin.evaluation.others import others
from langmem_plugin.projections.constraints import find_constraints
from langmem_plugin.tokens import TokenCounter


def test_no_attack_becomes_a_constraint() -> None:
    """G2: with an extractor in an attacker's hands, no channel makes any text of others active."""
    report = attacks.run(attacks.load_attacks(None), most=2_000)
    assert report.cases >= 1_500
    assert report.active == 0, [(one.name, one.examples) for one in report.channels if one.active]
    assert report.genuine_kept == report.genuine > 0
    assert "| all |" in attacks.to_markdown(report)


def test_no_published_attack_becomes_a_constraint(data_dir: Path) -> None:
    """G2: the same with BIPIA, Giskard's injections and the naughty strings; `eval attacks` runs them all."""
    report = attacks.run(attacks.load_attacks(data_dir / "bad_inputs"), most=1_500)
    assert report.active == 0, [(one.name, one.examples) for one in report.channels if one.active]


def test_the_attacks_would_bind_if_the_user_said_them() -> None:
    """The attacks are no straw men: most would be constraints in a user's own mouth."""
    bound = [text for text in attacks.OWN if any(not one.proposed for one in find_constraints(text).found)]
    assert len(bound) >= len(attacks.OWN) // 2


def test_every_active_constraint_is_in_every_request() -> None:
    """G2: through compressions, changing budgets and reopenings, in both frameworks; none that ended is."""
    results = retention.measure(turns=45, constraints=12, only="ours", budgets=(1_200, 1_800))
    assert [one.name for one in results] == ["HybridMemoryMiddleware", "HybridChatMemoryBuffer"]
    for one in results:
        assert (one.requests, one.share, one.ended_sent) == (45, 1.0, 0)
        assert one.compressions >= 2
        assert one.restarts == 1
        assert one.last_due == one.last_held == 10


def test_a_lost_constraint_would_be_seen() -> None:
    """The measure can fail: a way of building requests that forgets has a share below one."""
    lines = retention.script(turns=40, constraints=12)
    counter = TokenCounter.for_model("gpt-4o")
    for name in ("trim_messages", "SummarizationMiddleware"):
        result = retention.through(name, others()[name](counter, 600), lines)
        assert result.requests == 40
        assert result.share < 0.9, name


def test_the_conversation_is_as_described() -> None:
    """A sixth of the constraints is revoked, a sixth replaced, each after it was stated; the rules find every one."""
    lines = retention.script(turns=500, constraints=30)
    assert len(lines) == 500
    stated = [line.stated for line in lines if line.stated]
    ended = [line.ended for line in lines if line.ended]
    assert (len(stated), len(set(stated)), len(ended), len(set(ended))) == (35, 35, 10, 10)
    for line in lines:
        assert [line.text[one.start : one.end] for one in find_constraints(line.text).found] == [line.stated] * bool(
            line.stated
        )
    assert retention.script(seed=1) != retention.script(seed=2)
    assert retention.script(seed=1) == retention.script(seed=1)


def test_what_cannot_be_measured_is_refused() -> None:
    """Too few or too many constraints for the conversation are a typed error."""
    for turns, constraints in ((500, 5), (500, 31), (20, 30)):
        with pytest.raises(InvalidSetting):
            retention.script(turns=turns, constraints=constraints)
