"""What providers report: corrections of the count, and limits on what is spent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.config import SpendConfig
from langmem_plugin.errors import SpendExceeded
from langmem_plugin.messages import ToolCall, Usage, assistant, tool_result
from langmem_plugin.tokens import Calibration

reports = st.lists(st.tuples(st.integers(1, 5_000), st.floats(0.2, 2.9)), min_size=1, max_size=30)


def usage(prompt, answer=10):
    return Usage(input_tokens=prompt, output_tokens=answer, total_tokens=prompt + answer)


@given(reports)
@example([(256, 1.875), (125, 2.0)])  # 1.88 * 125 is a hair more than 235
def test_a_reported_request_is_never_counted_as_less_again(seen):
    """G1: after any reports, every request seen is counted as at least what the provider said."""
    calibration = Calibration()
    kept = []
    for counted, factor in seen:
        reported = max(1, int(counted * factor))
        calibration.observe(counted=counted, reported=reported, model="m")
        if counted >= 256 or reported - counted <= 900:
            kept.append((counted, reported))
        correction = calibration.corrections()["m"]
        assert all(correction.tokens(c) >= max(c, r) for c, r in kept)
    for tokens in (0, 100, 2_000, 100_000):
        fitting = calibration.fitting(tokens)
        assert 0 <= fitting <= tokens
        assert correction.tokens(fitting) <= max(tokens, correction.extra)


def test_what_is_no_report_of_one_request_teaches_nothing():
    """Fewer tokens, nothing, or many times as many change no count."""
    calibration = Calibration()
    for counted, reported in ((1_000, 900), (1_000, 9_000), (0, 50), (50, 0)):
        calibration.observe(counted=counted, reported=reported)
    assert calibration.fitting(5_000) == 5_000


def test_a_turns_answer_corrects_the_next_request():
    """G1: a provider that counts a quarter more gets a request that it counts within the budget."""
    budget = Budget(max_tokens=1_000, completion=0)
    with Memory.open() as memory:
        session = memory.session("s", owner="ann")
        for number in range(60):
            turn = session.begin(f"Question {number}: " + "words and more words " * 5)
            context = turn.context(budget=budget)
            reported = int(context.report.tokens_used * 1.25)
            if number > 30:
                assert reported <= 1_000
            turn.append(assistant_with(usage(reported), f"Answer {number}. " * 6))
            turn.commit()
        assert any("kept free" in note for note in context.report.notes)
        assert 990 <= memory.status()["corrections"][""].tokens(800) <= 1_050


def assistant_with(reported, text):
    from dataclasses import replace

    return replace(assistant(text), usage=reported)


def test_a_spending_limit_warns_then_refuses_until_the_span_has_passed():
    """A session's and an owner's tokens are limited; the error carries both numbers, and time frees them."""
    now = [datetime(2026, 5, 1, tzinfo=UTC)]
    config = MemoryConfig(spend=SpendConfig(session_tokens=1_000, owner_tokens=1_500, span_s=60))
    with Memory.open(config=config, clock=lambda: now[0]) as memory:
        session, other = memory.session("s", owner="ann"), memory.session("t", owner="ann")
        session.add("Hello", assistant_with(usage(890), "Hi"))
        assert "900 of 1000 tokens" in session.context("More?").report.notes[0]
        session.report_usage(usage(90))
        with pytest.raises(SpendExceeded) as refused:
            session.context("More?")
        assert (refused.value.what, refused.value.used, refused.value.limit) == ("session", 1_000, 1_000)
        other.report_usage(usage(490))
        with pytest.raises(SpendExceeded, match="owner"):
            other.context("More?")
        assert memory.session("s", owner="bob").context("Hello").messages
        now[0] += timedelta(seconds=61)
        assert session.context("More?").messages


def test_a_runaway_loop_is_stopped():
    """A turn that calls the model without end meets a typed error; its messages are kept."""
    config = MemoryConfig(spend=SpendConfig(turn_calls=3))
    with Memory.open(config=config) as memory:
        turn = memory.session("s", owner="ann").begin("Go on.")
        for number in range(3):
            turn.context()
            turn.append(f"Step {number}")
        with pytest.raises(SpendExceeded, match="turn has used 3 calls"):
            turn.context()
        assert len(turn.messages) == 4
        turn.abort()


def test_spending_is_known_after_a_restart_and_across_processes(tmp_path):
    """What messages say was used counts in the next process, and in another one beside it; a span forgets it."""
    now = [datetime(2026, 5, 1, tzinfo=UTC)]
    config = MemoryConfig(spend=SpendConfig(session_tokens=1_000, owner_tokens=1_500, span_s=3_600))
    url = f"sqlite:///{tmp_path / 'm.db'}"

    def opened():
        return Memory.open(url, config=config, clock=lambda: now[0])

    with opened() as memory:
        memory.session("s", owner="ann").add("Hello", assistant_with(usage(890), "Hi"))
        turn = memory.session("t", owner="ann").begin("And?")
        turn.append(assistant_with(usage(490), "So."))  # pending: it was paid for all the same
    with opened() as memory, opened() as beside:
        assert "900 of 1000 tokens" in memory.session("s", owner="ann").context("More?").report.notes[0]
        spent = memory.spent(owner="ann")
        assert (spent.total_tokens, spent.input_tokens, spent.output_tokens, spent.calls) == (1_400, 1_380, 20, 2)
        assert memory.spent(owner="ann", session="s").total_tokens == 900
        assert memory.spent(owner="ann", since=now[0]).calls == 0
        assert memory.spent(owner="bob").total_tokens == 0
        assert spent.by_model == {"": 1_400}
        memory.session("s", owner="ann").add("More", assistant_with(usage(90), "No."))
        now[0] += timedelta(seconds=31)
        with pytest.raises(SpendExceeded, match="session"):
            beside.session("s", owner="ann").context("More?")
        with pytest.raises(SpendExceeded, match="owner"):
            beside.session("u", owner="ann").context("More?")
        now[0] += timedelta(seconds=3_600)
        assert beside.session("s", owner="ann").context("More?").messages


def test_a_correction_is_known_after_a_restart(tmp_path):
    """G1: what a provider counts more is remembered with the database, for the counter that it corrects."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with Memory.open(url) as memory:
        memory.session("s", owner="ann").report_usage(usage(1_250), counted=1_000, model="m")
        memory.session("s", owner="ann").report_usage(usage(1_100), counted=1_000, model="m")
        learned = memory.status()["corrections"]["m"]
    with Memory.open(url) as memory:
        again = memory.status()["corrections"]["m"]
        assert (again.ratio, again.extra) == (learned.ratio, learned.extra) == (1.25, 0)
        notes = memory.session("s", owner="ann").context("Hello").report.notes
        assert any("kept free" in note for note in notes)
    with Memory.open(url, model=len) as memory:
        assert memory.status()["corrections"] == {}


def test_a_loop_in_place_and_a_burst_open_the_breaker():
    """The same call again and again ends the turn; too many requests at once rest the session, and no other."""
    now = [datetime(2026, 5, 1, tzinfo=UTC)]
    config = MemoryConfig(spend=SpendConfig(repeats=3, burst_requests=5, burst_s=10, rest_s=60))
    with Memory.open(config=config, clock=lambda: now[0]) as memory:
        turn = memory.session("s", owner="ann").begin("Look it up.")
        for number in range(3):
            turn.context()
            call = ToolCall(id=f"c{number}", name="search", arguments='{"q": "x"}')
            turn.append(assistant("", call), tool_result("nothing", call_id=call.id))
        with pytest.raises(SpendExceeded, match="3 repetitions of one tool call"):
            turn.context()
        turn.abort()
        session = memory.session("t", owner="ann")
        for _ in range(5):
            session.context("Hello")
        with pytest.raises(SpendExceeded, match="requests"):
            session.context("Hello")
        now[0] += timedelta(seconds=30)  # the burst is over, the rest is not
        with pytest.raises(SpendExceeded):
            session.context("Hello")
        assert memory.session("u", owner="ann").context("Hello").messages
        now[0] += timedelta(seconds=31)
        assert session.context("Hello").messages
