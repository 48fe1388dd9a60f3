"""What every backend must do, one sentence a clause: subclass it and give it a fixture `url`.

```python
class TestMine(StoreConformance):
    @pytest.fixture
    def url(self):
        return "postgresql://..."  # of an empty database
```
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from rank_bm25 import BM25Plus

from langmem_plugin.errors import LangmemPluginError, StoreClosed, TurnClosed, VersionConflict
from langmem_plugin.memory import Memory
from langmem_plugin.messages import FORGOTTEN, Message, Role, Text, ToolCall, Usage, assistant, tool_result, user
from langmem_plugin.recall.bm25 import DELTA, K1, B, bm25_plus
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.recall.terms import analyse_query
from langmem_plugin.records import ConstraintState, Entry, SessionKey
from langmem_plugin.session import Session
from langmem_plugin.testing.checks import refused, said
from langmem_plugin.testing.keeping import KeepingClauses

ODD_TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "x\udfffy", "\x85", "\u2028", "\u202e", "\ufeff", "🙂", "👨‍👩‍👧", "한국어",
    "'; DROP TABLE messages; --", "%s %(x)s :name ?", "\\u0000", '"', "{}", "a" * 100_000, "\r\n\t",
    "\ud83d\ude42", "\uf8ff1\ud83d\ude42\uf8ff",
)  # fmt: skip
"""Texts that databases are known to change, refuse or run."""


def check_keyword_scores(memory: Memory, key: SessionKey, texts: Sequence[str], queries: Sequence[str]) -> None:
    """Each message's keyword score for each query is that of `rank_bm25.BM25Plus`, to 1e-6.

    Args:
        memory: Of any backend.
        key: A session that holds these texts and nothing else.
        texts: Messages of the user, in order.
        queries: Texts, too.

    Raises:
        AssertionError: A score differs.
    """
    documents = [list(Counter(message_terms(user(text))).elements()) for text in texts]
    store = memory._store
    for query in queries:
        terms = analyse_query(query)
        found = bm25_plus(terms, store.keyword_stats(key), store.postings(key, terms), size=len(texts) + 1)
        right = BM25Plus(documents, k1=K1, b=B, delta=DELTA).get_scores(terms)
        np.testing.assert_allclose(found.scores[1:] + found.floor, right, atol=1e-6)


class StoreConformance(KeepingClauses):
    """The clauses; each opens its own memory on `url`, some several."""

    def test_a_new_session_is_empty(self, url: str) -> None:
        """Nothing was said, version 0, and reading makes no session."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            assert (session.version, session.history(), session.constraints(all=True)) == (0, [], ())
            assert session.recall("anything") == []
            assert session.context("Hello?").messages[-1].text == "Hello?"
            assert memory.sessions(owner="ann") == []

    def test_turns_come_back_in_order_after_reopening(self, url: str) -> None:
        """One, many, and all after a restart: numbers from 1 without gaps, versions count turns."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            for number in range(30):
                assert session.add(f"Question {number}.", assistant(f"Answer {number}.")) == number + 1
        with Memory.open(url) as memory:
            entries = memory.session("s", owner="ann").history()
        assert [entry.seq for entry in entries] == list(range(1, 61))
        texts = [text for number in range(30) for text in (f"Question {number}.", f"Answer {number}.")]
        assert [entry.message.text for entry in entries] == texts

    def test_every_message_comes_back_as_it_was(self, url: str) -> None:
        """Odd text, tool calls, names, metadata and payloads are kept exactly."""
        messages = [Message(role=Role.USER, blocks=(Text(text),), metadata={"of": text}) for text in ODD_TEXTS]
        messages += [
            assistant("", ToolCall(id="c1", name="find", arguments='{"q": "\ud800\\u0000"}'), id="a1", name="desk"),
            tool_result("nothing\0", call_id="c1", name="find"),
        ]
        with Memory.open(url) as memory:
            memory.session("s", owner="ann").add(*messages)
        with Memory.open(url) as memory:
            assert [entry.message for entry in memory.session("s", owner="ann").history()] == messages

    def test_a_pending_turn_is_seen_by_itself_alone(self, url: str) -> None:
        """Until commit another memory sees nothing; after it, all; after abort, nothing ever."""
        with Memory.open(url) as one, Memory.open(url) as two:
            mine, other = one.session("s", owner="ann"), two.session("s", owner="ann")
            turn = mine.begin("Where is my order?", turn_id="t1")
            turn.append("On its way.")
            assert (other.history(), other.version) == ([], 0)
            assert [message.text for message in turn.messages] == ["Where is my order?", "On its way."]
            turn.commit()
            assert said(other) == ["Where is my order?", "On its way."]
            gone = mine.begin("Never mind.")
            gone.abort()
            assert len(other.history()) == 2
            refused(TurnClosed, gone.commit)

    def test_pending_turns_survive_a_restart(self, url: str) -> None:
        """A memory that is opened later resumes the turn with what it holds, and commits it."""
        with Memory.open(url) as memory:
            memory.session("s", owner="ann").begin("Where is my order?", turn_id="t1").append("I look.")
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            turn = session.resume()
            assert turn is not None
            assert [message.text for message in turn.messages] == ["Where is my order?", "I look."]
            turn.commit()
            assert session.resume() is None
            assert len(session.history()) == 2

    def test_what_is_sent_twice_is_kept_once(self, url: str) -> None:
        """A turn id, and a message id, add nothing the second time."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            for _ in range(3):
                session.add("Hello.", assistant("Hi."), turn_id="t1")
                session.add(user("Again.", id="m1"), assistant("Yes.", id="m2"))
                again = session.begin("Hm?", turn_id="t2")
                again.append("What?")
                again.commit()
            assert said(session) == ["Hello.", "Hi.", "Again.", "Yes.", "Hm?", "What?"]
            assert session.known(["m1", "m2", "m3"]) == {"m1", "m2"}

    def test_two_writers_of_one_turn_meet_a_conflict(self, url: str) -> None:
        """The second append at one place is refused, unless it appends the same."""
        with Memory.open(url) as one, Memory.open(url) as two:
            first = one.session("s", owner="ann").begin("Hello.", turn_id="t1")
            second = two.session("s", owner="ann").begin(turn_id="t1")
            first.append("One.")
            refused(VersionConflict, lambda: second.append("Two."))

    def test_expected_versions_hold(self, url: str) -> None:
        """A write at a version that is over is refused with both versions, and changes nothing."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            session.add("One.", expected_version=0)
            error = refused(VersionConflict, lambda: session.add("Two.", expected_version=0))
            assert isinstance(error, VersionConflict)
            assert (error.expected, error.actual, len(session.history())) == (0, 1, 1)

    def test_many_writers_lose_nothing(self, url: str) -> None:
        """Ten threads of two memories on one session: every turn once, each whole, numbers without gaps."""
        errors: list[BaseException] = []

        def write(session: Session, writer: int) -> None:
            try:
                for number in range(5):
                    session.add(f"{writer}-{number}", assistant(f"answer {writer}-{number}"))
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)

        with Memory.open(url) as one, Memory.open(url) as two:
            sessions = [memory.session("s", owner="ann") for memory in (one, two)]
            threads = [threading.Thread(target=write, args=(sessions[n % 2], n)) for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not errors
            _check_log(sessions[0].history())
            questions = said(sessions[1])[::2]
            assert sorted(questions) == sorted(f"{writer}-{number}" for writer in range(10) for number in range(5))
            for writer in range(10):
                mine = [text for text in questions if text.startswith(f"{writer}-")]
                assert mine == [f"{writer}-{number}" for number in range(5)]
            assert sessions[0].version == 50

    def test_owners_and_sessions_are_apart(self, url: str) -> None:
        """Same names, other owner: nothing of one is in the log, recall, constraints or lists of the other."""
        with Memory.open(url) as memory:
            for owner in ("ann", "bob"):
                for name in ("s", "t"):
                    memory.session(name, owner=owner).add(f"I never eat the {owner}{name}canary.", turn_id="t1")
            for owner in ("ann", "bob"):
                assert memory.sessions(owner=owner) == ["s", "t"]
                for name in ("s", "t"):
                    session = memory.session(name, owner=owner)
                    assert said(session) == [f"I never eat the {owner}{name}canary."]
                    seen = str((session.recall("canary"), session.constraints(all=True), session.context("canary")))
                    assert seen.count("canary") > seen.count(f"{owner}{name}canary") - 1
                    for other in ("anns", "annt", "bobs", "bobt"):
                        assert (f"{other}canary" in seen) == (other == owner + name)

    def test_constraints_are_kept_and_ended(self, url: str) -> None:
        """Found, listed in order, revoked, expired; an owner's reach the other sessions."""
        now = [datetime(2026, 1, 1, tzinfo=UTC)]
        with Memory.open(url, clock=lambda: now[0]) as memory:
            session, other = memory.session("s", owner="ann"), memory.session("t", owner="ann")
            session.add("I am allergic to peanuts. Never suggest flights.", assistant("Noted."))
            session.add_constraint("Answer in French.", scope="owner")
            assert len(session.constraints()) == 3
            assert [constraint.text for constraint in other.constraints()] == ["Answer in French."]
            ended = session.revoke(session.constraints()[0].id)
            assert ended.state is ConstraintState.REVOKED
            assert len(session.constraints()) == 2
            assert len(session.constraints(all=True)) == 3
            now[0] += timedelta(days=1)
            assert len(session.constraints()) == 2

    def test_keywords_find_what_was_said(self, url: str) -> None:
        """What left the window is found by its words, best first."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            for number in range(40):
                session.add(f"Topic {number} is about gardens.", assistant("I see."))
            session.add("The code of the garage is 7714-B.", assistant("Noted."))
            assert session.recall("garage code")[0].entry.message.text.startswith("The code of the garage")
            assert session.recall("xylophone") == [] or "xylophone" not in session.recall("xylophone")[0].why

    def test_keyword_scores_are_those_of_rank_bm25(self, url: str) -> None:
        """Of every message and to 1e-6, after growth and a restart, whatever stands in other sessions."""
        draw = random.Random(5)
        words = ["garden", "gate", "river", "stone", "copper", "lantern", "harbour", "violet", "meadow", "winter"]
        texts = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(40)]
        queries = ["copper lantern", "the winter river garden", "stone stone gate", "violet and nothing else"]
        key = SessionKey("ann", "s")
        for start in (0, 25):
            with Memory.open(url) as memory:
                some = texts[start : start + 25]
                memory.session("s", owner="ann").add(*some)
                memory.session("s", owner="bob").add(*(text + " copper copper" for text in some))
                for query in queries:
                    memory.session("s", owner="ann").recall(query)
        with Memory.open(url) as memory:
            check_keyword_scores(memory, key, texts, queries)

    def test_vectors_are_kept(self, url: str) -> None:
        """Vectors come back as they were, by session and model; a mark is no vector."""
        key = SessionKey("ann", "s")
        rows = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
        with Memory.open(url) as memory:
            memory.session("s", owner="ann").add("a", "b", "c", "d")
            store = memory._store
            store.save_vectors(key, "m", [1, 2, 4], rows)
            store.skip_vectors(key, "m", [3])
            store.save_vectors(key, "m", [2, 9], rows[:2])
            assert store.unembedded(key, "m", limit=9) == []
            assert len(store.unembedded(key, "other", limit=9)) == 4
        with Memory.open(url) as memory:
            store = memory._store
            seqs, vectors = store.vectors(key, "m")
            assert seqs.tolist() == [1, 2, 4]
            np.testing.assert_array_equal(vectors, rows)
            assert store.vectors_of(key, "m", [4, 3, 7])[0].tolist() == [4]
            assert (store.count_vectors("m"), store.vector_keys("m")) == (3, [key])

    def test_earlier_versions_and_forks_are_what_was(self, url: str) -> None:
        """A version reads as it was then, the trail has one row a change, a fork goes on from there."""
        with Memory.open(url, writer="w") as memory:
            session = memory.session("s", owner="ann")
            session.add("I never drink coffee.", assistant("Noted."))
            then = session.context("Hm?").messages
            session.revoke(session.constraints()[0].id)
            session.add("Hello.", assistant("Hi."))
            assert session.at(1).context("Hm?").messages == then
            assert [event.version for event in session.events()] == [1, 1, 2, 3]
            fork = session.fork("f", at=1)
            assert (said(fork), fork.version, len(fork.constraints())) == (said(session)[:2], 2, 1)

    def test_the_head_weighs_what_the_session_holds(self, url: str) -> None:
        """Head and entries agree on the tokens, also of a fork, and after something was forgotten."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            for number in range(3):
                session.add(f"I paid {number} euros.", assistant("Noted."))
            session.fork("branch", at=2)
            session.forget(1)
            for name in ("s", "branch"):
                key = SessionKey("ann", name)
                held = memory._store.entries(key)
                assert memory._store.head(key).tokens == sum(one.tokens for one in held) > 0

    def test_forgotten_is_gone(self, url: str) -> None:
        """A message leaves a tombstone, a session its version, an owner nothing; others are whole."""
        with Memory.open(url) as memory:
            session, other = memory.session("s", owner="ann"), memory.session("s", owner="bob")
            for one in (session, other):
                one.add("The code is quagga-7731.", assistant("Noted."))
                one.add("I never drink coffee.", assistant("Noted."))
            assert session.forget(1).complete
            assert said(session)[0] == FORGOTTEN
            assert not [hit for hit in session.recall("quagga-7731") if "quagga" in hit.entry.message.text]
            version = session.version
            session.forget()
            assert (session.history(), session.constraints(all=True)) == ([], ())
            assert session.add("Hello.") > version
            assert memory.forget(owner="ann").counts["sessions"] == 1
            assert memory.sessions(owner="ann") == []
            assert len(other.history()) == 4

    def test_a_refused_write_changes_nothing(self, url: str) -> None:
        """A turn with one message that cannot be kept is refused whole, and the session goes on."""
        with Memory.open(url) as memory:
            session = memory.session("s", owner="ann")
            bad = Message(role=Role.USER, blocks=(Text("x"),), metadata={"a": float("nan")})
            refused(LangmemPluginError, lambda: session.add("Hello.", bad))
            refused(LangmemPluginError, lambda: session.add("Hello.", user("x", id="\0")))
            refused(LangmemPluginError, lambda: memory.session("\ud800", owner="ann"))
            refused(LangmemPluginError, lambda: memory.session("é" * 513, owner="ann"))
            assert (session.history(), session.version) == ([], 0)
            session.add("Hello.")
            assert said(session) == ["Hello."]

    def test_spending_and_corrections_are_read_again(self, url: str) -> None:
        """What messages say was used, of committed and pending turns, and what was learned outlive the process."""
        used = Usage(input_tokens=1_250, output_tokens=10, total_tokens=1_260)
        with Memory.open(url) as memory:
            memory.session("s", owner="ann").add("Hello", replace(assistant("Hi"), usage=used))
            memory.session("t", owner="ann").begin("And?").append(replace(assistant("So."), usage=used))
            memory.session("s", owner="ann").report_usage(used, counted=1_000, model="m")
        with Memory.open(url) as memory:
            assert memory.spent(owner="ann").total_tokens == 2_520
            assert memory.spent(owner="ann", session="s").calls == 1
            assert memory.spent(owner="bob").calls == 0
            assert memory.status()["corrections"]["m"].ratio == 1.25
            assert [one.owner for one in memory.owners()] == ["ann"]

    def test_a_closed_memory_says_so(self, url: str) -> None:
        """Every call after close is one typed error; closing again is none."""
        memory = Memory.open(url)
        session = memory.session("s", owner="ann")
        memory.close()
        memory.close()
        for call in (session.history, lambda: session.add("Hello."), lambda: session.context("Hello.")):
            refused(StoreClosed, call)

    def test_any_mix_of_calls_agrees_with_a_plain_list(self, url: str) -> None:
        """A hundred random begins, appends, commits, aborts, restarts and forgets: the log is the list's."""
        rng = random.Random(7)
        model: dict[str, list[str]] = {"ann": [], "bob": []}
        memory = Memory.open(url)
        try:
            for step in range(100):
                owner = rng.choice(("ann", "bob"))
                session = memory.session("s", owner=owner)
                match rng.randrange(8):
                    case 0 | 1 | 2:
                        session.add(f"q{step}", assistant(f"a{step}"))
                        model[owner] += [f"q{step}", f"a{step}"]
                    case 3 | 4:
                        turn = session.begin(f"q{step}")
                        turn.append(f"a{step}")
                        if rng.random() < 0.5:
                            turn.commit()
                            model[owner] += [f"q{step}", f"a{step}"]
                        else:
                            turn.abort()
                    case 5 if model[owner]:
                        place = rng.randrange(len(model[owner]))
                        session.forget(place + 1)
                        model[owner][place] = FORGOTTEN
                    case 6 if rng.random() < 0.3:
                        memory.forget(owner=owner)
                        model[owner] = []
                    case 7 if rng.random() < 0.3:
                        memory.close()
                        memory = Memory.open(url)
            for owner, texts in model.items():
                session = memory.session("s", owner=owner)
                assert said(session) == texts
                _check_log(session.history())
        finally:
            memory.close()


def _check_log(entries: list[Entry]) -> None:
    """Numbers from 1 without gaps, the entries of a turn side by side."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    turns = [entry.turn for entry in entries]
    runs = [turn for place, turn in enumerate(turns) if place == 0 or turns[place - 1] != turn]
    assert len(runs) == len(set(runs))
