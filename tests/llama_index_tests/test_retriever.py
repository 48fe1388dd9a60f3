"""The past of a session as LlamaIndex nodes."""

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer

from llama_index.memory.langmem_plugin import HybridMemoryRetriever


@pytest.fixture
def filled(buffer):
    for text in ("The code of the garden door is 7351.", "My cat is called Tom.", "It rained all day in Lisbon."):
        buffer.put(ChatMessage(role="user", content=text))
        buffer.put(ChatMessage(role="assistant", content="Noted."))
    assert buffer.memory.wait(10)
    return buffer


async def test_it_finds_what_was_said(filled):
    """The nearest message is first, with who said it and when, sync and async alike."""
    retriever = HybridMemoryRetriever(filled, similarity_top_k=2)
    found = retriever.retrieve("What is the code of the garden door?")
    assert len(found) <= 2
    assert found[0].text == "The code of the garden door is 7351."
    assert found[0].metadata["role"] == "user"
    assert 0 <= found[0].score <= 1
    again = await HybridMemoryRetriever(filled.session, similarity_top_k=2).aretrieve(
        "Which code opens the garden door?"
    )
    assert again[0].node_id == found[0].node_id


def test_it_answers_in_a_query_engine(filled, scripted):
    """A query engine over the past sends the found message to its model."""
    llm = scripted()
    engine = RetrieverQueryEngine(
        retriever=HybridMemoryRetriever(filled, similarity_top_k=1),
        response_synthesizer=get_response_synthesizer(llm=llm),
    )
    engine.query("What is my cat called?")
    assert "called Tom" in llm.last


def test_an_empty_session_finds_nothing(buffer):
    """Nothing said, nothing found."""
    assert HybridMemoryRetriever(buffer).retrieve("anything") == []
