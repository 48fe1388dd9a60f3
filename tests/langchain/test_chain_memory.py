"""`HybridChainMemory` in chains of langchain-classic."""

from __future__ import annotations

import pytest

pytest.importorskip("langchain_classic")

from langchain_classic.chains import LLMChain
from langchain_core.messages import SystemMessage
from langchain_core.prompts import PromptTemplate

from langchain_langmem_plugin import HybridChainMemory
from langmem_plugin.errors import InvalidSetting

pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
PROMPT = PromptTemplate.from_template("{history}\nHuman: {question} ({mood})\nAI:")


@pytest.fixture
def chain_memory(memory):
    return lambda **fields: HybridChainMemory(memory, owner="ann", session_id="s", **fields)


def test_a_chain_with_several_inputs(chain_memory, memory, model, said):
    """With `input_key` the log has the user's words alone, and the model sees the conversation."""
    chain = LLMChain(llm=model, prompt=PROMPT, memory=chain_memory(input_key="question"))
    chain.invoke({"question": "Never suggest nuts.", "mood": "calm"})
    chain.invoke({"question": "What now?", "mood": "calm"})
    assert said(memory, "s") == [
        "user: Never suggest nuts.",
        "assistant: answer 1",
        "user: What now?",
        "assistant: answer 2",
    ]
    assert "Human: Never suggest nuts.\nAI: answer 1\nHuman: What now? (calm)" in model.texts[1][0]
    assert "prohibition: Never suggest nuts." in model.texts[1][0]


def test_keys_that_cannot_be_guessed(chain_memory):
    """Several inputs or outputs without a key are a typed error that lists them."""
    with pytest.raises(InvalidSetting, match=r"\['mood', 'question'\]"):
        chain_memory().save_context({"question": "a", "mood": "b"}, {"text": "c"})
    with pytest.raises(InvalidSetting, match=r"\['other', 'text'\]"):
        chain_memory().save_context({"question": "a"}, {"text": "c", "other": "d"})


async def test_messages_and_async(chain_memory, memory, said):
    """As messages the constraints are a system message; the async methods do the same."""
    chains = chain_memory(return_messages=True)
    await chains.asave_context({"question": "Never suggest nuts."}, {"text": "Noted."})
    loaded = (await chains.aload_memory_variables({"question": "And now?"}))["history"]
    assert isinstance(loaded[0], SystemMessage)
    assert [message.content for message in loaded[1:3]] == ["Never suggest nuts.", "Noted."]
    assert chains.memory_variables == ["history"]
    await chains.aclear()
    assert said(memory, "s") == []
    assert (await chains.aload_memory_variables({})) == {"history": []}


def test_names_in_the_text(chain_memory):
    """The user and the assistant are named as the prompt wants."""
    chains = chain_memory(human_prefix="Ann", ai_prefix="Cook")
    chains.save_context({"question": "Hello"}, {"text": "Hi!"})
    assert chains.load_memory_variables({"question": "?"}) == {"history": "Ann: Hello\nCook: Hi!"}
