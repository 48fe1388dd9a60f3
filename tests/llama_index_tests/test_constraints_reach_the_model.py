"""G2: whatever engine or agent asks, the constraint stands in a system message that its model gets."""

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import (
    CondensePlusContextChatEngine,
    CondenseQuestionChatEngine,
    ContextChatEngine,
    SimpleChatEngine,
)
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer

from llama_index.memory.langmem_plugin import with_constraints
from llama_index.memory.langmem_plugin.constrained import one_system

RULE = "Never call me before noon."
ANSWER = "Thought: I can answer.\nAnswer: ok"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def bound(open_buffer):
    """A buffer whose user has said the rule, many exchanges ago."""

    def make(**settings):
        buffer = open_buffer(token_limit=900, **settings)
        buffer.put(ChatMessage(role="user", content=RULE))
        buffer.put(ChatMessage(role="assistant", content="Noted."))
        for number in range(25):
            buffer.put(ChatMessage(role="user", content=f"Tell me of ship {number} and its crew of {number} men."))
            buffer.put(ChatMessage(role="assistant", content=f"Ship {number} met {number} whales and a storm."))
        assert RULE not in [m.content for m in buffer.get() if m.role == "user"]
        return buffer

    return make


def in_system(request):
    return any(RULE in (m.content or "") for m in request if m.role == "system")


AGENTS = {
    "function": lambda llm, prompt: FunctionAgent(tools=[add], llm=llm, system_prompt=prompt),
    "react": lambda llm, prompt: ReActAgent(tools=[add], llm=llm, system_prompt=prompt),
    "code_act": lambda llm, prompt: CodeActAgent(code_execute_fn=lambda code: code, llm=llm, system_prompt=prompt),
    "workflow of function agents": lambda llm, prompt: AgentWorkflow(
        agents=[FunctionAgent(name="one", description="d", tools=[add], llm=llm, system_prompt=prompt)]
    ),
    "workflow of react agents": lambda llm, prompt: AgentWorkflow(
        agents=[ReActAgent(name="one", description="d", tools=[add], llm=llm, system_prompt=prompt)]
    ),
}


@pytest.mark.parametrize("prompt", [None, "Be brief."])
@pytest.mark.parametrize("kind", AGENTS)
async def test_agents(kind, prompt, bound, scripted):
    """With and without a system prompt of its own, no agent's model misses the rule, in any call of a run."""
    llm = scripted(ANSWER, ANSWER, function_calling="function" in kind)
    buffer = bound()
    for question in ("Hello?", "And now?"):
        await AGENTS[kind](llm, prompt).run(user_msg=question, memory=buffer)
    assert len(llm.requests) == 2
    assert all(in_system(request) for request in llm.requests)


async def test_every_call_of_a_tool_loop(bound, scripted, call):
    """The rule is in the second and third model call of a run too."""
    llm = scripted(call("add", "c1", a=1, b=1), call("add", "c2", a=2, b=2), "done")
    await FunctionAgent(tools=[add], llm=llm).run(user_msg="Add.", memory=bound())
    assert [in_system(request) for request in llm.requests] == [True] * 3
    steps = ['Thought: t\nAction: add\nAction Input: {"a": 1, "b": 1}'] * 2
    llm = scripted(*steps, ANSWER, function_calling=False)
    await ReActAgent(tools=[add], llm=llm).run(user_msg="Add.", memory=bound())
    assert [in_system(request) for request in llm.requests] == [True] * 3


async def test_after_a_handoff(bound, scripted, call):
    """The agent that takes over, of another kind and without a prompt, has the rule."""
    first = scripted(call("handoff", "h1", to_agent="two", reason="r"))
    second = scripted(ANSWER, function_calling=False)
    one = FunctionAgent(name="one", description="d", llm=first, can_handoff_to=["two"])
    two = ReActAgent(name="two", description="d", llm=second, tools=[add], can_handoff_to=[])
    await AgentWorkflow(agents=[one, two], root_agent="one").run(user_msg="Go.", memory=bound())
    assert in_system(first.requests[-1])
    assert in_system(second.requests[-1])


def engines(llm, buffer, retriever, **settings):
    return {
        "simple": lambda: SimpleChatEngine.from_defaults(llm=llm, memory=buffer, **settings),
        "context": lambda: ContextChatEngine.from_defaults(retriever=retriever, llm=llm, memory=buffer, **settings),
        "condense": lambda: CondensePlusContextChatEngine.from_defaults(
            retriever=retriever, llm=llm, memory=buffer, **settings
        ),
    }


@pytest.mark.parametrize("prompt", [None, "Be brief."])
@pytest.mark.parametrize("kind", ["simple", "context", "condense"])
async def test_engines(kind, prompt, bound, scripted, retriever):
    """Every engine's answering call has the rule, sync, async and streaming."""
    llm = scripted()
    engine = engines(llm, bound(), retriever, **({"system_prompt": prompt} if prompt else {}))[kind]()
    engine.chat("One?")
    assert in_system(llm.requests[-1])
    await engine.achat("Two?")
    assert in_system(llm.requests[-1])
    list(engine.stream_chat("Three?").response_gen)
    assert in_system(llm.requests[-1])
    response = await engine.astream_chat("Four?")
    assert [part async for part in response.async_response_gen()]
    assert in_system(llm.requests[-1])


@pytest.mark.parametrize("chat_model", [True, False])
def test_condense_question(bound, scripted, retriever, chat_model):
    """Its answering model has the rule through `with_constraints`, chat model or not."""
    buffer = bound()
    answering = with_constraints(scripted(chat_model=chat_model), buffer)
    query_engine = RetrieverQueryEngine(
        retriever=retriever, response_synthesizer=get_response_synthesizer(llm=answering)
    )
    condensing = scripted("When may you call?")
    engine = CondenseQuestionChatEngine.from_defaults(query_engine=query_engine, llm=condensing, memory=buffer)
    engine.chat("When?")
    assert RULE in condensing.last
    assert RULE in answering.last
    assert answering.last.count(RULE) == 1


@pytest.mark.parametrize("kind", ["simple", "context", "condense"])
def test_before_the_user_where_there_is_no_system_role(kind, bound, scripted, retriever):
    """`insert="user"` sends no system message of ours, and the rule with the user's text."""
    llm = scripted()
    engines(llm, bound(insert="user"), retriever)[kind]().chat("One?")
    assert not in_system(llm.requests[-1])
    assert any(RULE in (m.content or "") for m in llm.requests[-1] if m.role == "user")
    assert llm.requests[-1][-1].content.endswith("One?")


@pytest.mark.parametrize("kind", ["simple", "context"])
def test_an_engine_of_ones_own_class(kind, bound, scripted, retriever):
    """A subclass that overrides nothing of memory is treated as what it is."""
    base = {"simple": SimpleChatEngine, "context": ContextChatEngine}[kind]
    own = type("Own", (base,), {})
    llm = scripted()
    extra = {"retriever": retriever} if kind == "context" else {}
    engine = own.from_defaults(llm=llm, memory=bound(), **extra)
    engine.chat("One?")
    assert in_system(llm.requests[-1])
    assert llm.last.count("One?") == 1


def test_with_constraints_makes_one_system_message(bound, scripted):
    """All system messages become the first one, with the rule at its end; the LLM given stays as it was."""
    plain = scripted()
    llm = with_constraints(plain, bound())
    assert isinstance(llm, type(plain))
    assert type(llm) is not type(plain)
    given = [
        ChatMessage(role="system", content="a"),
        ChatMessage(role="user", content="q"),
        ChatMessage(role="system", content="b"),
    ]
    llm.chat(given)
    (request,) = llm.requests
    assert [m.role.value for m in request] == ["system", "user"]
    assert request[0].content.startswith("a\n\nb\n\n")
    assert RULE in request[0].content
    assert len(given) == 3
    assert given[0].content == "a"
    plain.chat(given)
    assert [m.role.value for m in plain.requests[-1]] == ["system", "user", "system"]


async def test_with_constraints_in_every_way_of_calling(bound, scripted):
    """Chat, completion, streams and their async forms all carry the rule once."""
    buffer = bound()
    llm = with_constraints(scripted(), buffer)
    message = [ChatMessage(role="user", content="q")]
    llm.chat(message)
    list(llm.stream_chat(message))
    await llm.achat(message)
    _ = [part async for part in await llm.astream_chat(message)]
    llm.complete("q")
    list(llm.stream_complete("q"))
    await llm.acomplete("q")
    _ = [part async for part in await llm.astream_complete("q")]
    await llm.achat_with_tools([], chat_history=message)
    assert len(llm.requests) == 9
    assert all("\n".join(m.content for m in request).count(RULE) == 1 for request in llm.requests)


async def test_an_agent_with_a_constrained_llm(bound, scripted):
    """Memory and LLM together send the rule once."""
    llm = with_constraints(scripted(ANSWER, function_calling=False), buffer := bound())
    await ReActAgent(tools=[add], llm=llm).run(user_msg="Hello?", memory=buffer)
    assert llm.requests[-1][0].content.count(RULE) == 1
    assert [m.role.value for m in llm.requests[-1]].count("system") == 1


def test_one_system_leaves_requests_without_constraints_alone():
    """With nothing to add nothing is changed."""
    messages = [ChatMessage(role="user", content="q"), ChatMessage(role="system", content="s")]
    assert one_system(messages, "") == messages
