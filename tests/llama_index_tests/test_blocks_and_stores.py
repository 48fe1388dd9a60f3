"""Our blocks in LlamaIndex's own Memory, and a memory as its chat store."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.memory import Memory as LlamaIndexMemory
from sqlalchemy.ext.asyncio import create_async_engine

from langmem_plugin import Memory
from langmem_plugin.errors import InvalidSetting
from llama_index.memory.langmem_plugin import ConstraintsBlock, HybridChatStore, RecallBlock

RULE = "Never call me before noon."


@pytest.fixture
def ours():
    with Memory.open() as memory:
        yield memory


@pytest.fixture
async def theirs(ours, tmp_path):
    """LlamaIndex's memory on an engine that is closed: its own is left to the collector."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'theirs.db'}")
    yield LlamaIndexMemory.from_defaults(
        async_engine=engine,
        session_id="s",
        token_limit=400,
        token_flush_size=100,
        chat_history_token_ratio=0.5,
        memory_blocks=[ConstraintsBlock(ours, owner="ann"), RecallBlock(ours, owner="ann", max_tokens=150)],
    )
    await engine.dispose()


async def test_a_rule_is_in_force_in_the_next_turn(theirs, ours, scripted):
    """G2: with the message still in the queue the rule is in the system message, and after it left it still is."""
    llm = scripted()
    agent = FunctionAgent(tools=[], llm=llm)
    await agent.run(user_msg=RULE, memory=theirs)
    await agent.run(user_msg="And now?", memory=theirs)
    assert RULE in llm.requests[-1][0].content
    assert llm.requests[-1][0].role == "system"
    for number in range(12):
        await agent.run(
            user_msg=f"Tell me of ship {number} and its crew of {number} men and all they saw.", memory=theirs
        )
    assert RULE not in [m.content for m in llm.requests[-1]]
    assert RULE in llm.requests[-1][0].content
    session = ours.session("s", owner="ann")
    assert [e.message.text for e in session.history()][:4] == [RULE, "ok", "And now?", "ok"]
    asked = [entry.message.text for entry in session.history() if entry.message.role == "user"]
    assert len(asked) == len(set(asked)) == 14


async def test_recall_brings_what_left_the_queue(theirs, scripted):
    """A question about the past finds its message, which the queue does not show any more."""
    llm = scripted()
    agent = FunctionAgent(tools=[], llm=llm)
    await agent.run(user_msg="The lighthouse keeper is called Ignatius Brown.", memory=theirs)
    for number in range(14):
        await agent.run(
            user_msg=f"Tell me of ship {number} and its crew of {number} men and all they saw.", memory=theirs
        )
    assert "Ignatius" not in "\n".join(m.content for m in llm.requests[-1])
    await agent.run(user_msg="What is the lighthouse keeper called?", memory=theirs)
    assert "Ignatius Brown" in llm.requests[-1][0].content


async def test_what_was_shown_twice_is_kept_once(theirs, ours):
    """G5: reads and flushes of the same messages add nothing."""
    block = theirs.memory_blocks[0]
    said = [ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b")]
    for _ in range(3):
        await block.aget(said, session_id="s")
        await block.aput(said, from_short_term_memory=True, session_id="s")
    await block.aget([*said[1:], ChatMessage(role="user", content="c")], session_id="s")
    assert [e.message.text for e in ours.session("s", owner="ann").history()] == ["a", "b"]
    assert "session_id" not in ours.session("s", owner="ann").history()[0].message.metadata


async def test_a_block_without_a_session(ours):
    """Neither the block nor its memory names one: a typed error; nothing to show is no error."""
    with pytest.raises(InvalidSetting, match="session_id"):
        await ConstraintsBlock(ours, owner="ann").aget([ChatMessage(role="user", content="a")])
    assert await RecallBlock(ours, owner="ann", session_id="s").aget([]) == ""
    await ConstraintsBlock(ours, owner="ann").aput([])


@pytest.fixture
def store(ours):
    return HybridChatStore(ours, owner="ann")


def test_a_chat_store(store, said):
    """LlamaIndex's contract: add, set, get, delete by place, delete all, keys."""
    messages = [ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b")]
    assert store.get_keys() == store.get_messages("one") == []
    store.set_messages("one", messages)
    store.add_message("two", messages[0])
    assert store.get_keys() == ["one", "two"]
    assert said(store.get_messages("one")) == [("user", "a"), ("assistant", "b")]
    assert store.delete_message("one", 9) is None
    assert store.delete_last_message("one").content == "b"
    assert said(store.get_messages("one")) == [("user", "a")]
    assert [m.content for m in store.delete_messages("one")] == ["a"]
    assert store.delete_messages("one") is None
    assert store.get_keys() == ["two"]


async def test_a_chat_store_async(store, ours):
    """The async methods do the same, at once on several keys, and owners are apart (G7)."""
    await asyncio.gather(
        *(store.async_add_message(f"k{n}", ChatMessage(role="user", content=str(n))) for n in range(6))
    )
    assert sorted(await store.aget_keys()) == [f"k{n}" for n in range(6)]
    assert (await store.aget_messages("k3"))[0].content == "3"
    assert await HybridChatStore(ours, owner="bob").aget_keys() == []


def test_a_buffer_of_llamaindex_over_the_store(store, ours):
    """ChatMemoryBuffer keeps its messages durably in our session."""
    buffer = ChatMemoryBuffer.from_defaults(chat_store=store, chat_store_key="s", token_limit=500)
    buffer.put(ChatMessage(role="user", content=RULE))
    buffer.put(ChatMessage(role="assistant", content="Noted."))
    assert [c.text for c in ours.session("s", owner="ann").constraints()] == [RULE]
    assert len(buffer.get()) == 2
