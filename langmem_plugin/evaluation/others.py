"""What LangChain and LlamaIndex bring along for a long conversation, asked the same way as this memory.

Summaries are written by a deterministic extract in place of a model, so that runs can be
compared; real summaries are not more stable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from langmem_plugin.context.extract import extract
from langmem_plugin.messages import Message, user
from langmem_plugin.tokens import TokenCounter

_SUMMARY_TOKENS = 300


class Other(Protocol):
    """A way to build requests."""

    def ask(self, message: Message) -> Sequence[Message]:
        """The request that would be sent once the user has said this."""
        ...

    def hear(self, *messages: Message) -> None:
        """What was said beside the user's question."""
        ...


def others() -> Mapping[str, Callable[[TokenCounter, int], Other]]:
    """Each by its name, made from a counter and a number of tokens."""
    return {
        "trim_messages": _Trimmed,
        "SummarizationMiddleware": _Summarised,
        "ChatMemoryBuffer": Buffer,
        "ChatSummaryMemoryBuffer": _SummaryBuffer,
    }


def _short(text: str, counter: TokenCounter) -> str:
    return extract([user(text)], count=counter.count, max_tokens=_SUMMARY_TOKENS) or text[:200]


class _Trimmed:
    """`trim_messages`: the newest messages that fit, beginning with the user."""

    def __init__(self, counter: TokenCounter, budget: int) -> None:
        self._counter, self._budget = counter, budget
        self._said: list[Any] = []

    def ask(self, message: Message) -> Sequence[Message]:
        from langchain_core.messages import trim_messages

        from langchain_langmem_plugin import to_core

        self.hear(message)
        kept = trim_messages(
            self._said,
            max_tokens=self._budget - self._counter.priming,
            token_counter=lambda messages: self._count(list(messages)),
            start_on="human",
        )
        return [to_core(one) for one in kept]

    def _count(self, messages: list[Any]) -> int:
        from langchain_langmem_plugin import to_core

        return sum(self._counter.count_message(to_core(one)) for one in messages)

    def hear(self, *messages: Message) -> None:
        from langchain_langmem_plugin import from_core

        self._said += [from_core(message) for message in messages]


class _Summarised(_Trimmed):
    """`SummarizationMiddleware` at its defaults, triggered by the budget."""

    def __init__(self, counter: TokenCounter, budget: int) -> None:
        from langchain.agents.middleware import SummarizationMiddleware
        from langchain_core.language_models import BaseChatModel
        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration, ChatResult

        class Extracts(BaseChatModel):
            @property
            def _llm_type(self) -> str:
                return "extract"

            def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
                answer = AIMessage(_short(messages[-1].text, counter))
                return ChatResult(generations=[ChatGeneration(message=answer)])

        super().__init__(counter, budget)
        self._middleware: Any = SummarizationMiddleware(
            Extracts(),
            trigger=("tokens", budget),
            token_counter=lambda messages: self._count(list(messages)),
        )

    def ask(self, message: Message) -> Sequence[Message]:
        from langchain_langmem_plugin import to_core

        self.hear(message)
        changed = self._middleware.before_model({"messages": self._said}, None)
        if changed:
            self._said = [one for one in changed["messages"] if one.type != "remove"]
        return [to_core(one) for one in self._said]


class Buffer:
    """`ChatMemoryBuffer`: the newest messages that fit."""

    def __init__(self, counter: TokenCounter, budget: int) -> None:
        self._counter = counter
        self._memory: Any = self.made(budget)

    def made(self, budget: int) -> Any:
        """LlamaIndex's memory of this budget."""
        from llama_index.core.memory import ChatMemoryBuffer

        return ChatMemoryBuffer.from_defaults(token_limit=budget, tokenizer_fn=self.tokens)

    def tokens(self, text: str) -> list[int]:
        """What LlamaIndex takes the length of."""
        return [0] * self._counter.count(text)

    def ask(self, message: Message) -> Sequence[Message]:
        """See `Other.ask`."""
        from llama_index.memory.langmem_plugin.convert import to_core

        self.hear(message)
        return [to_core(one) for one in self._memory.get()]

    def hear(self, *messages: Message) -> None:
        """See `Other.hear`."""
        from llama_index.memory.langmem_plugin.convert import from_core

        for message in messages:
            self._memory.put(from_core(message))


class _SummaryBuffer(Buffer):
    """`ChatSummaryMemoryBuffer`: the newest messages that fit, and a summary written at each request."""

    def made(self, budget: int) -> Any:
        """LlamaIndex's memory of this budget."""
        from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
        from llama_index.core.memory import ChatSummaryMemoryBuffer

        counter = self._counter

        class Extracts(CustomLLM):  # type: ignore[misc, unused-ignore]
            @property
            def metadata(self) -> Any:
                return LLMMetadata(context_window=10**6)

            def complete(self, prompt: str, **_: Any) -> Any:
                return CompletionResponse(text=_short(prompt, counter))

            def stream_complete(self, prompt: str, **_: Any) -> Any:
                return iter((self.complete(prompt),))

        return ChatSummaryMemoryBuffer.from_defaults(
            llm=Extracts(), token_limit=max(1, budget - _SUMMARY_TOKENS), tokenizer_fn=self.tokens
        )
