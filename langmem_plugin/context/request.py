"""What the model sees next, and the account of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from langmem_plugin.messages import Message, Role
from langmem_plugin.records import Attachment, Constraint, Entry, Hit, Summary

Segment: TypeAlias = Literal["system", "documents", "summary", "window", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text of the application's own: retrieved, a file, notes on a project. Shown, never stored."""

    text: str
    id: str = ""
    title: str = ""
    segment: str = "documents"
    """Where it stands and what it may take: a name of `MemoryConfig.segments`, or "documents"."""


class DocumentSource(Protocol):
    """The application's own texts for a request, asked for each new message of a session."""

    def __call__(self, query: str, *, owner: str, session: str) -> Sequence[Document]:
        """What to show with this message; its time is added to the request's, what it raises goes to the caller."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a session holds at one version: all that assembly needs from the store."""

    version: int
    constraints: tuple[Constraint, ...] = ()
    """The active ones, in creation order."""
    summary: Summary | None = None
    """The newest; it stands for every entry up to its `upto_seq`."""
    entries: tuple[Entry, ...] = ()
    """Every committed entry after the summary's `upto_seq`, oldest first."""
    pending: tuple[Entry, ...] = ()
    """The open turn's own entries (user message first); empty outside a turn."""

    @property
    def scores(self) -> dict[str, Any]:
        """What the report says of the summary's worth."""
        return {} if self.summary is None else {"quality": self.summary.quality, "judged": self.summary.judged}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One message of a request."""

    segment: Segment
    message: Message
    tokens: int
    seq: int | None = None
    """Its place in the log; None if it was made for this request."""
    altered: bool = False
    """True if the message differs from the log's (a recalled block before it, a long text cut)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextReport:
    """Where the tokens went, what was left out and why."""

    version: int
    budget: int
    """Tokens that the prompt may have."""
    tokens: Mapping[str, int] = field(default_factory=dict)
    """By segment: system, constraints, summary, recall, window, documents, new, tools."""
    segments: Mapping[str, int] = field(default_factory=dict)
    """What "documents" is made of, by the segment's name; those that were left out with 0."""
    window_from: int = 0
    """The oldest log entry in the window; 0 if the window is empty."""
    window_messages: int = 0
    summarised: int = 0
    """Earlier messages that the summary stands for."""
    quality: float | None = None
    """Of that summary: the share of the source's facts that it holds, 0..1; see `Summary.quality`."""
    judged: float | None = None
    """Of that summary: what a model said of it, 0..1; see `SummaryConfig.judged`."""
    waiting: int = 0
    """Messages that left the window before a summary covered them; recallable meanwhile."""
    constraints: tuple[Constraint, ...] = ()
    hits: tuple[Hit, ...] = ()
    """The recalled turns that are in the request, best first."""
    need: float = 0.0
    legs: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    """One sentence for each thing that was shortened or left out, with its tokens."""
    notes: tuple[str, ...] = ()
    prefix_tokens: int = 0
    """Tokens at the beginning that repeat the previous request; 0 for a first request."""

    @property
    def tokens_used(self) -> int:
        """Tokens of the whole request with tool schemas."""
        return sum(self.tokens.values())

    @property
    def prefix_reuse(self) -> float:
        """`prefix_tokens` as a share of `tokens_used`, 0..1."""
        return self.prefix_tokens / self.tokens_used if self.tokens_used else 0.0

    def numbers(self) -> dict[str, Any]:
        """The account as plain JSON without any text: for events, traces and logs.

        `constraints`, `recalled`, `cut` and `notes` are counts; `tokens` is by segment.
        """
        return {
            "version": self.version,
            "budget": self.budget,
            "tokens_used": self.tokens_used,
            "tokens": dict(self.tokens),
            "prefix_tokens": self.prefix_tokens,
            "window_messages": self.window_messages,
            "summarised": self.summarised,
            "waiting": self.waiting,
            "constraints": len(self.constraints),
            "recalled": len(self.hits),
            "need": self.need,
            "legs": list(self.legs),
            "cut": len(self.cut),
            "notes": len(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The messages to send, in order, and the report."""

    items: tuple[Item, ...]
    report: ContextReport
    attachment: Attachment | None = None
    """What recall put before the new message; the turn keeps it (guarantee G13)."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """Every message in order, the system message first."""
        return tuple(item.message for item in self.items)

    @property
    def system(self) -> str:
        """The system prompt with the constraints block; "" if there is neither."""
        return self.items[0].message.text if self.items and self.items[0].message.role is Role.SYSTEM else ""

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Every message but the system one."""
        return tuple(item.message for item in self.items if item.message.role is not Role.SYSTEM)

    def _repr_html_(self) -> str:
        """The request for a notebook: segments, what was recalled and why, constraints, what was cut."""
        from langmem_plugin.context.request_html import request_html
        from langmem_plugin.markup import notebook

        return notebook(request_html(self))
