"""The suite that grades chat histories: ours holds every clause, and a history that breaks one is found out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict

import pytest
from langchain_core.chat_history import BaseChatMessageHistory, InMemoryChatMessageHistory
from langchain_core.messages import AIMessage, messages_from_dict, messages_to_dict

from langchain_langmem_plugin import HybridChatMessageHistory
from langmem_plugin import Budget, Memory
from langmem_plugin.cli import main
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.evaluation import history_clauses
from langmem_plugin.evaluation.history_clauses import CLAUSES, Broken, Histories, Refused
from langmem_plugin.evaluation.history_conformance import grade, made_by

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.deprecation.LangChainDeprecationWarning")

OURS = """
from langchain_langmem_plugin import HybridChatMessageHistory
from langmem_plugin import Budget, Memory

memory = None

def history(session_id):
    global memory
    memory = memory or Memory.open({url!r})
    return HybridChatMessageHistory(
        session_id, memory=memory, owner="conformance", budget=Budget(max_tokens=1_000_000)
    )
"""


def test_our_history_on_redis_holds_every_clause(redis_url):
    """Those that one process can try."""
    with Memory.open(redis_url) as memory:
        budget = Budget(max_tokens=1_000_000)
        found = grade(lambda name: HybridChatMessageHistory(name, memory=memory, owner="conformance", budget=budget))
    assert {one.clause for one in found if one.grade == "broken"} == set()


def test_our_history_holds_every_clause(tmp_path):
    """On a SQLite file: `langmem-plugin conformance` finds nothing broken, and exits with 0."""
    (tmp_path / "ours.py").write_text(OURS.format(url=f"sqlite:///{tmp_path / 'memory.db'}"))
    done = subprocess.run(
        [sys.executable, "-m", "langmem_plugin.cli", "conformance", "ours:history", "--kills=1", "--json=out.json"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert {(one["clause"], one["grade"]) for one in found if one["grade"] != "holds"} == set()
    assert len(found) == len(CLAUSES) + 2
    assert f"{len(found)} of {len(found)} clauses hold" in done.stdout


def test_langchains_own_history_is_graded():
    """InMemoryChatMessageHistory keeps what it is given, repeats too, and hands out its own list."""
    held = defaultdict(InMemoryChatMessageHistory)
    found = {one.clause: one.grade for one in grade(lambda session_id: held[session_id])}
    assert {clause for clause, graded in found.items() if graded == "broken"} == {
        "what was read is the readers",
        "what is sent again is there once",
    }
    assert [clause for clause, graded in found.items() if graded == "unknown"] == [
        "another process sees it",
        "killed writers leave whole turns",
    ]


class Kept(BaseChatMessageHistory):
    """A sound history in memory; the others below break one thing each."""

    sessions: dict[str, list]
    lock = threading.RLock()

    def __init__(self, session_id):
        self.id = session_id

    @property
    def messages(self):
        with self.lock:
            return messages_from_dict(list(self.sessions.setdefault(self.id, [])))

    def add_messages(self, messages):
        with self.lock:
            rows = messages_to_dict(messages)
            json.dumps(rows)
            known = {row["data"].get("id") for row in self.sessions.setdefault(self.id, [])} - {None}
            self.sessions[self.id] += [row for row in rows if row["data"].get("id") not in known]

    def clear(self):
        with self.lock:
            self.sessions[self.id] = []


class Greeting(Kept):
    @property
    def messages(self):
        return [AIMessage("How can I help?"), *super().messages]


class Sorted(Kept):
    @property
    def messages(self):
        return sorted(super().messages, key=lambda message: str(message.content))


class Stripped(Kept):
    def add_messages(self, messages):
        super().add_messages([one.model_copy(update={"content": str(one.content).strip()}) for one in messages])


class Failing(Kept):
    @property
    def messages(self):
        found = super().messages
        str([one.content for one in found]).encode()
        "".join(str(one.content) for one in found).encode()
        return found


class TextAlone(Kept):
    def add_messages(self, messages):
        super().add_messages([type(one)(content=one.content, tool_call_id="c1", id=one.id) for one in messages])


class Cached(Kept):
    def __init__(self, session_id):
        super().__init__(session_id)
        self.held = list(super().messages)

    @property
    def messages(self):
        return self.held

    def add_messages(self, messages):
        super().add_messages(messages)
        self.held = list(super().messages)


class ClearsAll(Kept):
    def clear(self):
        self.sessions.clear()


class Folded(Kept):
    def __init__(self, session_id):
        super().__init__(session_id.strip().casefold())


class SharedList(Kept):
    views: dict[str, list]

    @property
    def messages(self):
        found = self.views.setdefault(self.id, [])
        held = super().messages
        found[: len(held)] = held
        return found


class Repeats(Kept):
    def add_messages(self, messages):
        with self.lock:
            self.sessions.setdefault(self.id, []).extend(messages_to_dict(messages))
            json.dumps(self.sessions[self.id])


class OneByOne(Kept):
    def add_messages(self, messages):
        for message in messages:
            super().add_messages([message])
            time.sleep(0.0005)


class ReadThenWrite(Kept):
    def add_messages(self, messages):
        held = list(self.sessions.setdefault(self.id, []))
        time.sleep(0.001)
        self.sessions[self.id] = held + messages_to_dict(messages)


class AsyncElsewhere(Kept):
    async def aclear(self):
        return


def grades(kind):
    """Which clauses a kind of history breaks."""
    made = type(kind.__name__, (kind,), {"sessions": {}, "views": {}, "lock": threading.RLock()})
    return {one.clause.replace(" ", "_") for one in grade(made) if one.grade == "broken"}


def test_a_sound_history_breaks_nothing():
    """The one that the others are made of."""
    assert grades(Kept) == set()


@pytest.mark.parametrize(
    ("kind", "clause"),
    [
        (Greeting, "a_new_session_is_empty"),
        (Sorted, "order_is_kept"),
        (Stripped, "odd_text_is_kept"),
        (Failing, "what_no_model_takes_costs_nothing_else"),
        (TextAlone, "messages_are_kept_whole"),
        (Cached, "another_object_sees_the_same"),
        (ClearsAll, "clearing_empties_one_session"),
        (Folded, "sessions_are_apart"),
        (SharedList, "what_was_read_is_the_readers"),
        (Repeats, "what_is_sent_again_is_there_once"),
        (Repeats, "a_batch_that_fails_leaves_nothing"),
        (ReadThenWrite, "threads_lose_nothing"),
        (OneByOne, "batches_stay_together"),
        (OneByOne, "readers_see_whole_batches"),
        (AsyncElsewhere, "async_does_the_same"),
    ],
)
def test_what_is_broken_is_found(kind, clause):
    """Each clause is broken by a history that is made to break it."""
    made = type(kind.__name__, (kind,), {"sessions": {}, "views": {}, "lock": threading.RLock()})
    broken = False
    try:
        getattr(history_clauses, clause)(Histories(made))
    except Refused:
        broken = False
    except Exception as error:  # noqa: BLE001 - as the report counts it
        broken = isinstance(error, Broken) or not isinstance(error, AssertionError)
    assert broken


def test_what_is_no_factory_is_refused(tmp_path, monkeypatch, capsys):
    """A name that leads nowhere, and what makes something else, are typed errors; the command exits with 1."""
    monkeypatch.chdir(tmp_path)
    for name in ("nowhere:f", "json:nothing", "json", "json:__name__"):
        with pytest.raises(InvalidSetting, match=r"MODULE:FACTORY|function"):
            made_by(name)
    with pytest.raises(InvalidSetting, match="chat history"):
        grade(lambda session_id: session_id)  # type: ignore[arg-type, return-value]
    assert main(["conformance", "json:dumps"]) == 1
    assert main(["conformance", "json:dumps", "--kills=0"]) == 1
    assert "langmem-plugin: " in capsys.readouterr().err
