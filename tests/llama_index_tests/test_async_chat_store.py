"""A memory as the store below LlamaIndex's own Memory."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import Memory as LlamaIndexMemory
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from langmem_plugin import Memory
from langmem_plugin.errors import InvalidSetting
from llama_index.memory.langmem_plugin import (
    ConstraintsBlock,
    HybridAsyncChatStore,
    HybridChatMemoryBuffer,
    RecallBlock,
)

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED
RULE = "Never call me before noon."


@pytest.fixture
def ours(tmp_path):
    with Memory.open(f"sqlite:///{tmp_path / 'ours.db'}") as memory:
        yield memory


@pytest.fixture
def store(ours):
    return HybridAsyncChatStore(ours, owner="ann")


def chats(*texts):
    return [ChatMessage(role="user" if n % 2 == 0 else "assistant", content=text) for n, text in enumerate(texts)]


async def texts(store, status=ACTIVE, **given):
    return [message.content for message in await store.get_messages("k", status, **given)]


def over(store, *blocks, limit=400):
    if "chat_store" not in inspect.signature(LlamaIndexMemory.from_defaults).parameters:
        pytest.skip("this llama-index-core takes no chat store")
    return LlamaIndexMemory.from_defaults(
        chat_store=store,
        session_id="k",
        token_limit=limit,
        token_flush_size=100,
        chat_history_token_ratio=0.5,
        memory_blocks=list(blocks),
    )


async def test_every_method_of_the_interface(store):
    """LlamaIndex's contract: add, get by status, count, archive, delete the oldest, by place and all, set, keys."""
    assert isinstance(store, AsyncDBChatStore)
    assert await store.get_keys() == await store.get_messages("k") == []
    await store.add_message("k", chats("a")[0])
    await store.add_messages("k", [ChatMessage(role="assistant", content="b"), *chats("c", "d", "e", "f")])
    assert await texts(store) == list("abcdef")
    assert [m.content for m in await store.archive_oldest_messages("k", 2)] == ["a", "b"]
    assert await texts(store) == list("cdef")
    assert await texts(store, ARCHIVED) == list("ab")
    assert await texts(store, None) == list("abcdef")
    assert await texts(store, None, limit=2, offset=1) == list("bc")
    assert [await store.count_messages("k", status) for status in (ACTIVE, ARCHIVED, None)] == [4, 2, 6]
    assert [m.content for m in await store.delete_oldest_messages("k", 2)] == ["c", "d"]
    assert await texts(store, ARCHIVED) == list("ab")
    assert await texts(store) == list("ef")
    assert await store.delete_message("k", 9) is None
    assert (await store.delete_message("k", 0)).content == "a"
    assert (await texts(store, ARCHIVED), await texts(store)) == (["b"], ["e", "f"])
    await store.delete_messages("k", ARCHIVED)
    assert await texts(store, None) == list("ef")
    await store.set_messages("k", chats("g", "h"))
    await store.set_messages("other", chats("i", "j"), ARCHIVED)
    assert await texts(store, None) == list("gh")
    assert await store.count_messages("other", ARCHIVED) == 2
    assert await store.get_keys() == ["k", "other"]
    await store.delete_messages("k")
    assert await store.get_keys() == ["other"]
    assert await store.archive_oldest_messages("k", 3) == await store.delete_oldest_messages("k", 3) == []


async def test_the_archived_part_is_the_older_one(store):
    """An archived message after an active one cannot be kept: a typed error, and nothing changes."""
    await store.add_messages("k", chats("a", "b"))
    with pytest.raises(InvalidSetting, match="status"):
        await store.add_message("k", chats("c")[0], ARCHIVED)
    await store.archive_oldest_messages("k", 2)
    await store.add_messages("k", chats("c", "d"), ARCHIVED)
    assert await texts(store, ARCHIVED) == list("abcd")


async def test_statuses_survive_a_restart(store, ours):
    """G4: another process's store knows what was archived; a mark is no message."""
    await store.add_messages("k", chats("a", "b", "c", "d"))
    await store.archive_oldest_messages("k", 2)
    with Memory.open(ours.url) as again:
        other = HybridAsyncChatStore(again, owner="ann")
        assert (await texts(other, ARCHIVED), await texts(other)) == (list("ab"), list("cd"))
        assert [entry.message.text for entry in again.session("k", owner="ann").history()] == list("abcd")
        assert again.session("k", owner="ann").timeline().messages == 4


async def test_owners_and_tasks(store, ours):
    """G7: owners are apart; many tasks on several keys lose nothing."""
    await asyncio.gather(*(store.add_messages(f"k{n % 3}", chats(f"q{n}", f"a{n}")) for n in range(12)))
    assert [await store.count_messages(f"k{n}") for n in range(3)] == [8, 8, 8]
    assert await HybridAsyncChatStore(ours, owner="bob").get_keys() == []


async def test_below_an_agents_memory(store, ours, scripted):
    """What leaves the queue is archived, whole and durable, and a buffer goes on with all of it."""
    llm = scripted()
    agent = FunctionAgent(tools=[], llm=llm)
    theirs = over(store, ConstraintsBlock(ours, owner="ann"), RecallBlock(ours, owner="ann", max_tokens=150))
    await agent.run(user_msg=RULE, memory=theirs)
    for number in range(12):
        await agent.run(user_msg=f"Tell me of ship {number} and its crew of {number} men and all.", memory=theirs)
    assert RULE not in await texts(store)
    assert RULE in llm.requests[-1][0].content
    said = await texts(store, None)
    assert len(said) == 26
    assert said == [entry.message.text for entry in ours.session("k", owner="ann").history()]
    with Memory.open(ours.url) as memory:
        again = over(HybridAsyncChatStore(memory, owner="ann"))
        assert [m.content for m in await again.aget_all(ACTIVE)] == await texts(store)
    buffer = HybridChatMemoryBuffer.from_defaults(memory=ours, session_id="k", owner="ann", token_limit=600)
    assert RULE in buffer.get()[0].content
    await theirs.areset()
    assert buffer.get_all() == []


def test_sync_methods_of_memory(store):
    """Memory's sync methods run its async ones, each in a loop of its own."""
    theirs = over(store)
    theirs.put(ChatMessage(role="user", content="a"))
    theirs.put_messages([ChatMessage(role="assistant", content="b")])
    assert [m.content for m in theirs.get()] == ["a", "b"]
    theirs.set(chats("c"))
    assert [m.content for m in theirs.get_all()] == ["c"]
