"""Random histories of calls, crashes and restarts against a plain model, on every backend (guarantees G4 to G7, G11).

`LANGMEM_PLUGIN_EXAMPLES=2000 pytest tests/test_store_machine.py` runs longer.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from langmem_plugin import Memory
from langmem_plugin.errors import TurnClosed, VersionConflict
from langmem_plugin.messages import FORGOTTEN, assistant

EXAMPLES = int(os.environ.get("LANGMEM_PLUGIN_EXAMPLES", "6"))
STEPS = 30

OWNERS = st.sampled_from(["ann", "bob"])
SESSIONS = st.sampled_from(["a", "b", "c"])
TURNS = st.sampled_from(["t1", "t2", "t3", "t4"])
WORDS = st.text(st.characters(codec="utf-16", exclude_categories=()), max_size=12)


@dataclass
class Plain:
    """A session as a list."""

    log: list[tuple[str, str]] = field(default_factory=list)
    """Turn and text of each message."""
    open: dict[str, list[str]] = field(default_factory=dict)
    """Texts of the pending turns."""
    written: bool = False
    """Whether its version is above 0."""
    forgotten: bool = False
    """Its version may have survived it."""

    def forget(self) -> None:
        self.log.clear()
        self.open.clear()
        self.written, self.forgotten = False, True

    @property
    def committed(self) -> set[str]:
        return {turn for turn, _ in self.log}


class Conversations(RuleBasedStateMachine):
    """Each example has owners of its own, so that all of them may share a database."""

    examples = 0

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.kept = url != "sqlite://"
        self.abandoned: list[Memory] = []
        self.plain: dict[tuple[str, str], Plain] = {}
        self.turns: dict[tuple[str, str, str], object] = {}
        self.count = 0
        self.touched: tuple[str, str] | None = None

    @initialize()
    def open(self) -> None:
        Conversations.examples += 1
        self.example = f"{Conversations.examples}-{os.getpid()}"
        self.memory = Memory.open(self.url)

    def at(self, owner: str, name: str) -> tuple[object, Plain]:
        """The session and what it should be."""
        self.touched = (owner, name)
        session = self.memory.session(name, owner=self.owner(owner))
        return session, self.plain.setdefault((owner, name), Plain())

    def owner(self, name: str) -> str:
        return f"{name} {self.example}"

    def text(self, words: str) -> str:
        self.count += 1
        return f"{words} {self.count}"

    @rule(owner=OWNERS, name=SESSIONS, turn=TURNS, words=WORDS)
    def add(self, owner, name, turn, words):
        session, plain = self.at(owner, name)
        question, answer = self.text(words), self.text(words)
        session.add(question, assistant(answer), turn_id=turn)
        if turn not in plain.committed:
            plain.open.pop(turn, None)
            plain.log += [(turn, question), (turn, answer)]
        plain.written = True

    @rule(owner=OWNERS, name=SESSIONS, turn=TURNS, words=WORDS)
    def begin(self, owner, name, turn, words):
        session, plain = self.at(owner, name)
        text = self.text(words)
        begun = session.begin(text, turn_id=turn)
        if turn in plain.committed:
            assert begun.state == "committed"
            return
        plain.open.setdefault(turn, []).append(text)
        assert [message.text for message in begun.messages] == plain.open[turn]
        self.turns[owner, name, turn] = begun

    @rule(owner=OWNERS, name=SESSIONS, turn=TURNS, words=WORDS, whole=st.booleans())
    def stream(self, owner, name, turn, words, whole):
        """An answer that comes in parts; one that breaks off leaves nothing."""
        held = self.turns.get((owner, name, turn))
        _, plain = self.at(owner, name)
        if held is None or turn not in plain.open:
            return
        text = self.text(words)
        chunks = held.stream([text[:3], text[3:]])
        next(iter(chunks))
        if not whole:
            return  # nobody reads on
        assert "".join(chunks) == text[3:]
        plain.open[turn].append(text)

    @rule(owner=OWNERS, name=SESSIONS, turn=TURNS)
    def commit(self, owner, name, turn):
        held = self.turns.pop((owner, name, turn), None)
        _, plain = self.at(owner, name)
        if held is None:
            return
        if turn in plain.open:
            held.commit()
            plain.log += [(turn, text) for text in plain.open.pop(turn)]
            plain.written = True
        elif turn in plain.committed:
            held.commit()
        else:
            with pytest.raises(TurnClosed):
                held.commit()

    @rule(owner=OWNERS, name=SESSIONS, turn=TURNS)
    def abort(self, owner, name, turn):
        held = self.turns.pop((owner, name, turn), None)
        _, plain = self.at(owner, name)
        if held is not None:
            held.abort()
            plain.open.pop(turn, None)

    @rule(owner=OWNERS, name=SESSIONS, to=SESSIONS)
    def fork(self, owner, name, to):
        session, plain = self.at(owner, name)
        target = self.plain.setdefault((owner, to), Plain())
        if name == to:
            return
        try:
            session.fork(to)
        except VersionConflict:
            assert target.written or target.forgotten or not plain.written or plain.forgotten
            return
        assert not target.written
        target.log = list(plain.log)
        target.written = True
        self.touched = (owner, to)

    @rule(owner=OWNERS, name=SESSIONS)
    def forget_session(self, owner, name):
        session, plain = self.at(owner, name)
        session.forget()
        plain.forget()

    @rule(owner=OWNERS, name=SESSIONS, place=st.integers(0, 20))
    def forget_message(self, owner, name, place):
        session, plain = self.at(owner, name)
        if place < len(plain.log):
            session.forget(place + 1)
            plain.log[place] = (plain.log[place][0], FORGOTTEN)

    @rule(owner=OWNERS)
    def forget_owner(self, owner):
        self.memory.forget(owner=self.owner(owner))
        for (whose, _), plain in self.plain.items():
            if whose == owner:
                plain.forget()

    @precondition(lambda self: self.kept)
    @rule()
    def restart(self):
        self.memory.close()
        self.memory = Memory.open(self.url)
        self.turns.clear()

    @precondition(lambda self: self.kept)
    @rule()
    def crash(self):
        """The process is gone and closes nothing; another one opens the store."""
        self.abandoned.append(self.memory)
        self.memory = Memory.open(self.url)
        self.turns.clear()

    @invariant()
    def reads_what_the_model_says(self):
        if self.touched is not None:
            owner, name = self.touched
            entries = self.memory.session(name, owner=self.owner(owner)).history()
            assert [(one.turn, one.message.text) for one in entries] == self.plain[owner, name].log
            assert [one.seq for one in entries] == list(range(1, len(entries) + 1))

    def teardown(self) -> None:
        for owner, name in self.plain:
            self.touched = (owner, name)
            self.reads_what_the_model_says()
        for memory in (*self.abandoned, self.memory):
            memory.close()


@pytest.mark.parametrize("backend", ["sqlite file", "sqlite memory", "postgres", "redis"])
def test_any_history_of_calls_ends_as_a_plain_list_would(backend, tmp_path, request):
    """Turns added, begun, streamed, committed, aborted, forked, forgotten, over crashes and restarts, by two owners."""
    urls = {
        "sqlite file": lambda: f"sqlite:///{tmp_path / 'memory.db'}",
        "sqlite memory": lambda: "sqlite://",
        "postgres": lambda: request.getfixturevalue("postgres_url"),
        "redis": lambda: request.getfixturevalue("redis_url"),
    }
    url = urls[backend]()
    run_state_machine_as_test(
        lambda: Conversations(url),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.generate,),  # what fails is long, and long to make shorter
            derandomize=EXAMPLES == 6,
        ),
    )
