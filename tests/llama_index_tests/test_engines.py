"""Each chat engine, sync and async: order, history, what the model is sent, errors and retries."""

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.llms import MockLLM
from llama_index.core.llms.mock import MockLLMWithNonyieldingChatStream
from llama_index.core.query_engine import CustomQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import QueryBundle

from langmem_plugin import Memory
from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer, with_constraints

ENGINES = ("simple", "context", "condense_plus_context", "condense_question")


class Echo(CustomQueryEngine):
    """Answers with the question."""

    def custom_query(self, query_str: str) -> str:
        return f"answer to {query_str}"


def build(kind, llm, memory, retriever, **settings):
    if kind == "simple":
        return SimpleChatEngine.from_defaults(llm=llm, memory=memory, **settings)
    if kind == "context":
        return ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=memory, **settings)
    if kind == "condense_plus_context":
        return CondensePlusContextChatEngine.from_defaults(
            retriever=retriever, llm=llm, memory=memory, skip_condense=True, **settings
        )
    return CondenseQuestionChatEngine.from_defaults(query_engine=Echo(), llm=llm, memory=memory)


@pytest.fixture(params=ENGINES)
def kind(request):
    return request.param


def test_two_exchanges(kind, scripted, buffer, retriever, said):
    """After each exchange the history is the user's message and the answer, and nothing else."""
    engine = build(kind, scripted(), buffer, retriever)
    engine.chat("What is new?")
    assert [role for role, _ in said(engine.chat_history)] == ["user", "assistant"]
    assert engine.chat_history[0].content == "What is new?"
    engine.chat("And now?")
    assert [role for role, _ in said(engine.chat_history)] == ["user", "assistant"] * 2
    assert buffer.session.version == 2
    engine.reset()
    assert engine.chat_history == []


async def test_two_exchanges_async(kind, scripted, buffer, retriever, said):
    """The async path keeps the same history."""
    engine = build(kind, scripted(), buffer, retriever)
    await engine.achat("What is new?")
    await engine.achat("And now?")
    assert [role for role, _ in said(engine.chat_history)] == ["user", "assistant"] * 2
    assert buffer.session.version == 2


@pytest.mark.parametrize("kind", ["simple", "context", "condense_plus_context"])
def test_streaming(kind, scripted, buffer, retriever, said):
    """A stream that is read to its end leaves question and whole answer."""
    engine = build(kind, scripted("one two three", "four"), buffer, retriever)
    assert "".join(engine.stream_chat("Count.").response_gen) == "one two three"
    assert "".join(engine.stream_chat("On.").response_gen) == "four"
    assert said(engine.chat_history) == [
        ("user", "Count."),
        ("assistant", "one two three"),
        ("user", "On."),
        ("assistant", "four"),
    ]
    assert "one two three" in engine._llm.last


@pytest.mark.parametrize("kind", ["simple", "context", "condense_plus_context"])
async def test_streaming_async(kind, scripted, buffer, retriever, said):
    """The async stream leaves the same."""
    engine = build(kind, scripted("one two three"), buffer, retriever)
    response = await engine.astream_chat("Count.")
    assert "".join([part async for part in response.async_response_gen()]) == "one two three"
    assert said(engine.chat_history) == [("user", "Count."), ("assistant", "one two three")]


def test_condense_question_streams(scripted, buffer, retriever, said):
    """The condensing engine over a query engine that streams keeps both messages."""
    llm = scripted("one two", chat_model=False)
    synthesizer = get_response_synthesizer(llm=llm, streaming=True)
    query_engine = RetrieverQueryEngine(retriever=retriever, response_synthesizer=synthesizer)
    engine = CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, llm=llm, memory=buffer)
    assert "".join(engine.stream_chat("Count.").response_gen) == "one two"
    assert said(engine.chat_history) == [("user", "Count."), ("assistant", "one two")]


@pytest.mark.parametrize("kind", ["simple", "context", "condense_plus_context"])
def test_the_question_is_sent_once(kind, scripted, buffer, retriever):
    """Whether the engine or the memory brings the new message, the model sees it once, and last."""
    llm = scripted()
    engine = build(kind, llm, buffer, retriever)
    for question in ("What is a whale?", "What is a whale?", "And a shark?"):
        engine.chat(question)
        assert llm.requests[-1][-1].content.endswith(question)
        earlier = [m.content for m in engine.chat_history].count(question)
        assert llm.last.count(question) == earlier


@pytest.mark.parametrize("kind", ["simple", "context", "condense_plus_context"])
def test_error_then_retry(kind, scripted, buffer, retriever, said):
    """The model fails, the user tries again: one question, one answer, and one question sent."""
    llm = scripted(ConnectionError("down"), "here")
    engine = build(kind, llm, buffer, retriever)
    with pytest.raises(ConnectionError):
        engine.chat("Are you there?")
    engine.chat("Are you there?")
    assert said(engine.chat_history) == [("user", "Are you there?"), ("assistant", "here")]
    assert llm.last.count("Are you there?") == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # LlamaIndex's thread re-raises
@pytest.mark.parametrize("kind", ["simple", "context", "condense_plus_context"])
def test_a_broken_stream_then_a_retry(kind, scripted, buffer, retriever, said):
    """A stream that breaks leaves no half answer, and the retry sends the question once (G6)."""
    llm = scripted("!half an answer", "whole")
    engine = build(kind, llm, buffer, retriever)
    with pytest.raises(ConnectionError):
        list(engine.stream_chat("Are you there?").response_gen)
    assert "half" not in str(said(engine.chat_history))
    assert "".join(engine.stream_chat("Are you there?").response_gen) == "whole"
    assert said(engine.chat_history) == [("user", "Are you there?"), ("assistant", "whole")]
    assert llm.last.count("Are you there?") == 1


def test_the_history_of_a_call_replaces_the_memory(scripted, buffer, retriever, said):
    """`chat_history=` of a call is what the model is sent, and what it continues is not written twice."""
    llm = scripted("b", "d", "f")
    engine = build("simple", llm, buffer, retriever)
    engine.chat("a")
    engine.chat("c", chat_history=[ChatMessage(role="user", content="a"), ChatMessage(role="assistant", content="b")])
    assert buffer.session.version == 2
    engine.chat("e", chat_history=[ChatMessage(role="user", content="x"), ChatMessage(role="assistant", content="y")])
    assert said(engine.chat_history) == [("user", "x"), ("assistant", "y"), ("user", "e"), ("assistant", "f")]


def test_a_query_bundle_as_message(scripted, buffer, retriever):
    """Upstream's tests pass a query bundle as the message; it is asked as its text."""
    llm = scripted()
    engine = build("context", llm, buffer, retriever)
    engine.chat(QueryBundle("What is a whale?"))
    engine.chat(QueryBundle("And a shark?"))
    assert len(engine.chat_history) == 4


def test_memory_cls(scripted, said):
    """Engines that make their memory from a class make ours."""
    engine = SimpleChatEngine.from_defaults(
        llm=scripted(), memory_cls=HybridChatMemoryBuffer, chat_history=[ChatMessage(role="user", content="a")]
    )
    assert isinstance(engine._memory, HybridChatMemoryBuffer)
    assert engine._memory.token_limit == 8_000 - 256
    engine.chat("b")
    assert said(engine.chat_history) == [("user", "a"), ("user", "b"), ("assistant", "ok")]
    engine._memory.memory.close()


def test_the_system_prompt_comes_first(scripted, buffer, retriever):
    """The engine's own prompt stays first, the user's words follow."""
    llm = scripted()
    engine = build("simple", llm, buffer, retriever, system_prompt="Be brief.")
    engine.chat("Never call me before noon.")
    engine.chat("Hello.")
    roles = [m.role for m in llm.requests[-1]]
    assert roles == [MessageRole.SYSTEM, MessageRole.SYSTEM, MessageRole.USER, MessageRole.ASSISTANT, MessageRole.USER]
    assert llm.requests[-1][0].content == "Be brief."


def test_mock_llm_echoes_the_history(buffer):
    """Upstream's simple-engine test: an echoing model is sent both earlier messages and the new one."""
    engine = SimpleChatEngine.from_defaults(llm=MockLLM(), memory=buffer)
    first = engine.chat("Test message 1")
    assert str(first) == "user: Test message 1\nassistant: "
    second = engine.chat("Test message 2")
    assert str(second) == (
        "user: Test message 1\nassistant: user: Test message 1\nassistant: \nuser: Test message 2\nassistant: "
    )


def test_a_stream_that_yields_nothing(buffer, said):
    """Upstream's case: no token at all is no answer, and the next turn goes on."""
    engine = SimpleChatEngine.from_defaults(llm=MockLLMWithNonyieldingChatStream(), memory=buffer)
    assert list(engine.stream_chat("a").response_gen) == [""]
    assert said(engine.chat_history) == [("user", "a")]
    assert list(engine.stream_chat("b").response_gen) == [""]
    assert said(engine.chat_history) == [("user", "a"), ("user", "b")]


@pytest.mark.parametrize("kind", ["context", "condense_plus_context"])
def test_placeholders_in_memory_are_text(kind, scripted, buffer, retriever):
    """What the user wrote is not filled in by the engine's template (G7: no document gets into old messages)."""
    odd = "Explain {query_str} and {context_str} and {context_msg} and {existing_answer} and {other} to me."
    llm = scripted(odd)
    engine = build(kind, llm, buffer, retriever)
    engine.chat("Start.")
    engine.chat("Never use {query_str} in an answer to me.")
    engine.chat("Go on.")
    request = llm.requests[-1]
    assert odd in [m.content for m in request]
    assert "{query_str}" in next(m.content for m in request if "user_constraints" in (m.content or ""))


def test_long_conversations_stay_within_the_limit(kind, scripted, open_buffer, retriever):
    """Hundreds of exchanges later, what memory gives still fits its limit (G1)."""
    from llama_index.memory.langmem_plugin import to_core

    buffer = open_buffer(token_limit=700)
    llm = scripted()
    engine = build(kind, llm, buffer, retriever)
    for number in range(30):
        engine.chat(f"Tell me about ship number {number}, its captain, its cargo and its {number} passengers.")
        count = buffer.memory.counter.count_request([to_core(m) for m in buffer.get()])
        assert count <= 700
    assert len(engine.chat_history) == 60


def test_two_sessions_at_once(scripted, open_buffer, retriever, tmp_path):
    """Engines of two users on one database never see one another's words (G7)."""
    url = f"sqlite:///{tmp_path}/a.db"
    llms = {name: scripted() for name in ("ann", "bob")}
    engines = {
        name: build("context", llm, open_buffer(url=url, session_id=name, token_limit=1_000), retriever)
        for name, llm in llms.items()
    }
    engines["ann"].chat("My password is swordfish.")
    engines["bob"].chat("What is my password?")
    assert "swordfish" not in llms["bob"].last
    assert len(engines["bob"].chat_history) == 2


def test_an_engine_goes_on_after_a_restart(scripted, retriever, tmp_path):
    """A new process with the same file and session id continues the conversation."""
    settings = {"url": f"sqlite:///{tmp_path}/a.db", "session_id": "s", "token_limit": 1_000}
    first = HybridChatMemoryBuffer.from_defaults(**settings)
    build("simple", scripted(), first, retriever).chat("My cat is called Tom.")
    first.memory.close()
    second = HybridChatMemoryBuffer.from_defaults(**settings)
    llm = scripted()
    build("simple", llm, second, retriever).chat("And my cat?")
    assert "called Tom" in llm.last
    second.memory.close()


def test_the_answering_model_of_condense_question(scripted, buffer, retriever):
    """Its query engine sees no memory, so its LLM is given the constraints (G2)."""
    llm, answering = scripted("a question"), scripted()
    query_engine = RetrieverQueryEngine(
        retriever=retriever, response_synthesizer=get_response_synthesizer(llm=with_constraints(answering, buffer))
    )
    engine = CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, llm=llm, memory=buffer)
    engine.chat("Never call me before noon.")
    engine.chat("When will you call?")
    wrapped = query_engine._response_synthesizer._llm
    assert "Never call me before noon." in wrapped.last
    assert wrapped.requests[-1][0].role == MessageRole.SYSTEM


@pytest.mark.parametrize("kind", ["context", "condense_plus_context"])
def test_an_engine_that_gets_before_it_puts_is_summarised_in_time(kind, scripted, retriever, tmp_path):
    """What leaves the window of a small limit is covered by the summary, though the memory allows more (G9)."""
    with Memory.open(f"sqlite:///{tmp_path}/a.db") as memory:
        buffer = HybridChatMemoryBuffer.from_defaults(memory=memory, token_limit=600)
        engine = build(kind, scripted(), buffer, retriever)
        for number in range(30):
            engine.chat(f"Tell me about ship number {number}, its captain, its cargo and its {number} passengers.")
            assert memory.wait(10)
        buffer.get("And now?")
        assert buffer.report.summarised > 20
        assert buffer.report.waiting == 0
