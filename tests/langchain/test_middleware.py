"""`HybridMemoryMiddleware` in real agents, with a model that records every request."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    hook_config,
)
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from langchain_langmem_plugin import HybridMemoryMiddleware, to_core
from langmem_plugin.config import Budget
from langmem_plugin.errors import BudgetTooSmall, InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.testing.validity import problems

NUTS = "I am allergic to peanuts. Never suggest anything with peanuts."


def thread(name="t1"):
    return {"configurable": {"thread_id": name}}


def human(text, **fields):
    return {"messages": [HumanMessage(text, **fields)]}


class Slow(AgentMiddleware):
    """A model that takes its time, so that runs overlap."""

    def wrap_model_call(self, request, handler):
        time.sleep(0.03)
        return handler(request)


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"21 degrees in {city}"


def call(name="weather", **args):
    return AIMessage("", tool_calls=[{"name": name, "args": args or {"city": "Rome"}, "id": f"call_{name}"}])


@pytest.fixture
def agent(memory):
    def build(model, *, first=(), last=(), tools=(), saver=True, **options):
        mine = HybridMemoryMiddleware(memory, owner="ann", **options.pop("mine", {}))
        return create_agent(
            model,
            tools=list(tools),
            middleware=[*first, mine, *last],
            checkpointer=InMemorySaver() if saver else None,
            **options,
        )

    return build


def test_a_turn_is_recorded_once_and_the_next_request_holds_it(agent, memory, model, said):
    """G5: each message of a conversation is in the log once, and the model sees the whole of it."""
    graph = agent(model)
    graph.invoke(human("Hello"), thread())
    graph.invoke(human("And again"), thread())
    assert said(memory, "t1") == ["user: Hello", "assistant: answer 1", "user: And again", "assistant: answer 2"]
    assert model.texts == [["human: Hello"], ["human: Hello", "ai: answer 1", "human: And again"]]
    assert memory.session("t1", owner="ann").resume() is None


async def test_async_is_the_same(agent, memory, model, said):
    """Every hook runs under ainvoke and astream as it does under invoke."""
    graph = agent(model)
    await graph.ainvoke(human("Hello"), thread())
    async for _chunk in graph.astream(human("And again"), thread()):
        pass
    assert said(memory, "t1") == ["user: Hello", "assistant: answer 1", "user: And again", "assistant: answer 2 "[:-1]]
    assert model.texts[1] == ["human: Hello", "ai: answer 1", "human: And again"]


def test_constraints_are_the_last_words_of_the_system_message(agent, memory, model):
    """G2: a constraint of turn one is in every later request's system message; the prompt stays as it was."""
    graph = agent(model, system_prompt="You are a cook.")
    graph.invoke(human(NUTS), thread())
    for number in range(3):
        graph.invoke(human(f"Dish {number}?"), thread())
    for request in model.requests[1:]:
        first = request[0]
        assert isinstance(first.content, str)
        assert first.content.startswith("You are a cook.\n")
        assert "Never suggest anything with peanuts." in first.content
        assert [m.type for m in request].count("system") == 1


def test_blocks_and_cache_marks_of_the_system_message_stay(agent, memory, model):
    """The developer's blocks are sent unchanged, and the constraints come as one more text block."""
    prompt = SystemMessage([{"type": "text", "text": "You are a cook.", "cache_control": {"type": "ephemeral"}}])
    graph = agent(model, system_prompt=prompt)
    graph.invoke(human(NUTS), thread())
    graph.invoke(human("Dish?"), thread())
    content = model.requests[1][0].content
    assert content[0] == {"type": "text", "text": "You are a cook.", "cache_control": {"type": "ephemeral"}}
    assert len(content) == 2
    assert "Never suggest anything with peanuts." in content[1]["text"]
    assert prompt.content == [{"type": "text", "text": "You are a cook.", "cache_control": {"type": "ephemeral"}}]


def test_without_a_system_prompt_the_constraints_make_one(agent, model):
    """G2: an agent without a system prompt gets the constraints in a system message of their own."""
    graph = agent(model)
    graph.invoke(human(NUTS), thread())
    graph.invoke(human("Dish?"), thread())
    assert model.requests[1][0].type == "system"
    assert "Never suggest anything with peanuts." in model.requests[1][0].text


@pytest.mark.parametrize("saver", [True, False], ids=["checkpointer", "none"])
def test_a_tool_loop_is_one_turn(agent, memory, new_model, said, saver):
    """G3, G5: call, result and answer are recorded once, in order, in one turn; each request repeats the last one."""
    model = new_model(call(), "Warm.")
    graph = agent(model, tools=[weather], saver=saver)
    graph.invoke(human("How is Rome?"), thread())
    assert said(memory, "t1") == [
        "user: How is Rome?",
        "assistant: ",
        "tool: 21 degrees in Rome",
        "assistant: Warm.",
    ]
    assert len({entry.turn for entry in memory.session("t1", owner="ann").history()}) == 1
    assert model.requests[1][:1] == model.requests[0]
    assert [m.type for m in model.requests[1]] == ["human", "ai", "tool"]
    graph.invoke(human("Thanks"), thread())
    assert [m.type for m in model.requests[2]] == ["human", "ai", "tool", "ai", "human"]
    assert model.requests[2][1].tool_calls[0]["id"] == model.requests[2][2].tool_call_id


def test_the_state_is_not_changed(agent, memory, model):
    """The agent's own state holds every message, whatever the model was sent."""
    graph = agent(model, mine={"budget": Budget(max_tokens=400, completion=50)})
    for number in range(12):
        graph.invoke(human(f"Question {number}: " + "words " * 20), thread())
    assert len(graph.get_state(thread()).values["messages"]) == 24
    assert len(model.requests[-1]) < 24


def test_never_over_budget_with_tools_and_schemas(agent, memory, new_model):
    """G1: system prompt, tool schemas and messages together stay inside the budget in every request."""
    budget = Budget(max_tokens=900, completion=200)
    model = new_model(*[call() if n % 3 == 1 else "word " * 60 for n in range(40)])
    graph = agent(model, tools=[weather], system_prompt="Be brief. " * 10, mine={"budget": budget})
    graph.invoke(human(NUTS), thread())
    for number in range(20):
        graph.invoke(human(f"Question {number} about Rome: " + "detail " * 30), thread())
    from langchain_core.utils.function_calling import convert_to_openai_tool

    from langchain_langmem_plugin import to_core

    schema = convert_to_openai_tool(weather)
    for request in model.requests:
        assert memory.counter.count_request([to_core(m) for m in request], [schema]) <= budget.prompt
    assert all("Never suggest" in request[0].text for request in model.requests[2:])


def test_a_malformed_call_beside_a_good_one_can_be_sent(agent, memory, new_model):
    """G3: the result that LangChain makes up for a call it cannot read neither leads the request nor is doubled."""
    broken = {"name": "weather", "args": "{not JSON", "id": "c2", "error": None, "type": "invalid_tool_call"}
    asks = AIMessage("", tool_calls=call().tool_calls, invalid_tool_calls=[broken])
    model = new_model(asks, "Rain.")
    agent(model, tools=[weather]).invoke(human("Weather?"), thread())
    request = [to_core(message) for message in model.requests[1]]
    assert problems(request) == []
    assert [message.tool_call_id for message in request if message.role == "tool"] == [asks.tool_calls[0]["id"], "c2"]
    assert not any("malformed" in entry.message.text for entry in memory.session("t1", owner="ann").history())


def test_a_failed_model_leaves_the_turn_and_the_retry_resumes_it(agent, memory, new_model, down, said):
    """G5, G6: after an error and a retry the user's message is in the log and in the request once."""
    model = new_model(down("no answer"), "fine")
    graph = agent(model)
    with pytest.raises(down):
        graph.invoke(human("hello"), thread())
    assert said(memory, "t1") == []
    assert memory.session("t1", owner="ann").resume().messages[0].text == "hello"
    graph.invoke(human("hello"), thread())
    assert model.texts[1] == ["human: hello"]
    assert said(memory, "t1") == ["user: hello", "assistant: fine"]
    graph.invoke(human("more"), thread())
    assert model.texts[2] == ["human: hello", "ai: fine", "human: more"]


def test_a_failed_model_is_resumed_by_invoking_nothing(agent, memory, new_model, down, said):
    """G5: LangGraph's own way to go on, `invoke(None)`, records the turn once too."""
    model = new_model(down("no answer"), "fine")
    graph = agent(model)
    with pytest.raises(down):
        graph.invoke(human("hello"), thread())
    graph.invoke(None, thread())
    assert said(memory, "t1") == ["user: hello", "assistant: fine"]


def test_a_retry_without_a_checkpointer_resumes_too(agent, memory, new_model, down, said):
    """G5: the same message in a new run, with a new id, goes on with the turn that is open."""
    graph = agent(new_model(down("no answer"), "fine"), saver=False)
    with pytest.raises(down):
        graph.invoke(human("hello"), thread())
    graph.invoke(human("hello"), thread())
    assert said(memory, "t1") == ["user: hello", "assistant: fine"]


def test_another_question_after_an_error_loses_neither(agent, memory, new_model, down, said):
    """G9: what the user said before the model failed is in the request and in the log with what came next."""
    model = new_model(down("no answer"), "fine")
    graph = agent(model)
    with pytest.raises(down):
        graph.invoke(human("first"), thread())
    graph.invoke(human("second"), thread())
    assert said(memory, "t1") == ["user: first", "user: second", "assistant: fine"]
    joined = " ".join(model.texts[1])
    assert "first" in joined
    assert "second" in joined


def test_an_error_within_a_tool_loop_is_resumed(agent, memory, new_model, down, said):
    """G5: the call and its result are kept with the open turn and are not asked for again."""
    model = new_model(call(), down("no answer"), "Warm.")
    graph = agent(model, tools=[weather])
    with pytest.raises(down):
        graph.invoke(human("How is Rome?"), thread())
    graph.invoke(human("How is Rome?"), thread())
    assert said(memory, "t1") == ["user: How is Rome?", "assistant: ", "tool: 21 degrees in Rome", "assistant: Warm."]
    assert [m.type for m in model.requests[2]] == ["human", "ai", "tool"]


def test_a_thread_that_began_without_memory_is_taken_in_once(memory, model, said):
    """G5: a middleware that is added later imports the thread's messages, and only once."""
    saver = InMemorySaver()
    bare = create_agent(model, tools=[], checkpointer=saver)
    bare.invoke(human("one"), thread())
    bare.invoke(human("two"), thread())
    graph = create_agent(model, tools=[], checkpointer=saver, middleware=[HybridMemoryMiddleware(memory, owner="ann")])
    graph.invoke(human("three"), thread())
    graph.invoke(human("four"), thread())
    texts = ["one", "answer 1", "two", "answer 2", "three", "answer 3", "four", "answer 4"]
    assert [line.split(": ")[1] for line in said(memory, "t1")] == texts
    assert [line.split(": ")[1] for line in model.texts[3]] == texts[:-1]


def test_a_caller_without_a_checkpointer_passes_only_what_is_new(agent, memory, model, said):
    """The memory knows more than the state, and the model sees all of it; the same words twice are two turns."""
    graph = agent(model, saver=False)
    for text in ("Hello", "thanks", "thanks"):
        graph.invoke(human(text), thread())
    assert model.texts[2] == ["human: Hello", "ai: answer 1", "human: thanks", "ai: answer 2", "human: thanks"]
    assert len(said(memory, "t1")) == 6


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
def test_a_caller_who_passes_the_whole_transcript_doubles_nothing(agent, memory, model, said, ids):
    """G5: a front end that sends everything each time, with or without ids, adds only what is new."""
    graph = agent(model, saver=False)
    transcript = []
    for text in ("Hello", "thanks", "thanks", "bye"):
        transcript.append(HumanMessage(text) if ids else {"role": "user", "content": text})
        result = graph.invoke({"messages": transcript}, thread())["messages"]
        transcript = list(result) if ids else [*transcript, {"role": "assistant", "content": result[-1].text}]
    assert [line.split(": ")[1] for line in said(memory, "t1")] == [
        "Hello", "answer 1", "thanks", "answer 2", "thanks", "answer 3", "bye", "answer 4",
    ]  # fmt: skip
    assert len(model.requests[3]) == 7


def test_a_caller_who_passes_a_sliding_transcript_doubles_nothing(agent, memory, model, said):
    """G5: only the end of the transcript, without ids, is recognised by what it says."""
    graph = agent(model, saver=False)
    lines = []
    for number in range(6):
        lines.append({"role": "user", "content": f"question {number}"})
        answer = graph.invoke({"messages": lines[-3:]}, thread())["messages"][-1]
        lines.append({"role": "assistant", "content": answer.text})
    assert len(said(memory, "t1")) == 12


def test_two_threads_and_two_owners_share_one_instance(memory, new_model, said):
    """G7: one instance serves all threads at once, and nothing crosses between threads or owners."""
    model = new_model()
    mine = HybridMemoryMiddleware(memory, owner=lambda runtime: runtime.context.user)
    graph = create_agent(
        model, tools=[], middleware=[mine], checkpointer=InMemorySaver(), context_schema=SimpleNamespace
    )

    def talk(number):
        for round_ in range(4):
            graph.invoke(
                human(f"secret{number} {round_}"),
                thread(f"t{number % 3}-{number}"),
                context=SimpleNamespace(user=f"user{number}"),
            )

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(talk, range(6)))
    for number in range(6):
        lines = said(memory, f"t{number % 3}-{number}", owner=f"user{number}")
        assert len(lines) == 8
        assert [line for line in lines if "secret" in line] == [f"user: secret{number} {r}" for r in range(4)]
    for request in model.requests:
        assert len({word for m in request for word in m.text.split() if word.startswith("secret")}) == 1


def test_a_stream_is_whole_and_holds_nothing_of_ours(agent, memory, new_model, said):
    """Streamed tokens are the model's answer and nothing else, and the turn is committed after them."""
    graph = agent(new_model("It is warm today."))
    chunks = list(graph.stream(human("Weather?"), thread(), stream_mode="messages"))
    text = "".join(chunk.text for chunk, _meta in chunks if isinstance(chunk, AIMessageChunk))
    assert text.strip() == "It is warm today."
    assert [line.strip() for line in said(memory, "t1")] == ["user: Weather?", "assistant: It is warm today."]


def test_a_stream_that_breaks_commits_nothing(agent, memory, new_model, down, said):
    """G6: the model's stream breaks, the log is as before, and the retry is answered once."""
    model = new_model("one two three", "fine", break_after=2)
    graph = agent(model)
    with pytest.raises(down):
        for _chunk in graph.stream(human("Count"), thread(), stream_mode="messages"):
            pass
    assert said(memory, "t1") == []
    model.break_after = None
    graph.invoke(human("Count"), thread())
    assert said(memory, "t1") == ["user: Count", "assistant: fine"]


def test_a_stream_left_early_loses_nothing(agent, memory, model, said):
    """G6, G9: the consumer leaves before the end; the next run goes on with a request that is valid."""
    graph = agent(model)
    stream = graph.stream(human("first"), thread(), stream_mode="messages")
    next(stream)
    stream.close()
    graph.invoke(human("second"), thread())
    lines = said(memory, "t1")
    assert lines[0] == "user: first"
    assert lines[-2:] == ["user: second", f"assistant: answer {len(model.requests)}"]
    assert sum("first" in text for text in model.texts[-1]) == 1


async def test_a_cancelled_run_loses_nothing(agent, memory, new_model, said):
    """G6: a task is cancelled while the model works; the turn stays open and the retry is recorded once."""
    gate = threading.Event()
    started = threading.Event()

    class Waiting(AgentMiddleware):
        async def awrap_model_call(self, request, handler):
            started.set()
            await asyncio.to_thread(gate.wait)
            return await handler(request)

    graph = agent(new_model("fine"), last=[Waiting()])
    task = asyncio.create_task(graph.ainvoke(human("hello"), thread()))
    await asyncio.to_thread(started.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said(memory, "t1") == []
    gate.set()
    await graph.ainvoke(human("hello"), thread())
    assert said(memory, "t1") == ["user: hello", "assistant: fine"]


class Report(BaseModel):
    """A report."""

    city: str
    degrees: int


def test_a_structured_answer_closes_the_turn(agent, memory, new_model, said):
    """response_format works, its schema is counted, and the turn is committed with the structured answer."""
    model = new_model(call("Report", city="Rome", degrees=21), "fine")
    graph = agent(model, tools=[weather], response_format=ToolStrategy(Report))
    result = graph.invoke(human("How is Rome?"), thread())
    assert result["structured_response"] == Report(city="Rome", degrees=21)
    assert [line.split(":")[0] for line in said(memory, "t1")] == ["user", "assistant", "tool"]
    assert memory.session("t1", owner="ann").resume() is None
    graph2 = agent(model)
    graph2.invoke(human("Thanks"), thread())
    assert said(memory, "t1")[3:] == ["user: Thanks", "assistant: fine"]


def test_an_interrupt_before_a_tool_is_resumed(agent, memory, new_model, said):
    """A human edits a call before it runs: nothing is committed meanwhile, and the model sees what the state holds."""
    model = new_model(call(city="Rome"), "Cold.")
    graph = agent(model, tools=[weather], last=[HumanInTheLoopMiddleware(interrupt_on={"weather": True})])
    graph.invoke(human("How is Rome?"), thread())
    assert said(memory, "t1") == []
    edit = {"type": "edit", "edited_action": {"name": "weather", "args": {"city": "Oslo"}}}
    graph.invoke(Command(resume={"decisions": [edit]}), thread())
    lines = said(memory, "t1")
    assert lines[2].endswith("21 degrees in Oslo")
    assert lines[3:] == ["assistant: Cold."]
    assert model.requests[1] == graph.get_state(thread()).values["messages"][:3]


@pytest.mark.parametrize("order", ["first", "last"])
def test_stacked_with_the_built_in_ones(agent, memory, new_model, said, order):
    """In either order beside summarising and clearing middleware: each message once, nothing of theirs recorded."""
    summarizer = new_model(*["SUMMARY OF EVERYTHING"] * 20)
    others = [
        SummarizationMiddleware(summarizer, trigger=("messages", 4), keep=("messages", 2)),
        ContextEditingMiddleware(),
    ]
    model = new_model()
    graph = agent(model, **{order: others})
    for number in range(6):
        graph.invoke(human(f"question {number}"), thread())
    lines = said(memory, "t1")
    assert [line for line in lines if line.startswith("user")] == [f"user: question {n}" for n in range(6)]
    assert len(lines) == 12
    assert not any("SUMMARY OF EVERYTHING" in text for text in model.texts[-1])


def test_redacting_middleware_comes_before_what_is_kept(agent, memory, model, said):
    """What another middleware redacts before the model is redacted in the memory as well."""
    graph = agent(model, last=[PIIMiddleware("email", strategy="redact")])
    graph.invoke(human("I am ann@example.org"), thread())
    graph.invoke(human("Who am I?"), thread())
    assert not any("ann@example.org" in text for texts in model.texts for text in texts)
    assert not any("ann@example.org" in line for line in said(memory, "t1"))


def test_what_other_middleware_adds_for_one_call_is_sent_and_not_kept(agent, memory, model, said):
    """A reminder at the end and an example at the start reach the model in their places, and no log."""

    class Reminder(AgentMiddleware):
        def wrap_model_call(self, request, handler):
            extra = [HumanMessage("EXAMPLE"), *request.messages, HumanMessage("REMINDER")]
            return handler(request.override(messages=extra))

    graph = agent(model, first=[Reminder()])
    graph.invoke(human("one"), thread())
    graph.invoke(human("two"), thread())
    assert model.texts[1] == ["human: EXAMPLE", "human: one", "ai: answer 1", "human: two", "human: REMINDER"]
    assert len(said(memory, "t1")) == 4


def test_a_guard_that_ends_the_run_is_recorded(agent, memory, model, said):
    """A run that ends before the model is called still records what was said."""

    class Guard(AgentMiddleware):
        @hook_config(can_jump_to=["end"])
        def before_agent(self, state, runtime):
            return {"messages": [AIMessage("Not allowed.")], "jump_to": "end"}

    graph = agent(model, first=[Guard()])
    graph.invoke(human("bad"), thread())
    assert said(memory, "t1") == ["user: bad", "assistant: Not allowed."]
    assert model.requests == []


def test_a_session_of_your_own(memory, model, said):
    """session_id may be a text or come from the runtime; then no thread is needed."""
    graph = create_agent(model, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann", session_id="diary")])
    graph.invoke(human("Hello"))
    assert len(said(memory, "diary")) == 2
    other = HybridMemoryMiddleware(memory, owner="ann", session_id=lambda runtime: runtime.context)
    create_agent(model, tools=[], middleware=[other], context_schema=str).invoke(human("Hi"), context="letters")
    assert len(said(memory, "letters")) == 2


def test_without_a_session_the_error_says_what_to_do(agent, model):
    """Neither session_id nor thread_id: a typed error that names both."""
    graph = agent(model, saver=False)
    with pytest.raises(InvalidSetting, match="thread_id"):
        graph.invoke(human("Hello"))


def test_a_budget_that_cannot_hold_the_prompt_is_a_typed_error(agent, model):
    """G1, G2: what may never be cut does not fit, and the error gives both numbers."""
    graph = agent(model, system_prompt="word " * 500, mine={"budget": Budget(max_tokens=300, completion=100)})
    with pytest.raises(BudgetTooSmall, match="the budget is 200"):
        graph.invoke(human("Hello"), thread())
    assert model.requests == []


def test_a_restart_goes_on_from_the_file(url, new_model, said):
    """G4: another process with the same file, and no checkpointer, sees the conversation and its constraints."""
    first = new_model()
    with Memory.open(url) as memory:
        graph = create_agent(first, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann")])
        graph.invoke(human(NUTS), thread())
    second = new_model()
    with Memory.open(url) as memory:
        graph = create_agent(second, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann")])
        graph.invoke(human("Dish?"), thread())
        assert len(said(memory, "t1")) == 4
    assert "Never suggest anything with peanuts." in second.requests[0][0].text
    assert [m.type for m in second.requests[0]] == ["system", "human", "ai", "human"]


def test_images_reach_the_model_as_they_were(agent, model):
    """Content blocks of the current and of earlier messages are sent exactly as the user gave them."""
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    graph = agent(model)
    graph.invoke(human(content), thread())
    graph.invoke(human("Sure?"), thread())
    assert model.requests[0][0].content == content
    assert model.requests[1][0].content == content


def test_what_was_recalled_stays_with_its_message(memory, new_model):
    """G13: the block recalled for a question is sent again, byte for byte, in the next request."""
    budget = Budget(max_tokens=700, completion=100, recall=0.3, recall_max=0.3)
    model = new_model(*["word " * 40] * 60)
    graph = create_agent(model, tools=[], middleware=[HybridMemoryMiddleware(memory, owner="ann", budget=budget)])
    graph.invoke(human("My locker code is 4471."), thread())
    for number in range(14):
        graph.invoke(human(f"Tell me about topic {number}, please, in some detail."), thread())
        memory.wait(5)
    graph.invoke(human("What is my locker code?"), thread())
    asked = model.requests[-1][-1]
    assert "4471" in asked.text
    graph.invoke(human("ok"), thread())
    again = [m for m in model.requests[-1] if m.id == asked.id]
    assert [m.content for m in again] == [asked.content]


def test_tool_messages_keep_status_and_artifact(agent, memory, new_model):
    """What LangChain keeps on a tool's result is still there when the model is called again."""

    @tool(response_format="content_and_artifact")
    def lookup(word: str) -> tuple[str, dict]:
        """Look a word up."""
        return f"{word} found", {"rows": [1, 2]}

    model = new_model(call("lookup", word="x"), "done")
    graph = agent(model, tools=[lookup])
    graph.invoke(human("Look x up"), thread())
    result = model.requests[1][2]
    assert isinstance(result, ToolMessage)
    assert (result.content, result.status, result.artifact) == ("x found", "success", {"rows": [1, 2]})


@pytest.mark.parametrize("saver", [True, False], ids=["checkpointer", "none"])
def test_a_message_larger_than_the_budget_does_not_block_the_thread(agent, memory, model, said, saver):
    """G1, G9: refused with a typed error as often as it is sent, kept once; the next message is answered."""
    graph = agent(model, saver=saver, mine={"budget": Budget(max_tokens=500, completion=100)})
    giant = "x y z " * 600
    for _time in range(2):
        with pytest.raises(BudgetTooSmall):
            graph.invoke(human(giant), thread())
    graph.invoke(human("Hello"), thread())
    graph.invoke(human("Again"), thread())
    lines = said(memory, "t1")
    assert [line[:12] for line in lines] == [
        "user: x y z ",
        "user: Hello",
        "assistant: a",
        "user: Again",
        "assistant: a",
    ]
    assert model.texts[1][-1] == "human: Again"


def test_a_budget_that_cannot_hold_the_prompt_keeps_the_turn_open(memory, new_model, said):
    """When the developer's prompt is what is too large, the user's message waits for a better budget."""
    model = new_model("fine")
    for most in (300, 2_000):
        mine = HybridMemoryMiddleware(memory, owner="ann", budget=Budget(max_tokens=most, completion=100))
        graph = create_agent(model, tools=[], system_prompt="word " * 500, middleware=[mine])
        if most == 300:
            with pytest.raises(BudgetTooSmall):
                graph.invoke(human("Hello"), thread())
        else:
            graph.invoke(human("Hello"), thread())
    assert said(memory, "t1") == ["user: Hello", "assistant: fine"]


def test_the_summariser_does_not_leak_into_the_users_stream(new_model):
    """A LangChain chat model that summarises behind is not heard in the stream of the agent in front."""
    summarizer = new_model(*["SECRETSUMMARY of it all"] * 50)
    budget = Budget(max_tokens=500, completion=100)
    model = new_model(*["word " * 30] * 30)
    seen = []
    with Memory.open(summarizer=summarizer) as memory:
        mine = HybridMemoryMiddleware(memory, owner="ann", budget=budget)
        graph = create_agent(model, tools=[], middleware=[mine], checkpointer=InMemorySaver())
        for number in range(20):
            question = human(f"question {number} " + "detail " * 15)
            for chunk, _meta in graph.stream(question, thread(), stream_mode="messages"):
                seen.append(chunk.text)
                memory.wait(1)
    assert summarizer.requests
    assert any("SECRETSUMMARY" in text for texts in model.texts for text in texts)
    assert not any("SECRETSUMMARY" in text for text in seen)


@pytest.mark.parametrize("saver", [True, False], ids=["checkpointer", "none"])
def test_runs_at_once_on_one_session_keep_their_turns(memory, model, said, saver):
    """G5, G9: eight runs on one session at the same time: every question and every answer is in the log once."""
    graph = create_agent(
        model,
        tools=[],
        middleware=[HybridMemoryMiddleware(memory, owner="ann", session_id="s1"), Slow()],
        checkpointer=InMemorySaver() if saver else None,
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: graph.invoke(human(f"question {n}"), thread(f"t{n}")), range(8)))
    lines = said(memory, "s1")
    assert sorted(lines) == sorted(
        [f"user: question {n}" for n in range(8)] + [f"assistant: answer {n + 1}" for n in range(8)]
    )
    turns = [entry.turn for entry in memory.session("s1", owner="ann").history()]
    assert len(set(turns)) == 8
    assert memory.session("s1", owner="ann").resume() is None
