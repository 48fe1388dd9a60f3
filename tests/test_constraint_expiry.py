"""Constraints that hold for a time: until when, and who hears that it is over."""

from __future__ import annotations

import queue
from datetime import UTC, datetime, timedelta

import pytest

from langmem_plugin import ConstraintEvent, ConstraintState, Memory


@pytest.mark.parametrize(
    ("said", "last_day"),
    [
        ("Until Friday, keep every answer to one line.", 6),
        ("Until Monday, keep every answer to one line.", 9),
        ("Antworte bis Mittwoch immer auf Deutsch.", 4),
    ],
)
def test_a_day_that_is_named_is_the_last(said: str, last_day: int) -> None:
    """What holds until a weekday expires when that day is over in the last time zone; on that day it means the next."""
    monday = datetime(2026, 11, 2, 9, tzinfo=UTC)
    with Memory.open(clock=lambda: monday) as memory:
        session = memory.session("s", owner="ann")
        session.add(said)
        (found,) = session.constraints()
        assert found.expires_at == datetime(2026, 11, last_day, tzinfo=UTC) + timedelta(hours=36)


def test_subscribers_hear_that_a_constraint_expires() -> None:
    """It is told at the time from behind, once, with its state; also of a session that was open before."""
    heard: queue.SimpleQueue[ConstraintEvent] = queue.SimpleQueue()
    with Memory.open() as memory:
        quiet = memory.session("quiet", owner="ann")
        early = quiet.add_constraint("Answer in rhyme.")
        quiet.edit_constraint(early.id, expires_at=datetime.now(UTC) + timedelta(seconds=1.2))
        memory.subscribe(lambda event: heard.put(event) if event.change == "expired" else None)
        session = memory.session("s", owner="ann")
        added = session.add_constraint("Be brief.")
        kept = session.edit_constraint(added.id, expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
        pinned = session.add_constraint("Be kind.", pinned=True)
        session.edit_constraint(pinned.id, expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
        told = [heard.get(timeout=30), heard.get(timeout=30)]
        assert {(one.constraint.text, one.session) for one in told} == {
            ("Be brief.", "s"),
            ("Answer in rhyme.", "quiet"),
        }
        assert {one.constraint.state for one in told} == {ConstraintState.EXPIRED}
        assert kept.id in {one.constraint.id for one in told}
        assert memory.tell_expired() == 0
        assert heard.empty()
        assert [one.text for one in session.constraints()] == ["Be kind."]


def test_what_was_prolonged_or_ended_does_not_expire() -> None:
    """At the old time nothing is told of a constraint that was given more time or revoked."""
    now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    heard = []
    with Memory.open(clock=lambda: now) as memory:
        memory.subscribe(lambda event: heard.append((event.change, event.constraint.text)))
        session = memory.session("s", owner="ann")
        session.add("This week, always answer in French.")
        session.add("This week, never use emojis.")
        longer, revoked = session.constraints()
        session.edit_constraint(longer.id, expires_at=now + timedelta(days=30))
        session.revoke(revoked.id)
        del heard[:]
        now += timedelta(days=8)
        assert memory.tell_expired() == 0
        now += timedelta(days=30)
        assert memory.tell_expired() == 1
        assert heard == [("expired", "This week, always answer in French.")]


def test_nobody_listens() -> None:
    """Without subscribers nothing is told, and no thread waits."""
    now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    with Memory.open(clock=lambda: now) as memory:
        memory.session("s", owner="ann").add("This week, always answer in French.")
        now += timedelta(days=8)
        assert memory.tell_expired() == 0
