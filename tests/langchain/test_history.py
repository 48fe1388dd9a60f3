"""`HybridChatMessageHistory` alone and under `RunnableWithMessageHistory`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_langmem_plugin import HybridChatMessageHistory
from langmem_plugin.config import Budget
from langmem_plugin.errors import InvalidMessage, InvalidSetting
from langmem_plugin.memory import Memory

pytestmark = pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")

NUTS = "Never suggest anything with peanuts."
SMALL = Budget(max_tokens=500, completion=100)


def session(name="s1"):
    return {"configurable": {"session_id": name}}


PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Be kind."), MessagesPlaceholder("history"), ("human", "{question}")]
)

MODES = {
    "list": (lambda model: model, {}, lambda text: [HumanMessage(text)]),
    "text": (lambda model: RunnableLambda(lambda seen: seen) | model, {}, lambda text: text),
    "one key": (
        lambda model: RunnableLambda(lambda seen: seen["messages"]) | model,
        {"input_messages_key": "messages"},
        lambda text: {"messages": [HumanMessage(text)]},
    ),
    "history key": (
        lambda model: PROMPT | model,
        {"input_messages_key": "question", "history_messages_key": "history"},
        lambda text: {"question": text},
    ),
    "history key, text out": (
        lambda model: PROMPT | model | StrOutputParser(),
        {"input_messages_key": "question", "history_messages_key": "history"},
        lambda text: {"question": text},
    ),
    "output key": (
        lambda model: PROMPT | model | RunnableLambda(lambda answer: {"answer": answer, "other": 1}),
        {"input_messages_key": "question", "history_messages_key": "history", "output_messages_key": "answer"},
        lambda text: {"question": text},
    ),
}


@pytest.fixture(params=MODES.values(), ids=MODES.keys())
def mode(request):
    return request.param


@pytest.fixture(params=[True, False], ids=["new object a call", "one object"])
def wrap(request, memory):
    kept = {}

    def build(mode, model, **options):
        chain, keys, _ask = mode

        def history(session_id):
            if request.param or session_id not in kept:
                kept[session_id] = HybridChatMessageHistory(session_id, memory=memory, owner="ann", **options)
            return kept[session_id]

        return RunnableWithMessageHistory(chain(model), history, **keys)

    return build


def test_each_mode_saves_every_turn_once(memory, model, mode, wrap, said):
    """G5: in each key mode the log holds each message once and the model sees all of them."""
    chain = wrap(mode, model)
    for text in ("one", "two", "three"):
        chain.invoke(mode[2](text), session())
    expected = ["user: one", "assistant: answer 1", "user: two", "assistant: answer 2"]
    assert said(memory, "s1") == [*expected, "user: three", "assistant: answer 3"]
    spoken = [text.split(": ")[1] for text in model.texts[2] if not text.startswith("system")]
    assert spoken == ["one", "answer 1", "two", "answer 2", "three"]


async def test_each_mode_async(memory, model, mode, wrap, said):
    """The same under ainvoke."""
    chain = wrap(mode, model)
    for text in ("one", "two", "three"):
        await chain.ainvoke(mode[2](text), session())
    assert [line.split(": ")[1] for line in said(memory, "s1")] == [
        "one", "answer 1", "two", "answer 2", "three", "answer 3",
    ]  # fmt: skip


def test_each_mode_streams(memory, model, mode, wrap, said):
    """A stream that is read to its end is saved as one whole message, not as chunks."""
    chain = wrap(mode, model)
    for text in ("one", "two"):
        list(chain.stream(mode[2](text), session()))
    assert [line.strip().split(": ")[1] for line in said(memory, "s1")] == ["one", "answer 1", "two", "answer 2"]
    assert all(type(m) is not AIMessageChunk for request in model.requests for m in request)


async def test_each_mode_streams_async(memory, model, mode, wrap, said):
    """The same under astream."""
    chain = wrap(mode, model)
    for text in ("one", "two"):
        async for _chunk in chain.astream(mode[2](text), session()):
            pass
    assert [line.strip().split(": ")[1] for line in said(memory, "s1")] == ["one", "answer 1", "two", "answer 2"]


def test_each_mode_when_the_view_shrinks(memory, new_model, mode, wrap, said):
    """G5, G9: when old turns leave the view between loading and saving, no message is lost or saved twice."""
    model = new_model(*[f"reply {n} " + "word " * 25 for n in range(14)])
    chain = wrap(mode, model, budget=SMALL)
    for number in range(14):
        chain.invoke(mode[2](f"question {number} " + "detail " * 20), session())
        memory.wait(5)
    users = [line for line in said(memory, "s1") if line.startswith("user")]
    assert [line.split()[2] for line in users] == [str(n) for n in range(14)]
    assert len(said(memory, "s1")) == 28
    assert len(model.requests[-1]) < 20


def test_each_mode_in_batches(memory, model, mode, wrap, said):
    """batch over different sessions, at once: each has its own."""
    chain = wrap(mode, model)
    for text in ("one", "two"):
        chain.batch([mode[2](f"{text} {n}") for n in range(6)], [session(f"s{n}") for n in range(6)])
    for number in range(6):
        lines = said(memory, f"s{number}")
        assert [line for line in lines if line.startswith("user")] == [f"user: one {number}", f"user: two {number}"]
        assert len(lines) == 4


def test_constraints_are_in_every_request(memory, new_model, mode, wrap):
    """G2: a constraint said at the start is in a system message of every later request, when its turn has long gone."""
    model = new_model(*["word " * 30] * 15)
    chain = wrap(mode, model, budget=SMALL)
    chain.invoke(mode[2](NUTS), session())
    for number in range(12):
        chain.invoke(mode[2](f"question {number} " + "detail " * 20), session())
    for request in model.requests[1:]:
        assert any(NUTS in m.text for m in request if m.type == "system")


def test_runs_at_once_on_one_session(memory, new_model, mode, said):
    """Eight runs on one session, each with its own history object: every message of each is saved, once."""
    chain_of, keys, ask = mode
    chain = RunnableWithMessageHistory(
        chain_of(new_model()), lambda s: HybridChatMessageHistory(s, memory=memory, owner="ann"), **keys
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: chain.invoke(ask(f"question {n}"), session()), range(8)))
    lines = said(memory, "s1")
    assert len(lines) == 16
    assert sorted(line for line in lines if line.startswith("user")) == [f"user: question {n}" for n in range(8)]


def test_a_failed_model_saves_nothing(memory, new_model, down, mode, wrap, said):
    """G6: the model fails, the session is as before, and the next call is saved once."""
    chain = wrap(mode, new_model("fine", down("no"), "good"))
    chain.invoke(mode[2]("one"), session())
    with pytest.raises(down):
        chain.invoke(mode[2]("two"), session())
    chain.invoke(mode[2]("two"), session())
    assert said(memory, "s1") == ["user: one", "assistant: fine", "user: two", "assistant: good"]


def test_an_agent_under_the_wrapper_doubles_nothing(memory, model, said):
    """G5: a graph that returns its whole state, which the wrapper saves again and again, is saved once."""
    graph = create_agent(model, tools=[])
    chain = RunnableWithMessageHistory(
        graph,
        lambda s: HybridChatMessageHistory(s, memory=memory, owner="ann"),
        input_messages_key="messages",
        output_messages_key="messages",
    )
    for text in (NUTS, "two", "three"):
        chain.invoke({"messages": [HumanMessage(text)]}, session())
    assert [line.split(": ")[1] for line in said(memory, "s1")] == [
        NUTS, "answer 1", "two", "answer 2", "three", "answer 3",
    ]  # fmt: skip


def test_it_is_a_plain_history_while_everything_fits():
    """Without constraints and within the budget it holds exactly what was added, like the in-memory one."""
    history = HybridChatMessageHistory()
    added = [
        SystemMessage("Be kind."),
        HumanMessage("Hello", id="h"),
        AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c"}]),
        ToolMessage("r", tool_call_id="c", artifact={"a": 1}),
        AIMessage("Hi"),
        HumanMessage("pending"),
    ]
    history.add_messages(added)
    assert history.messages == added
    assert history == HybridChatMessageHistory(messages=added)
    assert history != HybridChatMessageHistory(messages=added[:-1])
    assert str(HybridChatMessageHistory(messages=added[:2])) == "System: Be kind.\nHuman: Hello"
    history.clear()
    assert history.messages == []


def test_messages_one_by_one_make_turns(memory, said):
    """A user's message is pending until its answer comes; a call of tools does not answer; chunks are converted."""
    history = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    history.add_user_message("one")
    assert said(memory, "s1") == []
    assert history.messages == [HumanMessage("one")]
    history.add_user_message("one")  # a retry
    history.add_user_message("and this")
    history.add_message(AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c"}]))
    assert said(memory, "s1") == []
    history.add_messages([ToolMessage("r", tool_call_id="c"), AIMessageChunk("done")])
    assert said(memory, "s1") == ["user: one", "user: and this", "assistant: ", "tool: r", "assistant: done"]
    history.add_ai_message("unasked")
    assert said(memory, "s1")[5:] == ["assistant: unasked"]


def test_messages_with_known_ids_add_nothing(memory, said):
    """G5: a second delivery of the same messages, in one turn or several, changes nothing."""
    history = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    turn = [HumanMessage("one", id="1"), AIMessage("two", id="2")]
    history.add_messages(turn)
    history.add_messages(turn)
    history.add_messages([*turn, HumanMessage("three", id="3"), AIMessage("four", id="4")])
    assert [line.split(": ")[1] for line in said(memory, "s1")] == ["one", "two", "three", "four"]


def test_a_message_that_cannot_be_kept_is_an_error(memory, said):
    """A message that is no JSON is refused with a typed error, and nothing of its turn is kept."""
    history = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    with pytest.raises(InvalidMessage):
        history.add_messages([HumanMessage("x"), AIMessage([{"type": "odd", "value": object()}])])
    assert history.messages == []
    with pytest.raises(InvalidSetting, match="owner"):
        HybridChatMessageHistory("s1", memory=memory)


async def test_the_async_trio(memory):
    """aget_messages, aadd_messages and aclear do what their sync counterparts do."""
    history = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    await history.aadd_messages([HumanMessage("a"), AIMessage("b")])
    assert await history.aget_messages() == history.messages == [HumanMessage("a"), AIMessage("b")]
    await asyncio.gather(*(history.aadd_messages([HumanMessage(f"q{n}"), AIMessage(f"a{n}")]) for n in range(8)))
    assert len(await history.aget_messages()) == 18
    await history.aclear()
    assert await history.aget_messages() == []


def test_clearing_forgets_an_open_turn_and_constraints(memory):
    """After clear nothing of the session is left: no turn, no constraint, no message."""
    history = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    history.add_messages([HumanMessage(NUTS), AIMessage("ok")])
    history.add_user_message("pending")
    history.clear()
    assert history.messages == []
    assert memory.session("s1", owner="ann").constraints() == ()


def test_owners_do_not_meet(memory):
    """G7: the same session id of two owners is two sessions."""
    one = HybridChatMessageHistory("s1", memory=memory, owner="ann")
    two = HybridChatMessageHistory("s1", memory=memory, owner="bob")
    one.add_messages([HumanMessage("a"), AIMessage("b")])
    assert two.messages == []


def test_a_restart_reads_the_same_history(url):
    """G4: another process with the same file gets equal messages."""
    turn = [HumanMessage("a", id="1", additional_kwargs={"x": 1}), AIMessage("b", response_metadata={"m": 1})]
    with Memory.open(url) as memory:
        HybridChatMessageHistory("s1", memory=memory, owner="ann").add_messages(turn)
    with Memory.open(url) as memory:
        assert HybridChatMessageHistory("s1", memory=memory, owner="ann").messages == turn


def test_no_deprecation_of_langchains_reaches_a_user():
    """Importing and using the class warns of nothing, with the base class and without it."""
    code = """
import sys, warnings
warnings.simplefilter("error")
if {gone}:
    sys.modules["langchain_core.chat_history"] = None
import langchain_core.messages
from langchain_langmem_plugin.history import HybridChatMessageHistory, _Base
assert (_Base is object) is {gone}
history = HybridChatMessageHistory()
history.add_user_message("a")
history.add_ai_message("b")
assert str(history) == "Human: a\\nAI: b"
"""
    for gone in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", code.format(gone=gone)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HybridChatMessageHistory()
