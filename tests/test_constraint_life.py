"""The life of a constraint: stated, confirmed, edited, pinned, ended; who hears of it and where it holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from langmem_plugin import Constraint, ConstraintEvent, Memory, MemoryConfig, Session
from langmem_plugin.config import ConstraintsConfig
from langmem_plugin.errors import ConstraintNotFound, InvalidSetting
from langmem_plugin.messages import assistant


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Iterator[Memory]:
    with Memory.open(clock=clock) as opened:
        yield opened


@pytest.fixture
def session(memory: Memory) -> Session:
    return memory.session("s", owner="ann")


def texts(session: Session, **options: bool) -> list[str]:
    return [constraint.text for constraint in session.constraints(**options)]


def states(session: Session) -> dict[str, str]:
    return {constraint.text: constraint.state.value for constraint in session.constraints(all=True)}


def test_every_change_is_told_once_and_in_order(memory: Memory, session: Session) -> None:
    """Subscribers hear of statements, endings, edits and pins after they are durable; a retry tells nothing."""
    heard: list[ConstraintEvent] = []
    end = memory.subscribe(heard.append)
    session.add("Our budget is 500 euros.", turn_id="one")
    session.add("Our budget is 500 euros.", turn_id="one")
    session.add("Our budget is 700 euros now. Never store my password.")
    session.add("Forget what I said about the budget.")
    added = session.add_constraint("Be brief.")
    edited = session.edit_constraint(added.id, "Be very brief.")
    session.pin(edited.id)
    session.pin(edited.id, pinned=False)
    (proposal,) = (one for one in session.constraints(all=True) if one.state == "proposed")
    session.confirm(proposal.id)
    session.revoke(proposal.id)
    session.revoke(proposal.id)
    assert [(one.change, one.constraint.text) for one in heard] == [
        ("stated", "Our budget is 500 euros."),
        ("superseded", "Our budget is 500 euros."),
        ("stated", "Our budget is 700 euros now."),
        ("proposed", "Never store my password."),
        ("revoked", "Our budget is 700 euros now."),
        ("added", "Be brief."),
        ("superseded", "Be brief."),
        ("edited", "Be very brief."),
        ("pinned", "Be very brief."),
        ("unpinned", "Be very brief."),
        ("confirmed", "Never store my password."),
        ("revoked", "Never store my password."),
    ]
    assert {(one.owner, one.session) for one in heard} == {("ann", "s")}
    assert heard[1].by == heard[2].constraint.id
    end()
    end()
    session.add("Never use emojis.")
    assert len(heard) == 12


def test_a_failing_subscriber_fails_nothing(memory: Memory, session: Session, caplog: pytest.LogCaptureFixture) -> None:
    """What a subscriber raises is logged by its class, without text, and the turn stands (G8, G14)."""

    def fail(event: ConstraintEvent) -> None:
        raise ValueError(event.constraint.text)

    memory.subscribe(fail)
    with caplog.at_level(logging.WARNING):
        session.add("Never use emojis.")
    assert texts(session) == ["Never use emojis."]
    assert "ValueError" in caplog.text
    assert "emojis" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "state"),
    [(True, "active"), (False, "revoked"), (None, "proposed"), (1, "proposed"), (OSError(), "proposed")],
)
def test_the_application_decides_on_proposals(answer: object, state: str) -> None:
    """The callback is asked about what is proposed, and about nothing else."""
    asked: list[str] = []

    def confirm(constraint: Constraint) -> bool | None:
        asked.append(constraint.text)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    with Memory.open(confirm=confirm) as memory:
        session = memory.session("s", owner="ann")
        session.add("Never store my password. Never use emojis.")
        assert asked == ["Never store my password."]
        assert states(session) == {"Never store my password.": state, "Never use emojis.": "active"}


def test_a_pinned_constraint_ends_by_hand_alone(session: Session, clock: Clock) -> None:
    """Neither a later statement, nor taking back, nor time ends it; the application does."""
    session.add("My budget is 500 euros. This week, don't suggest meat.")
    for constraint in session.constraints():
        session.pin(constraint.id)
    session.add("My budget is 700 euros. Forget what I said about meat.")
    clock.now += timedelta(days=30)
    assert texts(session) == ["My budget is 500 euros.", "This week, don't suggest meat.", "My budget is 700 euros."]
    assert "don't suggest meat" in session.context().system
    session.revoke(session.constraints()[0].id)
    assert texts(session) == ["This week, don't suggest meat.", "My budget is 700 euros."]


def test_an_edit_keeps_the_old_one_listed(session: Session) -> None:
    """The new text is in the next request, the old one is listed as superseded by it with its provenance."""
    session.add("Never use emojis.", assistant("Fine."))
    (old,) = session.constraints()
    new = session.edit_constraint(old.id, "Never use emojis in headings.", kind="requirement")
    listed = {one.id: one for one in session.constraints(all=True)}
    assert texts(session) == ["Never use emojis in headings."]
    assert (listed[old.id].state, listed[old.id].superseded_by, listed[old.id].seq) == ("superseded", new.id, 1)
    assert (new.source, new.kind, new.seq) == ("app", "requirement", None)
    assert session.edit_constraint(new.id, kind="goal").text == "Never use emojis in headings."


def test_what_cannot_be_is_refused(session: Session) -> None:
    """Unknown ids, empty texts, unknown kinds and naive times are typed errors, and nothing changes."""
    held = session.add_constraint("Be brief.")
    version = session.version
    for call in (session.revoke, session.confirm, session.pin, session.edit_constraint):
        with pytest.raises(ConstraintNotFound):
            call("c-nothing")
    with pytest.raises(InvalidSetting, match="text"):
        session.edit_constraint(held.id, " ")
    with pytest.raises(InvalidSetting, match="kind"):
        session.edit_constraint(held.id, kind="wish")
    with pytest.raises(InvalidSetting, match="scope"):
        session.edit_constraint(held.id, scope="world")  # type: ignore[arg-type]
    with pytest.raises(InvalidSetting, match="expires_at"):
        session.edit_constraint(held.id, expires_at=datetime(2026, 1, 1))  # noqa: DTZ001 - naive on purpose
    assert session.version == version


def test_the_owners_constraints_hold_in_a_new_session_at_once() -> None:
    """With owner scope a statement is in the first request of the next session, with its source; no other owner's."""
    config = MemoryConfig(constraints=ConstraintsConfig(scope="owner"))
    with Memory.open(config=config) as memory:
        memory.session("one", owner="ann").add("I'm allergic to peanuts.")
        (found,) = memory.session("two", owner="ann").constraints()
        assert (found.text, found.session, found.scope) == ("I'm allergic to peanuts.", "one", "owner")
        assert "allergic to peanuts" in memory.session("two", owner="ann").context("Hi").system
        assert memory.session("two", owner="bob").constraints(all=True) == ()


def test_a_session_may_keep_the_owners_constraints_out() -> None:
    """An opted-out session neither sends nor lists them nor adds to them, and can opt in again."""
    config = MemoryConfig(constraints=ConstraintsConfig(scope="owner"))
    with Memory.open(config=config) as memory:
        memory.session("one", owner="ann").add("I'm allergic to peanuts.")
        apart = memory.session("apart", owner="ann")
        apart.share_constraints(False)
        apart.add("Never use emojis.")
        assert texts(apart, all=True) == ["Never use emojis."]
        assert "peanuts" not in apart.context().system
        with pytest.raises(ConstraintNotFound):
            apart.revoke(memory.session("one", owner="ann").constraints()[0].id)
        assert texts(memory.session("one", owner="ann")) == ["I'm allergic to peanuts."]
        apart.share_constraints(True)
        assert texts(apart) == ["I'm allergic to peanuts.", "Never use emojis."]


def test_floods_and_long_statements_are_only_proposed() -> None:
    """Past the caps on number and length nothing becomes active, and past the cap on proposals nothing is kept."""
    config = MemoryConfig(constraints=ConstraintsConfig(max_active=3, max_proposed=4, max_chars=60))
    with Memory.open(config=config) as memory:
        session = memory.session("s", owner="ann")
        session.add("Never suggest " + "very " * 20 + "expensive hotels.")
        assert [one.state for one in session.constraints(all=True)] == ["proposed"]
        session.add("\n".join(f"Never suggest hotel number {number}." for number in range(20)))
        kept = session.constraints(all=True)
        assert [one.state.value for one in kept].count("active") == 3
        assert [one.state.value for one in kept].count("proposed") == 4


def test_what_is_only_proposed_ends_nothing(session: Session) -> None:
    """A statement that needs confirmation does not supersede one that is in force."""
    session.add("My budget is 500 euros.")
    session.add("My budget is 900 euros, see https://evil.example/why.")
    assert texts(session) == ["My budget is 500 euros."]


def test_repetitions_are_merged(session: Session) -> None:
    """The same statement with other manners is not kept twice; another statement is."""
    session.add("Never use emojis.")
    session.add("Please, never use emojis!")
    session.add("As I said, never ever use emojis, please.")
    session.add("I do not eat pork.")
    session.add("I really don't eat pork.")
    assert texts(session) == ["Never use emojis.", "I do not eat pork."]
    session.add("Never use emojis in headings.")
    assert len(texts(session)) == 3


def test_what_a_request_lacks_is_named(session: Session) -> None:
    """Verification on the final request finds each active constraint that is not in it, word for word."""
    session.add("Never use emojis. My name is Sam.")
    system = session.context(system="Be kind.").system
    assert session.missing_constraints(system) == ()
    assert [one.text for one in session.missing_constraints(system.replace("Never use", "Use"))] == [
        "Never use emojis."
    ]
    assert len(session.missing_constraints("")) == 2
