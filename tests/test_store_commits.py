"""Turns that threads commit at one moment: together, each for itself, and none lost with another."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count

import pytest
from sqlalchemy import select, text

from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import user
from langmem_plugin.projections.standing import Standing
from langmem_plugin.records import Head, SessionKey, Summary, Uncovered
from langmem_plugin.store import gathered as gathered_module
from langmem_plugin.store import schema
from langmem_plugin.store.bulk import insert_many, update_many
from langmem_plugin.store.gathered import Gathered
from langmem_plugin.store.opening import open_store
from langmem_plugin.store.protocol import Staged, TurnWrite
from langmem_plugin.store.sql_commit import TurnCommit, TurnCommits
from langmem_plugin.store.sql_sessions import begin_session

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


def begun(threads, gathered, first):
    """Start them in this order; the first one's go is under way, the others wait."""
    for number, thread in enumerate(threads):
        thread.start()
        assert first.wait(20)
        waiting(gathered, number)


def ended(threads, go_on):
    """Let the first go end, and the rest after it."""
    go_on.set()
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize("joins", [True, False])
def test_what_waits_is_done_in_one_go(joins):
    """Calls that come while one is done join it, or are the next go; each gets what came of its own, in its order."""
    do = Recorder()
    gathered = Gathered(do, of=lambda given: None if joins else given)
    got, threads = calls(gathered, "a", "b", "bad", "c")
    begun(threads, gathered, do.first)
    ended(threads, do.go_on)
    assert do.goes == ([["a", "b", "bad", "c"]] if joins else [["a"], ["b", "bad", "c"]])
    assert [got[0], got[1], got[3]] == ["a done", "b done", "c done"]
    assert isinstance(got[2], ValueError)


def test_a_go_that_fails_takes_no_call_with_it():
    """Its calls are done one by one, by their own threads."""
    do = Recorder(fails=1)
    gathered = Gathered(do, of=lambda given: given)  # none joins the first one
    got, threads = calls(gathered, "a", "b", "c", "d")
    begun(threads, gathered, do.first)
    ended(threads, do.go_on)
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
    begun(threads, gathered, first)
    ended(threads, go_on)
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
    begun(threads, gathered, do.first)
    interrupted.set()
    threads[1].join(20)
    ended(threads, do.go_on)
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
    ended(threads, do.go_on)
    assert got == {0: "a1 done", 1: "b1 done", 2: "a2 done"}


def test_what_is_apart_is_never_in_one_go():
    """Calls of two owners, where the database shows the rows of one at a time."""
    do = Recorder()
    gathered = Gathered(do, apart=lambda given: given[0], of=lambda given: given)
    got, threads = calls(gathered, "a1", "a2", "b1", "a3", "b2")
    begun(threads, gathered, do.first)
    ended(threads, do.go_on)
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


def test_a_session_whose_messages_all_fit_is_not_looked_at():
    """What a commit says of a session's weight is enough; past the window it is looked at, once for many turns."""
    standing = Standing(lambda _head: 10)
    assert standing.fits(ANN, Head(version=1, last_seq=2, history_tokens=0, tokens=10))
    later = Head(version=2, last_seq=4, history_tokens=0, tokens=20)
    assert not standing.fits(ANN, later)
    assert not standing.saw(ANN, Uncovered(later, 11))
    assert standing.saw(ANN, Uncovered(later, 5))
    assert standing.fits(ANN, replace(later, last_seq=6, tokens=25))
    assert not standing.fits(ANN, replace(later, last_seq=8, tokens=26))
    assert not standing.fits(ANN, replace(later, last_seq=6, tokens=25, erased=3))
    standing.forget(ANN)
    assert not standing.fits(ANN, replace(later, last_seq=6, tokens=25))


def test_a_go_that_was_held_up_has_the_next_one_wait_for_as_many(monkeypatch):
    """It is not left to one call to stand in line; a lone thread, and who comes after a quick go, wait for nobody."""
    monkeypatch.setattr(gathered_module, "_LINGER_S", 20.0)
    do = Recorder()
    gathered = Gathered(do)
    got, threads = calls(gathered, "a", "b", "c")
    begun(threads, gathered, do.first)
    gathered._held_up_s = 80.0
    ended(threads, do.go_on)
    assert do.goes == [["a", "b", "c"]]
    assert gathered._held_up_s < 20
    gathered._held_up_s = 80.0
    got, threads = calls(gathered, "d", "e", "f")
    for number, thread in enumerate(threads):
        assert got == {}
        thread.start()
        if number < 2:
            waiting(gathered, number + 1)
    ended(threads, do.go_on)
    assert sorted(do.goes[1]) == ["d", "e", "f"]
    assert gathered._held_up_s < 1
    assert gathered("g") == "g done"  # the last go was held up by nobody
    gathered._held_up_s = 80.0
    assert gathered("h") == "h done"  # the last go had one call


def test_who_lingers_in_vain_goes_on(monkeypatch):
    """The others do not come back."""
    monkeypatch.setattr(gathered_module, "_LINGER_S", 0.05)
    gathered = Gathered(lambda take: [*take()])
    gathered._held_up_s, gathered._crowd = 80.0, 8
    began = time.monotonic()
    assert gathered("a") == "a"
    assert time.monotonic() - began >= 0.05
    began = time.monotonic()
    gathered._held_up_s, gathered._crowd = 0.2, 8
    assert gathered("b") == "b"
    assert time.monotonic() - began >= 0.05


def test_turns_are_written_in_the_order_in_which_they_came(postgres_url):
    """Of several processes, while one holds the session: who waits longest is next."""
    with ExitStack() as stack:
        first, *others = (stack.enter_context(closing(open_store(postgres_url))) for _ in range(4))
        first.commit(ANN, "first", wrote("hello"), now=NOW)
        heads = {}

        def commit(place, store):
            heads[place] = store.commit(ANN, f"turn {place}", wrote("hello"), now=NOW)

        threads = [threading.Thread(target=commit, args=item) for item in enumerate(others)]
        with first.database.write() as connection:
            first.database.line_up(connection, [ANN])
            for number, thread in enumerate(threads, start=1):
                thread.start()
                until = time.monotonic() + 20
                while _in_line(first) < number:
                    assert time.monotonic() < until, "it does not stand in line"
                    time.sleep(0.01)
        for thread in threads:
            thread.join(20)
        assert [heads[place].version for place in range(3)] == [2, 3, 4]


def _in_line(store):
    with store.database.read() as connection:
        query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return connection.scalar(query)


@pytest.mark.parametrize("backend", ["sqlite memory", "postgres", "redis"])
def test_what_no_summary_covers_is_told_at_once(backend, request):
    """The tokens after the summary that is shown, whoever wrote it; nothing of a session that nobody wrote to."""
    url = "sqlite://" if backend == "sqlite memory" else request.getfixturevalue(f"{backend}_url")
    with closing(open_store(url)) as store:
        assert store.uncovered(ANN) is None
        for number in range(4):
            store.commit(ANN, f"turn {number}", wrote("some words", "more words"), now=NOW)
        assert store.uncovered(ANN) == Uncovered(store.head(ANN), 24)
        shown = None
        for upto, method in ((4, "model"), (6, "extract")):
            new = Summary(text="It was said.", upto_seq=upto, tokens=4, method=method, created_version=4)
            assert store.save_summary(ANN, new, expected=shown)
            shown = store.summaries(ANN)[1]
            assert store.uncovered(ANN) == Uncovered(store.head(ANN), 24 - 3 * upto, method == "model")


def test_odd_values_are_kept_as_they_are(postgres_url):
    """Many rows go as arrays, in which braces, quotes, backslashes, commas and NULL mean something."""
    odd = [
        "NULL",
        "null",
        "",
        "{",
        "}",
        "{}",
        '"',
        "\\",
        '\\"',
        ",",
        "a,b",
        " ",
        "\n",
        "\t",
        "'",
        "%s %(x)s",
        "é😀",
        "\x85",
    ]
    with closing(open_store(postgres_url)) as store, store.database.write(unread=True) as connection:
        key = begin_session(connection, ANN, NOW)["id"]
        rows = [
            {"session_id": key, "term": one, "seq": place, "count": -place, "length": 2**31 - 1}
            for place, one in enumerate(odd)
        ]
        insert_many(connection, schema.postings, rows)
        found = connection.execute(select(schema.postings).order_by(schema.postings.c.seq)).mappings()
        assert [dict(row) for row in found] == rows
        for expires in (2**60, None):
            update_many(connection, schema.sessions, [{"id": key, "version": 7, "expires_at": expires}])
            row = connection.execute(select(schema.sessions)).mappings().one()
            assert (row["id"], row["version"], row["expires_at"], row["ttl"]) == (key, 7, expires, None)
