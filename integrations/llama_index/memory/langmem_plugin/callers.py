"""Who asks the memory, because LlamaIndex's engines and agents treat what it returns differently.

`BaseMemory.get` does not say who calls. Three differences matter, and none can be seen in
its arguments:

* Simple engines and agents put the user's message before they get; the engines with a
  retriever get first and put the message after the answer.
* Engines with a retriever format memory text as a template, so `{query_str}` in it would
  be replaced.
* `ReActAgent` and `CodeActAgent` without a system prompt of their own throw the first
  system message away.

So the call stack is read, a few frames up and only by type. Where it says nothing (a call
from your own code, or through a task of its own) the answer is `Caller()`, which is safe.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.agent.workflow.base_agent import BaseWorkflowAgent
from llama_index.core.chat_engine import CondenseQuestionChatEngine, SimpleChatEngine
from llama_index.core.chat_engine.types import BaseChatEngine, StreamingAgentChatResponse

_FRAMES: Final = 24
"""How far up the stack is looked; an engine or agent calls its memory directly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What the code that asks will do with the answer."""

    appends_input: bool = False
    """It sends the user's message itself, after what the memory returns."""
    formats_text: bool = False
    """It replaces `{name}` in the texts that the memory returns."""
    drops_first_system: bool = False
    """It throws the first system message away."""
    writes_stream: bool = False
    """It stores the answer of a stream, perhaps long after the user went on."""


def caller() -> Caller:
    """Who called the method of the memory that calls this."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    for _ in range(_FRAMES):
        if frame is None:
            break
        names = frame.f_code.co_varnames
        if names and names[0] == "self" and (known := _of(frame.f_locals.get("self"))) is not None:
            return known
        frame = frame.f_back
    return Caller()


def _of(who: Any) -> Caller | None:
    if isinstance(who, StreamingAgentChatResponse):
        return Caller(writes_stream=True)
    if isinstance(who, SimpleChatEngine):
        return Caller()
    if isinstance(who, CondenseQuestionChatEngine):
        return Caller(appends_input=True)
    if isinstance(who, BaseChatEngine):
        return Caller(appends_input=True, formats_text=True)
    if isinstance(who, AgentWorkflow):
        return Caller(drops_first_system=any(_drops(agent) for agent in who.agents.values()))
    if isinstance(who, BaseWorkflowAgent):
        return Caller(drops_first_system=_drops(who))
    return None


def _drops(agent: Any) -> bool:
    return not isinstance(agent, FunctionAgent) and not agent.system_prompt
