"""G12 and G6: earlier versions, the audit trail, forks, expected versions, leases, streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.errors import InvalidMessage, TurnClosed, VersionConflict
from langmem_plugin.messages import FORGOTTEN, assistant, user

BUDGET = Budget(max_tokens=700, completion=0)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'memory.db'}"


@pytest.fixture
def memory(url):
    with Memory.open(url, config=MemoryConfig(budget=BUDGET), writer="tests") as memory:
        yield memory


def test_every_request_of_the_past_can_be_built_again(memory):
    """G12: at each version, the request for a question is the bytes that it was then, recall and summary included."""
    session, other = memory.session("s", owner="ann"), memory.session("t", owner="ann")
    sent = {}

    def note(query):
        memory.wait(30)
        context = session.context(query, system="Be kind.")
        sent[context.report.version] = (query, context.messages)

    note("Hello?")
    session.add("The code of the garage is 7714-B. I am allergic to nuts.", assistant("Noted."))
    note("What is the code of the garage?")
    proposed = session.add_constraint("Always answer in French.")
    note("Hm?")
    other.add_constraint("Never call me Bob.", scope="owner")
    session.add("What else?", assistant("Nothing."))
    note("What is the code?")
    session.revoke(proposed.id)
    for number in range(30):
        session.add(f"Let us talk about topic {number} for a while.", assistant(f"Topic {number} is a fine one."))
        if number % 10 == 9:
            note("What was the code of the garage?")
    assert any(one.summary is not None for one in map(session.at, sent))
    for version, (query, messages) in sent.items():
        past = session.at(version)
        assert past.context(query, system="Be kind.").messages == messages
        assert past.version == version
        assert [entry.seq for entry in past.history()] == list(range(1, len(past.history()) + 1))
    assert session.at(0).history() == []
    for version in (-1, session.version + 1):
        with pytest.raises(VersionConflict):
            session.at(version)


def test_the_trail_says_who_changed_what_when(url):
    """Each change has one version, its kind, its writer and its time, in order; a fork keeps the trail."""
    clock = iter(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in range(1000))
    with Memory.open(url, writer="web", clock=lambda: next(clock)) as web:
        session = web.session("s", owner="ann")
        session.add("I never drink coffee.", assistant("Noted."), turn_id="t1")
        (constraint,) = session.constraints()
    with Memory.open(url, writer="desk", clock=lambda: next(clock)) as desk:
        session = desk.session("s", owner="ann")
        session.revoke(constraint.id)
        session.forget(1)
        events = session.events()
    assert [(one.version, one.kind, one.ref, one.detail, one.writer) for one in events] == [
        (1, "turn", "t1", "2", "web"),
        (1, "constraint", constraint.id, "active", "web"),
        (2, "constraint", constraint.id, "revoked", "desk"),
        (3, "forgotten", "1", "", "desk"),
    ]
    assert [one.at for one in events] == sorted(one.at for one in events)
    with Memory.open(url) as memory:
        session = memory.session("s", owner="ann")
        assert [one.version for one in session.events(after=2)] == [3]
        assert memory.session("s", owner="bob").events() == []
        assert session.at(1).history()[0].message.text == FORGOTTEN


def test_a_writer_that_expects_another_version_is_refused(memory):
    """A turn that expects a version is added at it and refused after another's change; a summary does not count."""
    session = memory.session("s", owner="ann")
    assert session.add("One.", expected_version=0) == 1
    with pytest.raises(VersionConflict) as caught:
        session.add("Two.", expected_version=0)
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    turn = session.begin("Two.")
    session.add("In between.")
    with pytest.raises(VersionConflict):
        turn.commit(expected_version=1)
    assert turn.state == "pending"
    assert turn.commit(expected_version=session.version) == 3
    for number in range(40):
        session.add(f"Let us talk about topic {number} for a while.", assistant(f"Topic {number} is a fine one."))
    before = session.version
    session.context("Hm?")
    memory.wait(30)
    later = session.add("After the summary.", expected_version=before)
    assert later > before


def test_of_many_who_expect_a_version_one_is_taken(memory):
    """Eight threads that add at one version: one turn is in the log, seven were told both versions."""
    session = memory.session("s", owner="ann")
    refused = []

    def add(number):
        try:
            session.add(f"Turn {number}.", expected_version=0)
        except VersionConflict as error:
            refused.append(error.expected < error.actual)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [True] * 7
    assert len(session.history()) == 1


def test_a_fork_goes_on_from_a_version(memory):
    """A fork has the log, constraints, summary and keywords of that version; afterwards the two are apart."""
    session = memory.session("s", owner="ann")
    session.add(user("I never drink coffee.", id="m1"), assistant("Noted."))
    session.add("The code is 7714-B.", assistant("Noted."))
    version = session.version
    session.add("The code is 9999-Z now.", assistant("Noted."))
    fork = session.fork("branch", at=version)
    assert fork.version == version + 1
    assert [entry.message for entry in fork.history()] == [entry.message for entry in session.history()[:4]]
    assert [constraint.text for constraint in fork.constraints()] == ["I never drink coffee."]
    assert any("7714-B" in hit.entry.message.text for hit in fork.recall("What is the code?"))
    assert not any("9999" in hit.entry.message.text for hit in fork.recall("What is the code?"))
    assert fork.events()[-1].kind == "forked"
    fork.revoke(fork.constraints()[0].id)
    fork.add("Only here.")
    assert len(session.constraints()) == 1
    assert len(session.history()) == 6
    assert memory.sessions(owner="ann") == ["s", "branch"]
    assert fork.at(version).history() == session.at(version).history()
    with pytest.raises(VersionConflict):
        session.fork("branch")
    with pytest.raises(VersionConflict):
        session.fork("other", at=99)
    assert memory.sessions(owner="ann") == ["s", "branch"]
    assert len(session.fork("whole").history()) == 6


def test_a_turn_of_a_living_process_is_left_to_it_and_of_a_dead_one_taken_over(url):
    """`resume` passes over a turn that a living process has open, and gives it once that process is killed."""
    code = (
        "import sys, time\nfrom langmem_plugin import Memory\n"
        f"memory = Memory.open({url!r})\n"
        "memory.session('s', owner='ann').begin('Where is my order?', turn_id='t1')\n"
        "print('begun', flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert child.stdout.readline() == "begun\n"
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            assert session.resume() is None
            child.send_signal(signal.SIGKILL)
            child.wait()
            turn = session.resume()
            assert [message.text for message in turn.messages] == ["Where is my order?"]
            again = session.begin("Where is my order?", turn_id="t1")
            again.append("On its way.")
            again.commit()
            assert len(session.history()) == 2
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_an_answer_is_kept_whole_or_not_at_all(memory):
    """G6: chunks pass through; the answer is in the turn when they end, and not if they break off or nobody reads."""
    session = memory.session("s", owner="ann")
    turn = session.begin("Tell me.")
    seen = []
    for chunk in turn.stream(iter(["On ", "its ", "way."])):
        seen.append(chunk)
        assert len(turn.messages) == 1
    assert seen == ["On ", "its ", "way."]
    assert turn.messages[1].text == "On its way."
    turn.commit()

    def broken():
        yield "Half of "
        raise ConnectionError

    turn = session.begin("And now?")
    stream = turn.stream(broken())
    with pytest.raises(ConnectionError):
        list(stream)
    assert (len(turn.messages), stream.text, stream.kept) == (1, "Half of ", False)
    left = turn.stream(iter(["unread ", "answer"]))
    next(iter(left))
    assert len(turn.messages) == 1
    stream.keep()
    stream.keep()
    turn.commit()
    last = session.history()[-1].message
    assert (last.text, last.metadata) == ("Half of ", {"partial": True})


def test_a_stream_without_end_is_stopped(url):
    """An answer longer than a message may be is refused, and nothing of it is kept."""
    with Memory.open(url, config=MemoryConfig(max_message_chars=1000)) as memory:
        turn = memory.session("s", owner="ann").begin("Go on.")

        def endless():
            while True:
                yield "x" * 100

        with pytest.raises(InvalidMessage):
            list(turn.stream(endless()))
        assert len(turn.messages) == 1
        with pytest.raises(InvalidMessage):
            list(turn.stream([b"bytes"]))
        turn.abort()
        with pytest.raises(TurnClosed):
            list(turn.stream(["late"]))


async def test_an_asynchronous_answer_is_kept_whole_or_not_at_all(memory):
    """The same for chunks that come asynchronously."""

    async def chunks(fail):
        yield "On its "
        if fail:
            raise ConnectionError
        yield "way."

    turn = memory.session("s", owner="ann").begin("Tell me.")
    with pytest.raises(ConnectionError):
        async for _ in turn.astream(chunks(fail=True)):
            pass
    assert len(turn.messages) == 1
    assert [chunk async for chunk in turn.astream(chunks(fail=False))] == ["On its ", "way."]
    assert turn.messages[1].text == "On its way."


def test_every_chunk_boundary_is_a_safe_place_to_fail(memory):
    """A stream that breaks after k chunks leaves no trace of itself, for every k."""
    session = memory.session("s", owner="ann")
    words = ["Your", "order", "is", "on", "its", "way", "and", "will", "be", "there", "soon", "."]
    for cut in range(len(words)):

        def chunks(upto=cut):
            yield from words[:upto]
            raise TimeoutError

        with pytest.raises(TimeoutError), session.begin("Where is it?") as turn:
            for _ in turn.stream(chunks()):
                pass
    assert session.history() == []
    assert session.version == 0
