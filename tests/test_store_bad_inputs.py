"""Hostile and odd text through every string that a session takes: kept byte for byte, or refused by a typed error."""

from __future__ import annotations

import json
import random

import pytest

from langmem_plugin import Memory
from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.messages import Message, Role, Text, ToolCall, assistant
from langmem_plugin.testing.stores import ODD_TEXTS

BUILT_IN = [
    *ODD_TEXTS[:-1],
    "' OR 1=1 --",
    '"; DELETE FROM sessions; --',
    "$$; SELECT pg_sleep(10); $$",
    "NEAR(a b) OR *",
    '{"lc": 1, "type": "constructor", "id": ["os", "system"]}',
    "cos\nsystem\n(S'true'\ntR.",
    "!!python/object/apply:os.system ['true']",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%n%s%x",
    "a" * 513,
    "é" * 512,
    "\x00\x01\x02\x1b[31m",
    "́" * 2_000,
]


def mutated(rng, text):
    """The text with a few characters changed, cut, doubled or put in."""
    odd = "\0\ud800\udfff\u2028\x85'\"\\;%:${}\n\r😀"
    letters = list(text[:2_000])
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(letters))
        match rng.randrange(3):
            case 0:
                letters[place:place] = rng.choice(odd)
            case 1:
                del letters[place : place + rng.randint(1, 5)]
            case _:
                letters[place:place] = letters[place : place + 20]
    return "".join(letters)


def whole(text):
    """The text in every field of a message."""
    return Message(
        role=Role.USER,
        blocks=(Text(text),),
        tool_calls=(ToolCall(id=text, name=text, arguments=text),),
        tool_call_id=text,
        name=text,
        metadata={"text": text, "list": [text], "of": {text: text}},
    )


def outcome(call):
    """What a call gives, or the name of the typed error that it raises; any other error fails the test."""
    try:
        return call()
    except LangmemPluginError as error:
        return type(error).__name__


def tried(url, texts):
    """What became of each text, as content and as a name; and the log, which is then what was kept."""
    found = []
    with Memory.open(url) as memory:
        log = memory.session("log", owner="ann")
        log.add(*map(whole, texts))
        assert [entry.message for entry in log.history()] == [whole(text) for text in texts]
        for text in texts:
            found.append(outcome(lambda text=text: len(log.recall(text)) >= 0))
            found.append(outcome(lambda text=text: memory.session(text, owner=text).add("Hello.", turn_id=text)))
            found.append(outcome(lambda text=text: log.add(Message(role=Role.USER, blocks=(Text("x"),), id=text))))
            found.append(outcome(lambda text=text: log.add_constraint(text).text))
            found.append(outcome(lambda text=text: log.revoke(text)))
            found.append(outcome(lambda text=text: memory.forget(owner=text, session=text).counts.get("sessions")))
        assert memory.session("log", owner="ann").history()[: len(texts)] == log.history()[: len(texts)]
        assert not [owner for owner in memory.sessions(owner="ann") if owner != "log"]
    return found


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'memory.db'}"


def test_odd_text_means_the_same_to_every_backend(sqlite_url, postgres_url, redis_url):
    """Each text is kept or refused, by all backends alike, as content, name, id, constraint and question."""
    rng = random.Random(5)
    texts = BUILT_IN + [mutated(rng, rng.choice(BUILT_IN)) for _ in range(12)]
    expected = tried(sqlite_url, texts)
    assert tried(postgres_url, texts) == expected
    assert tried(redis_url, texts) == expected


def test_the_collected_bad_inputs_are_kept_exactly(sqlite_url, data_dir):
    """Every string of the collections comes back as it was, after reopening, and can be asked for."""
    folder = data_dir / "bad_inputs"
    texts = [text for text in json.loads((folder / "blns.json").read_text("utf-8")) if isinstance(text, str)]
    texts += (folder / "utf8tests.txt").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    rng = random.Random(6)
    texts += [mutated(rng, rng.choice(texts)) for _ in range(2_000)]
    with Memory.open(sqlite_url) as memory:
        session = memory.session("s", owner="ann")
        for start in range(0, len(texts), 500):
            session.add(*(assistant(text) for text in texts[start : start + 500]))
    expected = [assistant(text) for text in texts]
    with Memory.open(sqlite_url) as memory:
        session = memory.session("s", owner="ann")
        assert [entry.message for entry in session.history()] == expected
        for text in texts[::25]:
            session.recall(text)


def test_what_is_too_large_or_too_deep_is_refused_at_once(sqlite_url):
    """A hundred megabytes of text and JSON of a hundred thousand levels are typed errors; nothing is kept."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with Memory.open(sqlite_url) as memory:
        session = memory.session("s", owner="ann")
        for message in (assistant("x" * 100_000_000), Message(role=Role.USER, metadata={"deep": deep})):
            with pytest.raises(LangmemPluginError):
                session.add("Hello.", message)
        assert session.history() == []
    while deep:  # or freeing it would overflow the stack
        deep = deep[0]
