"""Long real conversations through every way in: no request over budget, none invalid, every constraint present."""

from __future__ import annotations

import json
import os
import warnings

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_langmem_plugin import HybridChatMessageHistory, HybridMemoryMiddleware, to_core, with_memory
from langmem_plugin.config import Budget
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Role
from langmem_plugin.testing.validity import problems

SYSTEM = "You are a friend who listens."
WHOLE = os.environ.get("LANGMEM_PLUGIN_LONG") == "1"
"""All five conversations; else the first."""


def exchanges(conversation):
    """What the first speaker says and what the second answers, in order."""
    pairs = []
    number = 1
    while f"session_{number}" in conversation:
        for turn in conversation[f"session_{number}"]:
            if turn["speaker"] == conversation["speaker_a"]:
                pairs.append([turn["text"], []])
            elif pairs:
                pairs[-1][1].append(turn["text"])
        number += 1
    return [(asked, "\n".join(answers) or "I see.") for asked, answers in pairs]


@pytest.fixture
def conversations(data_dir):
    place = data_dir / "locomo" / "dev.json"
    if not place.exists():
        pytest.skip(f"{place} is missing")
    samples = json.loads(place.read_text())
    return [exchanges(sample["conversation"]) for sample in (samples if WHOLE else samples[:1])]


def by_middleware(model, memory, budget):
    mine = HybridMemoryMiddleware(memory, owner="ann", session_id="s", budget=budget)
    agent = create_agent(model, tools=[], system_prompt=SYSTEM, middleware=[mine])
    return lambda text: agent.invoke({"messages": [HumanMessage(text)]})


PROMPT = ChatPromptTemplate.from_messages([("system", SYSTEM), MessagesPlaceholder("history"), ("human", "{question}")])
KEYS = {"input_messages_key": "question", "history_messages_key": "history"}


def by_history(model, memory, budget):
    # A history is read before the question is known: the completion reserve leaves room for question and prompt.
    room = Budget(max_tokens=budget.max_tokens, completion=budget.completion + 250)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chain = RunnableWithMessageHistory(
            PROMPT | model, lambda s: HybridChatMessageHistory(s, memory=memory, owner="ann", budget=room), **KEYS
        )
    return lambda text: chain.invoke({"question": text}, {"configurable": {"session_id": "s"}})


def by_runnable(model, memory, budget):
    chain = with_memory(model, memory=memory, owner="ann", session_id="s", system=SYSTEM, budget=budget)
    return chain.invoke


def by_prompt(model, memory, budget):
    chain = with_memory(PROMPT | model, memory=memory, owner="ann", session_id="s", budget=budget, **KEYS)
    return lambda text: chain.invoke({"question": text})


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1_000, 2_000, 4_000])
@pytest.mark.parametrize("way", [by_middleware, by_history, by_runnable, by_prompt])
def test_every_request_keeps_the_promises(conversations, new_model, way, tokens):
    """G1, G2, G3: counted by o200k_base, each request fits, is valid, and has each constraint word for word."""
    budget = Budget(max_tokens=tokens, completion=tokens // 8)
    for pairs in conversations:
        model = new_model(*[AIMessage(answer) for _asked, answer in pairs])
        with Memory.open(model="gpt-4o") as memory:
            session = memory.session("s", owner="ann")
            talk = way(model, memory, budget)
            for number, (asked, _answer) in enumerate(pairs):
                held = [constraint.text for constraint in session.constraints()]
                talk(asked)
                request = [to_core(message) for message in model.requests[-1]]
                assert memory.counter.count_request(request) <= budget.prompt, number
                systems = " ".join(message.text for message in request if message.role is Role.SYSTEM)
                assert all(text in systems for text in held), number
                if way is not by_history:  # its prompt and its history make two system messages
                    assert problems(request) == [], number
            assert len(session.history()) == 2 * len(pairs)
