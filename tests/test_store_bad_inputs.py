"""Hostile and odd text through every string that a session takes: kept byte for byte, or refused by a typed error."""

from __future__ import annotations

import json
import random

import pytest

from langmem_plugin import Memory
from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.evaluation.inputs import HOSTILE, measure, mutated, to_markdown, tried
from langmem_plugin.messages import Message, Role, assistant


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'memory.db'}"


def test_odd_text_means_the_same_to_every_backend(sqlite_url, postgres_url, redis_url):
    """Each text is kept or refused, by all backends alike, as content, name, id, constraint and question."""
    rng = random.Random(5)
    texts = [*HOSTILE, *(mutated(rng, rng.choice(HOSTILE)) for _ in range(12))]
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


def test_the_evaluation_counts_what_differs(monkeypatch):
    """`eval inputs` counts texts and outcomes; an error that is not typed is a crash and does not pass."""
    found = measure(mutations=3)
    assert found["passed"]
    assert found["outcomes"]["done"] > found["outcomes"]["InvalidSetting"] > 0
    monkeypatch.setattr("langmem_plugin.evaluation.inputs.tried", lambda _url, _texts: 1 // 0)
    found = measure(mutations=3)
    assert not found["passed"]
    assert "| crashes | 1 |" in to_markdown(found)
