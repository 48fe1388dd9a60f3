"""Looking into a chain: its prompt, to count it, and its chat model, to give it one system message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from langchain_langmem_plugin.system import one_system


def merge_systems(chain: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The chain, and where its chat model can be seen, several system messages reach it as one.

    A history brings its constraints as a system message; the prompt has its own before
    it, and some providers refuse two.
    """
    steps = _steps(chain)
    for place, step in enumerate(steps[1:], start=1):
        if isinstance(_bare(step), BaseChatModel):
            merged = RunnableLambda(_one_system).with_config(run_name="one_system")
            return RunnableSequence(*steps[:place], merged, *steps[place:])
    return chain


def rendered_without_history(chain: Runnable[Any, Any], given: Mapping[str, Any]) -> list[BaseMessage] | None:
    """The prompt's messages for this input, if the chain begins with a prompt; None if not, or if it lacks a value."""
    prompt = _bare(_steps(chain)[0])
    if not isinstance(prompt, BasePromptTemplate) or not set(prompt.input_variables) <= set(given):
        return None
    return prompt.format_prompt(**{**prompt.partial_variables, **given}).to_messages()


def _steps(chain: Runnable[Any, Any]) -> Sequence[Runnable[Any, Any]]:
    chain = _bare(chain)
    return chain.steps if isinstance(chain, RunnableSequence) else [chain]


def _bare(step: Runnable[Any, Any]) -> Runnable[Any, Any]:
    while isinstance(step, RunnableBindingBase):
        step = step.bound
    return step


def _one_system(prompt: Any) -> Any:
    messages = prompt.to_messages() if isinstance(prompt, PromptValue) else prompt
    return one_system(messages) if isinstance(messages, list) else prompt
