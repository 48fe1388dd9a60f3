"""What a memory measures of its own work, for whoever observes it with `Memory.observe`.

Nothing here is made while nobody observes. Only `RequestBuilt` refers to text: to the
request that was built.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, TypeAlias

from langmem_plugin.context.request import Context
from langmem_plugin.messages import Usage
from langmem_plugin.records import Recalled, SessionKey
from langmem_plugin.watching import Subscribers


@dataclass(frozen=True, slots=True, kw_only=True)
class Took:
    """When something began and how long it took."""

    began_ns: int
    """Unix time in nanoseconds."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One look at the past for a question."""

    took: Took
    legs: tuple[str, ...]
    """The legs that answered: "keyword", "vector", "reranker"."""
    note: str
    """Why a leg did not answer; "" if all did."""
    missing: tuple[str, ...] = ()
    """The legs that should have answered and did not."""
    found: int
    """Messages."""
    need: float
    """How much the question asks for the past, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBuilt:
    """A request for the model was assembled."""

    key: SessionKey
    took: Took
    context: Context
    search: Search | None = None
    """None if nothing was looked for: no question, or recall already stands with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRefused:
    """A request could not be assembled: too small a budget, a limit on spending, a store that failed."""

    key: SessionKey
    took: Took
    error: str
    """The error's class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The past was searched, and no request was built: `Session.recall`, a retriever, a tool."""

    key: SessionKey
    search: Search


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnKept:
    """A turn is durable."""

    key: SessionKey
    took: Took
    version: int
    messages: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryKept:
    """A summary was saved."""

    key: SessionKey
    method: Literal["model", "extract"]
    read_tokens: int
    """Of the messages that it newly stands for and of the summary before it."""
    tokens: int
    """Of the summary."""
    retention: float | None
    """Share of names, numbers, dates and negations of those messages that it holds, 0..1; None if they had few."""

    @property
    def compression(self) -> float:
        """`read_tokens` for each token of the summary."""
        return self.read_tokens / max(1, self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A projection did one unit of work behind the conversation, or failed at it."""

    key: SessionKey
    took: Took
    projection: str
    error: str = ""
    """The error's class; "" if it succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReported:
    """A provider said what a request used."""

    key: SessionKey
    usage: Usage
    model: str
    """"" if unknown."""


Measure: TypeAlias = RequestBuilt | RequestRefused | Searched | TurnKept | SummaryKept | StepDone | UsageReported
Observers: TypeAlias = Subscribers[Measure]


def observers() -> Observers:
    """Nobody yet."""
    return Subscribers("measures")


class Stopwatch:
    """Says when it was made and how long ago that was."""

    def __init__(self) -> None:
        self._began_ns = time.time_ns()
        self._began = time.perf_counter()

    def took(self) -> Took:
        """The time since it was made."""
        return Took(began_ns=self._began_ns, seconds=time.perf_counter() - self._began)

    def search(self, recalled: Recalled) -> Search:
        """The look at the past that began when it was made and ends now."""
        return Search(
            took=self.took(),
            legs=recalled.legs,
            note=recalled.note,
            missing=recalled.missing,
            found=len(recalled.hits),
            need=recalled.need,
        )
