"""A memory for the chains of langchain-classic, such as `ConversationChain` and `LLMChain`.

LangChain has deprecated these chains and their memories; new code should use
`HybridMemoryMiddleware` or `with_memory`. This class is for chains that are there.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_classic.base_memory import BaseMemory
from langchain_classic.memory.utils import get_prompt_input_key
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, get_buffer_string
from pydantic import PrivateAttr

from langchain_langmem_plugin.convert import from_core_all, to_core
from langmem_plugin.config import Budget
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.session import Session


class HybridChainMemory(BaseMemory):  # type: ignore[misc, unused-ignore]
    r"""A session of the memory as a chain's memory.

    Before the chain runs, its prompt gets the constraints, the summary, the window and what
    is recalled for the question; after it, question and answer are one committed turn. A
    chain that fails has saved nothing. The budget must leave room for the chain's own
    prompt: `Budget(completion=...)` reserves it.

    Args:
        memory: The memory.
        owner: Whose conversation it is.
        session_id: The session.
        memory_key: The prompt's variable for the history.
        input_key: Which of the chain's inputs is the user's; needed where there are several.
        output_key: Which of its outputs is the answer; needed where there are several.
        return_messages: Give messages, for a `MessagesPlaceholder`, in place of one text.
        human_prefix: How the user is named in the text.
        ai_prefix: How the assistant is named in the text.
        budget: Limits of the history in tokens; the memory's own if not given.

    Example:
        >>> from langmem_plugin import Memory
        >>> with Memory.open() as memory:
        ...     history = HybridChainMemory(memory, owner="ann", session_id="trip")
        ...     history.save_context({"input": "Hello"}, {"response": "Hi!"})
        ...     history.load_memory_variables({"input": "And now?"})
        {'history': 'Human: Hello\nAI: Hi!'}
    """

    memory_key: str = "history"
    input_key: str | None = None
    output_key: str | None = None
    return_messages: bool = False
    human_prefix: str = "Human"
    ai_prefix: str = "AI"

    _session: Session = PrivateAttr()
    _budget: Budget | None = PrivateAttr(default=None)

    def __init__(
        self, memory: Memory, *, owner: str, session_id: str, budget: Budget | None = None, **fields: Any
    ) -> None:
        super().__init__(**fields)
        self._session = memory.session(session_id, owner=owner)
        self._budget = budget

    @property
    def session(self) -> Session:
        """The session behind it."""
        return self._session

    @property
    def memory_variables(self) -> list[str]:
        """The one variable that the prompt gets."""
        return [self.memory_key]

    def load_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The history for this question, as messages or as one text.

        Raises:
            BudgetTooSmall: Constraints and question alone exceed the budget.
        """
        query = HumanMessage(self._question(inputs)) if inputs else None
        context = self._session.context(
            to_core(query) if query is not None else None, budget=self._budget, recall_as="pair"
        )
        messages: list[BaseMessage] = from_core_all(context.messages)
        if self.return_messages:
            return {self.memory_key: messages}
        return {self.memory_key: get_buffer_string(messages, human_prefix=self.human_prefix, ai_prefix=self.ai_prefix)}

    async def aload_memory_variables(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The same as `load_memory_variables`, in a thread."""
        return await asyncio.to_thread(self.load_memory_variables, inputs)

    def save_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """Commit question and answer as one turn; durable when it returns.

        Raises:
            InvalidSetting: There are several inputs or outputs and the key is not given.
            InvalidMessage: One of the two cannot be kept.
        """
        if self.output_key is None and len(outputs) != 1:
            raise InvalidSetting("output_key", None, f"name the answer's key, one of {sorted(outputs)}")
        answer = outputs[self.output_key or next(iter(outputs))]
        self._session.add(to_core(HumanMessage(self._question(inputs))), to_core(AIMessage(answer)))

    async def asave_context(self, inputs: dict[str, Any], outputs: dict[str, str]) -> None:
        """The same as `save_context`, in a thread."""
        await asyncio.to_thread(self.save_context, inputs, outputs)

    def clear(self) -> None:
        """Forget the session."""
        self._session.clear()

    async def aclear(self) -> None:
        """The same as `clear`, in a thread."""
        await asyncio.to_thread(self.clear)

    def _question(self, inputs: dict[str, Any]) -> str:
        if self.input_key is not None:
            return str(inputs[self.input_key])
        try:
            return str(inputs[get_prompt_input_key(inputs, self.memory_variables)])
        except ValueError as error:
            given = sorted(set(inputs) - {self.memory_key, "stop"})
            raise InvalidSetting("input_key", None, f"name the user's key, one of {given}") from error
