"""Models of both frameworks that say what they are told to, and show what they were sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from langmem_plugin.messages import Message, Role, assistant

Look: TypeAlias = Callable[[Sequence[Message]], None]
"""Is shown each request where the model receives it."""


def langchain_player(look: Look, answer: Callable[[], Message | str]) -> Any:
    """A chat model of LangChain's; tools may be bound to it, and `answer` may call them."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.outputs import ChatGeneration, ChatResult

    from langchain_langmem_plugin import from_core, to_core

    class Player(BaseChatModel):
        """Answers by script."""

        @property
        def _llm_type(self) -> str:
            return "player"

        def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
            return self

        def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
            look([to_core(message) for message in messages])
            said = answer()
            told: Any = from_core(assistant(said) if isinstance(said, str) else said)
            return ChatResult(generations=[ChatGeneration(message=told)])

    return Player()


def llama_index_player(look: Look, answer: Callable[[], str]) -> Any:
    """An LLM of LlamaIndex's."""
    from llama_index.core.base.llms.types import ChatMessage, ChatResponse
    from llama_index.core.llms import MockLLM

    from llama_index.memory.langmem_plugin import to_core

    class Player(MockLLM):  # type: ignore[misc, unused-ignore]
        """Answers by script."""

        def chat(self, messages: Sequence[Any], **_: Any) -> Any:
            look(_as_one_system(to_core(message) for message in messages))
            return ChatResponse(message=ChatMessage(role="assistant", content=answer()))

    return Player()


def _as_one_system(messages: Iterable[Message]) -> list[Message]:
    """The request with its leading system messages as one, as OpenAI, Anthropic and Bedrock read them."""
    request = list(messages)
    head = 0
    while head < len(request) and request[head].role is Role.SYSTEM:
        head += 1
    if head < 2:
        return request
    return [request[0].with_text("\n".join(message.text for message in request[:head])), *request[head:]]
