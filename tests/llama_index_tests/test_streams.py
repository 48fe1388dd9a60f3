"""Streams that nobody reads to the end: nothing is lost, and roles stay in order."""

import asyncio
import itertools
import threading

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.chat_engine import ContextChatEngine, SimpleChatEngine


@pytest.fixture
def slow(scripted):
    """An LLM whose streams wait for `gate` after their first word."""

    def make(*script):
        llm = scripted(*script)
        gate = threading.Event()
        whole = llm._parts

        def parts(message):
            for number, part in enumerate(whole(message)):
                if number:
                    gate.wait(5)
                yield part

        object.__setattr__(llm, "_parts", parts)
        return llm, gate

    return make


def test_an_abandoned_stream_is_stored_whole(scripted, buffer, said):
    """Who stops reading still finds the whole answer in the history (upstream issue 20895)."""
    engine = SimpleChatEngine.from_defaults(llm=scripted("one two three"), memory=buffer)
    response = engine.stream_chat("Count.")
    stream = response.response_gen
    next(stream)
    stream.close()
    assert said(engine.chat_history) == [("user", "Count."), ("assistant", "one two three")]


def test_an_undrained_stream_is_stored(scripted, buffer, said):
    """A stream that is never read at all is stored by its own thread."""
    engine = SimpleChatEngine.from_defaults(llm=scripted("one two three"), memory=buffer)
    response = engine.stream_chat("Count.")
    response.write_response_to_history_thread.join()
    assert said(engine.chat_history) == [("user", "Count."), ("assistant", "one two three")]


@pytest.mark.parametrize("kind", ["simple", "context"])
def test_a_late_answer_joins_its_own_question(kind, slow, buffer, retriever, said):
    """The user went on before the first answer was there: both answers are kept, in order, each in its turn."""
    llm, gate = slow("one two three", "four")
    if kind == "simple":
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer)
    else:
        engine = ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=buffer)
    abandoned = engine.stream_chat("First?")
    writer = abandoned.write_response_to_history_thread
    buffer.put(ChatMessage(role="user", content="Second?"))  # what the engine puts first
    gate.set()
    writer.join()
    assert said(buffer.get_all()) == [("user", "First?"), ("assistant", "one two three"), ("user", "Second?")]
    buffer.put(ChatMessage(role="assistant", content="four"))
    assert said(buffer.get_all())[-2:] == [("user", "Second?"), ("assistant", "four")]


async def test_a_late_async_answer_joins_its_own_question(scripted, buffer, said):
    """The same with tasks in place of threads."""
    gate = asyncio.Event()
    llm = scripted("unused")

    async def astream_chat(messages, **kwargs):
        async def parts():
            yield ChatResponse(message=ChatMessage(role="assistant", content="one"), delta="one")
            await gate.wait()
            yield ChatResponse(message=ChatMessage(role="assistant", content="one two"), delta=" two")

        return parts()

    object.__setattr__(llm, "astream_chat", astream_chat)
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer)
    abandoned = await engine.astream_chat("First?")
    await asyncio.sleep(0)
    await buffer.aput(ChatMessage(role="user", content="Second?"))
    gate.set()
    await abandoned.awrite_response_to_history_task
    await buffer.aput(ChatMessage(role="assistant", content="four"))
    assert said(buffer.get_all()) == [
        ("user", "First?"),
        ("assistant", "one two"),
        ("user", "Second?"),
        ("assistant", "four"),
    ]


def test_a_late_answer_after_the_next_one_is_kept(slow, buffer, said):
    """Even when the second answer comes first, nothing is lost and the next request is valid."""
    llm, gate = slow("one two three")
    engine = SimpleChatEngine.from_defaults(llm=llm, memory=buffer)
    writer = engine.stream_chat("First?").write_response_to_history_thread
    buffer.put(ChatMessage(role="user", content="Second?"))
    buffer.put(ChatMessage(role="assistant", content="four"))
    gate.set()
    writer.join()
    assert sorted(text for _, text in said(buffer.get_all())) == ["First?", "Second?", "four", "one two three"]
    roles = [m.role.value for m in buffer.get()]
    assert all(one != other for one, other in itertools.pairwise(roles))


async def test_a_cancelled_stream_still_stores_its_answer(scripted, buffer, said):
    """Cancelling the reader leaves the writer, which stores the answer."""
    engine = SimpleChatEngine.from_defaults(llm=scripted("one two three"), memory=buffer)
    response = await engine.astream_chat("Count.")

    async def read():
        async for _ in response.async_response_gen():
            await asyncio.sleep(10)

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.2)
    task = response.awrite_response_to_history_task
    reader.cancel()
    await asyncio.gather(reader, task, return_exceptions=True)
    assert said(buffer.get_all()) == [("user", "Count."), ("assistant", "one two three")]
