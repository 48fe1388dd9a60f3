"""Who speaks for the assistant: the script's own words, and at questions the answering model."""

from __future__ import annotations

from collections.abc import Sequence

from langmem_plugin.demo import standin
from langmem_plugin.demo.script import Exchange
from langmem_plugin.messages import Message, Role, ToolCall, assistant


class Player:
    """Plays the model in both frameworks, and keeps every request that reached it."""

    def __init__(self) -> None:
        self._exchange: Exchange | None = None
        self.requests: list[tuple[Message, ...]] = []
        """Of the exchange that runs, in order."""

    def expect(self, exchange: Exchange) -> None:
        """The next requests belong to this exchange."""
        self._exchange = exchange
        self.requests = []

    @property
    def at_question(self) -> bool:
        """Whether the answering model has the word."""
        return self._exchange is not None and self._exchange.is_question

    def note(self, request: Sequence[Message]) -> None:
        """Keep a request that somebody else answers."""
        self.requests.append(tuple(request))

    def speak(self, request: Sequence[Message]) -> Message:
        """The answer to a request: the script's next tool call or words, the stand-in's at a question."""
        self.note(request)
        exchange = self._exchange
        if exchange is None or exchange.is_question:
            return assistant(standin.answer(request))
        done = _results_since_the_question(request)
        if done < len(exchange.calls):
            call = exchange.calls[done]
            return assistant(
                "", ToolCall(id=f"call_{exchange.number}_{done}", name=call.name, arguments=call.arguments)
            )
        return assistant(exchange.answer)


def text_of(request: Sequence[Message]) -> str:
    """All that a model can read in a request."""
    parts = []
    for message in request:
        parts.append(message.text)
        parts += [call.arguments for call in message.tool_calls]
    return "\n".join(parts)


def _results_since_the_question(request: Sequence[Message]) -> int:
    count = 0
    for message in reversed(request):
        if message.role is Role.USER:
            break
        count += message.role is Role.TOOL
    return count
