"""How a session came to be what it is: its commits and its summaries."""

from __future__ import annotations

from langmem_plugin import Budget, Memory, MemoryConfig
from langmem_plugin.messages import assistant
from langmem_plugin.records import SessionKey
from langmem_plugin.store.protocol import Past


def test_the_past_has_every_commit_and_every_summary():
    """G12: each committed turn and each summary with its version; nothing of an open turn."""
    config = MemoryConfig(budget=Budget(max_tokens=700, completion=100))
    with Memory.open(config=config) as memory:
        session = memory.session("s", owner="ann")
        versions = []
        for number in range(12):
            versions.append(session.add(f"Tell me about street {number}. " * 5, assistant("It has cafes. " * 8)))
            assert memory.wait(timeout_s=30)
        session.begin("still open")
        past = memory._store.past(SessionKey("ann", "s"))
        assert [commit.version for commit in past.commits] == versions
        assert [commit.first_seq for commit in past.commits] == list(range(1, 25, 2))
        assert past.summaries
        assert not set(versions) & {summary.created_version for summary in past.summaries}
        reached = [summary.upto_seq for summary in past.summaries]
        assert reached == sorted(reached)
        assert memory._store.past(SessionKey("bob", "s")) == Past()
