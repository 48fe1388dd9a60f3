"""Turns that threads commit at one moment: together, each for itself, and none lost with another."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import count

import pytest

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import user
from langmem_plugin.projections.standing import Standing
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store import gathered as gathered_module
from langmem_plugin.store.gathered import Gathered
from langmem_plugin.store.opening import open_store
from langmem_plugin.store.protocol import Staged, TurnWrite
from langmem_plugin.store.sql_commit import TurnCommit, TurnCommits

NOW = datetime(2026, 5, 4, tzinfo=UTC)
ANN = SessionKey("ann", "a")
BOB = SessionKey("bob", "b")


@pytest.fixture(params=["sqlite file", "sqlite memory", "postgres"])
def store(request, tmp_path):
    urls = {"sqlite file": lambda: f"sqlite:///{tmp_path / 'm.db'}", "sqlite memory": lambda: "sqlite://"}
    opened = open_store(urls.get(request.param, lambda: request.getfixturevalue("postgres_url"))())
    yield opened
    opened.close()


def wrote(*texts, **more):
    staged = tuple(Staged(message=user(text), tokens=3, counter="c", created_at=NOW) for text in texts)
    return TurnWrite(staged=staged, terms=tuple(dict.fromkeys(text.split(), 1) for text in texts), **more)


class Recorder:
    """Does goes; the first one waits until it is let go."""

    def __init__(self, *, fails=0):
        self.goes = []
        self.first = threading.Event()
        self.go_on = threading.Event()
        self.fails = fails

    def __call__(self, take):
        given = [*take()]
        self.goes.append(given)
        if len(self.goes) == 1:
            self.first.set()
            assert self.go_on.wait(20)
        given += take()
        if len(given) > 1 and self.fails:
            raise OSError("together it fails")
        return [ValueError(one) if one == "bad" else f"{one} done" for one in given]


def calls(gathered, *given):
    """Threads that call, and what each got, in the order of asking."""
    got = {}

    def call(place, one):
        try:
            got[place] = gathered(one)
        except BaseException as error:  # noqa: BLE001 - is what is looked at
            got[place] = error

    threads = [threading.Thread(target=call, args=(place, one)) for place, one in enumerate(given)]
    return got, threads


def waiting(gathered, number):
    until = time.monotonic() + 20
    while len(gathered._waiting) < number:
        assert time.monotonic() < until, "it does not wait"
        time.sleep(0.002)


@pytest.mark.parametrize("joins", [True, False])
def test_what_waits_is_done_in_one_go(joins):
    """Calls that come while one is done join it, or are the next go; each gets what came of its own, in its order."""
    do = Recorder()
    gathered = Gathered(do, of=lambda given: None if joins else given)
    got, threads = calls(gathered, "a", "b", "bad", "c")
    for number, thread in enumerate(threads):
        thread.start()
        assert do.first.wait(20)
        waiting(gathered, number)
    do.go_on.set()
    for thread in threads:
        thread.join(20)
    assert do.goes == ([["a", "b", "bad", "c"]] if joins else [["a"], ["b", "bad", "c"]])
    assert [got[0], got[1], got[3]] == ["a done", "b done", "c done"]
    assert isinstance(got[2], ValueError)


def test_a_go_that_fails_takes_no_call_with_it():
    """Its calls are done one by one, by their own threads."""
    do = Recorder(fails=1)
    gathered = Gathered(do, of=lambda given: given)  # none joins the first one
    got, threads = calls(gathered, "a", "b", "c", "d")
    for number, thread in enumerate(threads):
        thread.start()
        assert do.first.wait(20)
        waiting(gathered, number)
    do.go_on.set()
    for thread in threads:
        thread.join(20)
    assert [got[place] for place in range(4)] == ["a done", "b done", "c done", "d done"]
    assert do.goes[:2] == [["a"], ["b", "c", "d"]]
    assert sorted(do.goes[2:]) == [["b"], ["c"], ["d"]]


def test_an_interrupted_go_leaves_no_call_behind():
    """Who leads is interrupted; the others do their own, and later calls are done."""
    turns = count()

    def do(take):
        given = [*take()]
        if next(turns) == 1:
            raise KeyboardInterrupt
        if given == ["a"]:
            first.set()
            assert go_on.wait(20)
        return given

    first, go_on = threading.Event(), threading.Event()
    gathered = Gathered(do)
    got, threads = calls(gathered, "a", "b", "c")
    for number, thread in enumerate(threads):
        thread.start()
        assert first.wait(20)
        waiting(gathered, number)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert got[0] == "a"
    assert {type(got[1]), type(got[2])} == {KeyboardInterrupt, str}
    assert gathered("d") == "d"


def test_who_is_interrupted_while_it_waits_is_not_waited_for(monkeypatch):
    """The first in the line is interrupted: its call is not done, and the next one leads."""
    interrupted = threading.Event()

    class Event(threading.Event):
        def wait(self, timeout=None):
            if threading.current_thread().name == "interrupted":
                assert interrupted.wait(20)
                raise KeyboardInterrupt
            return super().wait(timeout)

    do = Recorder()
    monkeypatch.setattr(gathered_module, "Event", Event)
    gathered = Gathered(do, of=lambda given: given)
    got, threads = calls(gathered, "a", "b", "c")
    threads[1].name = "interrupted"
    for number, thread in enumerate(threads):
        thread.start()
        assert do.first.wait(20)
        waiting(gathered, number)
    interrupted.set()
    threads[1].join(20)
    do.go_on.set()
    for thread in threads:
        thread.join(20)
    assert isinstance(got[1], KeyboardInterrupt)
    assert (got[0], got[2]) == ("a done", "c done")
    assert do.goes == [["a"], ["c"]]


def test_nobody_waits_long_for_what_others_hold():
    """A go that takes long is passed by calls that contend for nothing it has; the others wait for it."""
    do = Recorder()
    gathered = Gathered(do, of=lambda given: given[0], patience_s=0.02)
    got, threads = calls(gathered, "a1", "b1", "a2")
    threads[0].start()
    assert do.first.wait(20)
    threads[2].start()
    waiting(gathered, 1)
    threads[1].start()
    threads[1].join(20)
    assert got == {1: "b1 done"}
    do.go_on.set()
    for thread in threads:
        thread.join(20)
    assert got == {0: "a1 done", 1: "b1 done", 2: "a2 done"}


def test_what_is_apart_is_never_in_one_go():
    """Calls of two owners, where the database shows the rows of one at a time."""
    do = Recorder()
    gathered = Gathered(do, apart=lambda given: given[0], of=lambda given: given)
    got, threads = calls(gathered, "a1", "a2", "b1", "a3", "b2")
    for number, thread in enumerate(threads):
        thread.start()
        assert do.first.wait(20)
        waiting(gathered, number)
    do.go_on.set()
    for thread in threads:
        thread.join(20)
    assert len(got) == 5
    assert do.goes == [["a1"], ["a2", "a3"], ["b1", "b2"]]


def test_turns_of_one_transaction_are_as_those_of_several(store):
    """Numbers, versions, events and terms go on; a turn twice is there once; a refused one harms none."""
    store.commit(BOB, "old", wrote("hello there"), now=NOW)
    turns = [
        TurnCommit(BOB, "one", wrote("first words", "and more words"), NOW),
        TurnCommit(BOB, "one", wrote("first words", "and more words"), NOW),
        TurnCommit(BOB, "gone", wrote("never begun", begun=True), NOW),
        TurnCommit(BOB, "late", wrote("too late", expected_version=1), NOW),
        TurnCommit(BOB, "two", wrote("last words", expected_version=2), NOW),
    ]
    with store.database.write(unread=True) as connection:
        commits = TurnCommits(connection, turns[:1], writer="w")
        commits.join(turns[1:])
        one, again, gone, late, two = commits.write()
    assert isinstance(gone, TurnClosed)
    assert isinstance(late, VersionConflict)
    assert (one.version, one.first_seq, one.last_seq) == (2, 2, 3)
    assert (again.version, again.first_seq) == (2, 0)
    assert (two.version, two.first_seq, two.last_seq, two.tokens) == (3, 4, 4, 12)
    assert [entry.message.text for entry in store.entries(BOB)] == [
        "hello there",
        "first words",
        "and more words",
        "last words",
    ]
    assert [(event.version, event.ref) for event in store.events(BOB)] == [(1, "old"), (2, "one"), (3, "two")]
    stats = store.keyword_stats(BOB)
    assert (stats.documents, stats.length) == (4, 9)
    assert store.postings(BOB, ["words"])["words"].seqs.tolist() == [2, 3, 4]


def test_turns_of_several_sessions_share_a_transaction(store):
    """Sessions that are there and such that are not, of two owners; each goes on by itself, and staged turns end."""
    store.commit(ANN, "old", wrote("hello"), now=NOW)
    staged = wrote("begun before").staged
    store.stage(ANN, "begun", staged, position=0, now=NOW)
    turns = [
        TurnCommit(BOB, "b", wrote("new here"), NOW),
        TurnCommit(ANN, "begun", wrote("begun before", begun=True), NOW),
        TurnCommit(BOB, "b2", wrote("again"), NOW),
    ]
    with store.database.write(unread=True) as connection:
        heads = TurnCommits(connection, turns, writer="w").write()
    assert [(head.version, head.last_seq) for head in heads] == [(1, 1), (2, 2), (2, 2)]
    assert [entry.message.text for entry in store.entries(ANN)] == ["hello", "begun before"]
    assert [entry.message.text for entry in store.entries(BOB)] == ["new here", "again"]
    assert store.pending(ANN) == []
    assert store.head(BOB) == Head(version=2, last_seq=2, history_tokens=0, tokens=6)


@pytest.mark.parametrize("backend", ["sqlite file", "postgres"])
def test_one_at_a_time_works_behind_on_a_session(backend, request, tmp_path):
    """Whoever comes while another is at it is told so; another session is free, and so is this one afterwards."""
    url = f"sqlite:///{tmp_path / 'm.db'}" if backend == "sqlite file" else request.getfixturevalue("postgres_url")
    store = open_store(url)
    with store.alone(ANN) as mine:
        assert mine
        with closing(open_store(url)) as other, other.alone(ANN) as theirs, other.alone(BOB) as free:
            assert (theirs, free) == (False, True)
    with store.alone(ANN) as again:
        assert again
    store.close()


def test_what_is_elsewhere_is_left_alone_for_a_moment():
    """A session that another process works on is not asked for again at once, but soon."""
    standing = Standing(lambda _head: 10)
    assert not standing.is_elsewhere(ANN)
    standing.elsewhere(ANN)
    assert standing.is_elsewhere(ANN)
    assert not standing.is_elsewhere(BOB)
    until = time.monotonic() + 20
    while standing.is_elsewhere(ANN):
        assert time.monotonic() < until, "it never ends"
        time.sleep(0.02)
    standing.elsewhere(ANN)
    standing.forget(ANN)
    assert not standing.is_elsewhere(ANN)
