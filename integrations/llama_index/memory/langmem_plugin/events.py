"""The memory's numbers as an event of LlamaIndex's instrumentation."""

from __future__ import annotations

from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events import BaseEvent

from langmem_plugin.context.request import ContextReport

_dispatcher = get_dispatcher(__name__)


class MemoryRequestEvent(BaseEvent):  # type: ignore[misc, unused-ignore]
    """A request was built from memory, within the span that asked for it.

    Attributes:
        numbers: `ContextReport.numbers()`: tokens by segment, counts, recall's legs; no text.
    """

    numbers: dict[str, Any]

    @classmethod
    def class_name(cls) -> str:
        """The name that event handlers see."""
        return "MemoryRequestEvent"


def announced(report: ContextReport) -> ContextReport:
    """Tell the event handlers of a request; gives its account."""
    _dispatcher.event(MemoryRequestEvent(numbers=report.numbers()))
    return report
