"""`with_memory` around chat models, chains, agents and functions."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from pydantic import BaseModel

from langchain_langmem_plugin import to_core, with_memory
from langmem_plugin.config import Budget
from langmem_plugin.errors import BudgetTooSmall, InvalidMessage, InvalidSetting, StoreError
from langmem_plugin.memory import Memory
from langmem_plugin.session import Session

NUTS = "Never suggest anything with peanuts."
SMALL = Budget(max_tokens=700, completion=100)
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "You are a {job}."), MessagesPlaceholder("history"), ("human", "Q: {question}")]
).partial(job="cook")
KEYS = {"input_messages_key": "question", "history_messages_key": "history"}


def session(name="s1"):
    return {"configurable": {"session_id": name}}


def talk(chain, text, name="s1"):
    return chain.invoke(text, session(name))


@pytest.mark.parametrize(
    "asked",
    [
        "Hello",
        HumanMessage("Hello"),
        [HumanMessage("Hello")],
        [("user", "Hello")],
        [{"role": "user", "content": "Hello"}],
    ],
    ids=["text", "message", "messages", "tuples", "dicts"],
)
def test_a_chat_model_sees_the_conversation(memory, model, said, asked):
    """A bare chat model is given what is new in any form, and sees all that was said."""
    chain = with_memory(model, memory=memory, owner="ann", system="Be kind.")
    assert talk(chain, asked).text == "answer 1"
    talk(chain, "More")
    assert model.texts[1] == ["system: Be kind.", "human: Hello", "ai: answer 1", "human: More"]
    assert said(memory, "s1") == ["user: Hello", "assistant: answer 1", "user: More", "assistant: answer 2"]


async def test_a_chat_model_async(memory, model, said):
    """The same under ainvoke, astream and abatch."""
    chain = with_memory(model, memory=memory, owner="ann")
    await chain.ainvoke("Hello", session())
    chunks = [chunk async for chunk in chain.astream("More", session())]
    assert "".join(chunk.text for chunk in chunks) == "answer 2 "
    assert model.texts[1] == ["human: Hello", "ai: answer 1", "human: More"]
    assert len(said(memory, "s1")) == 4
    await chain.abatch(["a", "b"], [session("x"), session("y")])
    assert len(said(memory, "x")) == len(said(memory, "y")) == 2


def test_a_prompt_with_a_placeholder(memory, model, said):
    """A prompt | model chain gets the history where it asks for it; the log has the question as it was asked."""
    chain = with_memory(PROMPT | model | StrOutputParser(), memory=memory, owner="ann", **KEYS)
    assert chain.invoke({"question": "Hello"}, session()) == "answer 1"
    chain.invoke({"question": "More"}, session())
    assert model.texts[1] == ["system: You are a cook.", "human: Hello", "ai: answer 1", "human: Q: More"]
    assert said(memory, "s1") == ["user: Hello", "assistant: answer 1", "user: More", "assistant: answer 2"]


def test_constraints_join_the_system_message_of_the_prompt(memory, model):
    """G2: one system message reaches the model, the prompt's own words first and the constraints after them."""
    chain = with_memory(PROMPT | model, memory=memory, owner="ann", **KEYS)
    chain.invoke({"question": NUTS}, session())
    chain.invoke({"question": "Dish?"}, session())
    systems = [m for m in model.requests[1] if m.type == "system"]
    assert len(systems) == 1
    assert systems[0].text.startswith("You are a cook.\n")
    assert NUTS in systems[0].text


def test_recall_answers_the_incoming_question(memory, new_model):
    """What left the window long ago is in the request when the question asks for it, in both modes."""
    for name, wrap, ask in (
        ("bare", lambda model: with_memory(model, memory=memory, owner="ann", budget=SMALL), lambda text: text),
        (
            "prompt",
            lambda model: with_memory(PROMPT | model, memory=memory, owner="ann", budget=SMALL, **KEYS),
            lambda text: {"question": text},
        ),
    ):
        model = new_model(*["word " * 40] * 30)
        chain = wrap(model)
        chain.invoke(ask("My locker code is 4471."), session(name))
        for number in range(15):
            chain.invoke(ask(f"Tell me about topic {number} in some detail, please."), session(name))
            memory.wait(5)
        chain.invoke(ask("What is my locker code?"), session(name))
        assert any("4471" in m.text for m in model.requests[-1]), name


@pytest.mark.parametrize("how", ["bare", "prompt"])
def test_never_over_budget(memory, new_model, how):
    """G1: every request stays inside the budget; the prompt's own text is counted."""
    model = new_model(*["word " * 60] * 40)
    if how == "bare":
        chain = with_memory(model, memory=memory, owner="ann", budget=SMALL, system="Be brief. " * 10)
    else:
        prompt = ChatPromptTemplate.from_messages(
            [("system", "Be brief. " * 10), ("human", "Example"), ("ai", "Like this"), *PROMPT.messages[1:]]
        )
        chain = with_memory(prompt | model, memory=memory, owner="ann", budget=SMALL, **KEYS)
    for number in range(25):
        text = NUTS if number == 0 else f"Question {number}: " + "detail " * 30
        chain.invoke(text if how == "bare" else {"question": text}, session())
    sizes = [memory.counter.count_request([to_core(m) for m in request]) for request in model.requests]
    assert max(sizes) <= SMALL.prompt
    assert all(any(NUTS in m.text for m in request if m.type == "system") for request in model.requests[1:])


def test_the_users_message_is_saved_before_the_model_runs(memory, said):
    """G4: while the model works, the message is in an open turn; nobody else sees it."""
    seen = []

    def look(messages):
        turn = memory.session("s1", owner="ann").resume()
        seen.append([m.text for m in turn.messages])
        seen.append(said(memory, "s1"))
        return "done"

    with_memory(RunnableLambda(look), memory=memory, owner="ann").invoke("Hello", session())
    assert seen == [["Hello"], []]
    assert said(memory, "s1") == ["user: Hello", "assistant: done"]


async def _invoke(chain):
    chain.invoke("Hello", session())


async def _stream(chain):
    list(chain.stream("Hello", session()))


async def _astream(chain):
    _ = [chunk async for chunk in chain.astream("Hello", session())]


USES = {
    "invoke": _invoke,
    "stream": _stream,
    "ainvoke": lambda chain: chain.ainvoke("Hello", session()),
    "astream": _astream,
}


@pytest.mark.parametrize("how", USES)
async def test_an_error_takes_the_turn_back(memory, new_model, down, said, how):
    """G6: the model fails, nothing is left of the turn, and a retry is recorded once."""
    model = new_model(down("no"), "fine")
    chain = with_memory(model, memory=memory, owner="ann")
    with pytest.raises(down):
        await USES[how](chain)
    assert memory.session("s1", owner="ann").resume() is None
    talk(chain, "Hello")
    assert said(memory, "s1") == ["user: Hello", "assistant: fine"]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_stream_that_breaks_takes_the_turn_back(memory, new_model, down, said, way):
    """G6: the stream breaks after two words, and the session is as before."""
    chain = with_memory(new_model("one two three", break_after=2), memory=memory, owner="ann")
    with pytest.raises(down):
        await USES["stream" if way == "sync" else "astream"](chain)
    assert said(memory, "s1") == []
    assert memory.session("s1", owner="ann").resume() is None


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_a_stream_left_early_takes_the_turn_back(memory, model, said, way):
    """G6: the consumer stops after the first word, and the session is as before."""
    chain = with_memory(model, memory=memory, owner="ann")
    if way == "sync":
        stream = chain.stream("Count", session())
        next(stream)
        stream.close()
    else:
        astream = chain.astream("Count", session())
        await anext(astream)
        await astream.aclose()
    assert said(memory, "s1") == []
    assert memory.session("s1", owner="ann").resume() is None


async def test_a_cancelled_task_takes_the_turn_back(memory, said):
    """G6: the task is cancelled while the model works, and the session is as before."""
    started = asyncio.Event()

    async def slow(messages):
        started.set()
        await asyncio.Event().wait()

    chain = with_memory(RunnableLambda(lambda m: "x", afunc=slow), memory=memory, owner="ann")
    task = asyncio.create_task(chain.ainvoke("Hello", session()))
    await started.wait()
    assert memory.session("s1", owner="ann").resume() is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said(memory, "s1") == []
    assert memory.session("s1", owner="ann").resume() is None


def test_an_error_while_saving_is_raised(model, url):
    """LangChain's own wrapper swallows it; here the caller learns that the answer was not saved."""
    memory = Memory.open(url)

    def close_then_answer(messages):
        memory.close()
        return "lost"

    chain = with_memory(RunnableLambda(close_then_answer), memory=memory, owner="ann")
    with pytest.raises(StoreError):
        chain.invoke("Hello", session())


def test_a_stream_is_saved_as_one_message(memory, model, said):
    """Chunks reach the consumer as they come, and the log gets their sum."""
    chain = with_memory(model | StrOutputParser(), memory=memory, owner="ann")
    assert [chunk for chunk in chain.stream("Hello", session()) if chunk] == ["answer ", "1 "]
    assert said(memory, "s1") == ["user: Hello", "assistant: answer 1 "]


def test_tool_calls_keep_the_turn_open(memory, new_model, said):
    """G3: an answer that calls a tool and the tool's result belong to one turn; calls are repeated exactly."""
    call = AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "c1"}])
    model = new_model(call, "It is 7.")
    chain = with_memory(model, memory=memory, owner="ann")
    answer = talk(chain, "How much?")
    assert said(memory, "s1") == []
    talk(chain, [ToolMessage("7", tool_call_id=answer.tool_calls[0]["id"])])
    assert [m.type for m in model.requests[1]] == ["human", "ai", "tool"]
    assert model.requests[1][1].tool_calls == answer.tool_calls
    assert said(memory, "s1") == ["user: How much?", "assistant: ", "tool: 7", "assistant: It is 7."]


def test_a_model_that_fails_on_a_tools_result_may_be_asked_again(memory, new_model, down, said):
    """G5: the turn that a call of tools left open survives an error, and the result is kept once."""
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1"}])
    chain = with_memory(new_model(call, down("no"), "It is 7."), memory=memory, owner="ann")
    talk(chain, "How much?")
    result = [ToolMessage("7", tool_call_id="c1", id="t1")]
    with pytest.raises(down):
        talk(chain, result)
    talk(chain, result)
    assert said(memory, "s1") == ["user: How much?", "assistant: ", "tool: 7", "assistant: It is 7."]


def test_an_agent_inside(memory, model, said):
    """A graph that gives back its whole state, constraints' system message and all, is recorded once."""
    graph = create_agent(model, tools=[])
    chain = with_memory(
        graph, memory=memory, owner="ann", input_messages_key="messages", output_messages_key="messages"
    )
    for text in (NUTS, "two", "three"):
        chain.invoke({"messages": [HumanMessage(text)]}, session())
    assert [line.split(": ")[1] for line in said(memory, "s1")] == [
        NUTS, "answer 1", "two", "answer 2", "three", "answer 3",
    ]  # fmt: skip
    assert NUTS in model.requests[2][0].text


class Dish(BaseModel):
    name: str


def test_outputs_in_other_forms(memory, said):
    """A dict with a key, messages, and a structured answer are recorded; what is no answer is a typed error."""
    forms = {
        "dict": ({"answer": "a", "other": 1}, "a"),
        "messages": ([AIMessage("b")], "b"),
        "model": (Dish(name="soup"), '{"name":"soup"}'),
    }
    for name, (output, text) in forms.items():
        chain = with_memory(
            RunnableLambda(lambda _m, out=output: out), memory=memory, owner="ann", output_messages_key="answer"
        )
        talk(chain, "x", name)
        assert said(memory, name) == ["user: x", f"assistant: {text}"]
    with pytest.raises(InvalidMessage, match="int"):
        talk(with_memory(RunnableLambda(lambda _m: 3), memory=memory, owner="ann"), "x", "odd")
    with pytest.raises(InvalidSetting, match="output_messages_key"):
        talk(with_memory(RunnableLambda(lambda _m: {"a": 1, "b": 2}), memory=memory, owner="ann"), "x", "odd")
    assert said(memory, "odd") == []
    assert memory.session("odd", owner="ann").resume() is None


def test_inputs_that_cannot_be_understood(memory, model):
    """An empty input and a dict with several keys are typed errors, before anything is written."""
    chain = with_memory(model, memory=memory, owner="ann")
    with pytest.raises(InvalidMessage):
        talk(chain, [])
    with pytest.raises(InvalidSetting, match="input_messages_key"):
        talk(chain, {"a": "x", "b": "y"})
    with pytest.raises(InvalidSetting, match="session_id"):
        chain.invoke("Hello")
    with pytest.raises(InvalidSetting, match="input_messages_key"):
        with_memory(model, memory=memory, owner="ann", history_messages_key="history")
    with pytest.raises(InvalidSetting, match="dict"):
        talk(with_memory(PROMPT | model, memory=memory, owner="ann", **KEYS), "Hello")
    assert memory.session("s1", owner="ann").resume() is None


def test_system_messages_of_the_input_are_the_system_prompt(memory, model, said):
    """A system message among what is new is sent as the system prompt with the constraints, and is not recorded."""
    chain = with_memory(model, memory=memory, owner="ann")
    talk(chain, [SystemMessage("Be kind."), HumanMessage(NUTS)])
    talk(chain, [SystemMessage("Be kind."), HumanMessage("Dish?")])
    assert [m.type for m in model.requests[1]] == ["system", "human", "ai", "human"]
    assert model.requests[1][0].text.startswith("Be kind.")
    assert NUTS in model.requests[1][0].text
    assert [line.split(":")[0] for line in said(memory, "s1")] == ["user", "assistant"] * 2


def test_a_budget_that_is_too_small_leaves_no_trace(memory, model):
    """G1, G6: the message does not fit, a typed error says so, and no turn is left open."""
    chain = with_memory(
        model, memory=memory, owner="ann", system="word " * 300, budget=Budget(max_tokens=300, completion=100)
    )
    with pytest.raises(BudgetTooSmall):
        talk(chain, "Hello")
    assert memory.session("s1", owner="ann").resume() is None


def test_a_repeated_message_id_is_answered_again_and_recorded_once(memory, model, said):
    """G5: the same message, by its id, adds nothing after its turn was committed."""
    chain = with_memory(model, memory=memory, owner="ann")
    talk(chain, HumanMessage("Hello", id="h1"))
    talk(chain, HumanMessage("Hello", id="h1"))
    assert said(memory, "s1") == ["user: Hello", "assistant: answer 1"]
    assert model.requests[1][-1].text == "Hello"


def test_sessions_at_once(memory, new_model, said):
    """G7: sixteen conversations at once, two owners on each session id; nothing crosses."""
    chain = with_memory(new_model(), memory=memory, owner=lambda config: config["configurable"]["user"])

    def run(number):
        config = {"configurable": {"session_id": f"s{number % 8}", "user": f"u{number}"}}
        for round_ in range(3):
            chain.invoke(f"secret{number} {round_}", config)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(16)))
    for number in range(16):
        lines = said(memory, f"s{number % 8}", owner=f"u{number}")
        assert [line for line in lines if "secret" in line] == [f"user: secret{number} {r}" for r in range(3)]


def test_a_restart_goes_on_from_the_file(url, new_model):
    """G4: another process with the same file sees the conversation."""
    with Memory.open(url) as memory:
        talk(with_memory(new_model("Hi."), memory=memory, owner="ann"), "Hello there.")
    model = new_model()
    with Memory.open(url) as memory:
        talk(with_memory(model, memory=memory, owner="ann"), "Who am I?")
    assert model.texts[0] == ["human: Hello there.", "ai: Hi.", "human: Who am I?"]


async def test_events_and_config_reach_the_model(memory, model):
    """Tags, callbacks and astream_events see the model inside as they would without a memory."""
    chain = with_memory(model, memory=memory, owner="ann")
    kinds = [event["event"] async for event in chain.astream_events("Hello", session(), version="v2")]
    assert "on_chat_model_stream" in kinds
    assert any(spec.id == "session_id" for spec in chain.config_specs)


async def test_a_task_cancelled_while_its_turn_begins_leaves_no_turn(memory, model, said, monkeypatch):
    """G6: the thread that begins the turn outlives its task; what it began is taken back."""
    session_of = memory.session("s1", owner="ann")
    entered, go_on = threading.Event(), threading.Event()
    begin = Session.begin

    def slow(self, *messages, turn_id=None):
        entered.set()
        go_on.wait(10)
        return begin(self, *messages, turn_id=turn_id)

    monkeypatch.setattr(Session, "begin", slow)
    task = asyncio.create_task(with_memory(model, memory=memory, owner="ann").ainvoke("Hello", session()))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    for _time in range(200):
        if begun := [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
            await asyncio.wait(begun, timeout=0.05)
        else:
            break
    await asyncio.sleep(0)
    assert session_of.resume() is None
    assert said(memory, "s1") == []


def test_a_tools_result_goes_to_the_turn_that_called_it(memory, new_model, said):
    """A result that no open turn asked for opens a turn of its own and disturbs none."""
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "c1"}])
    chain = with_memory(new_model(call, "odd", "It is 7."), memory=memory, owner="ann")
    talk(chain, "How much?")
    talk(chain, [ToolMessage("8", tool_call_id="other")])
    talk(chain, [ToolMessage("7", tool_call_id="c1")])
    assert said(memory, "s1")[-4:] == ["user: How much?", "assistant: ", "tool: 7", "assistant: It is 7."]
