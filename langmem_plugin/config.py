"""How a memory behaves: checked once, here, and frozen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A part of the budget, 0..1."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Budget(_Settings):
    """How many tokens a request may have, and who may use them.

    `max_tokens` is the model's context window, or what you allow of it. The
    completion reserve is taken off first; the rest is the prompt. Shares are of the
    prompt. What one segment leaves unused flows to the window.
    """

    max_tokens: Annotated[int, Field(gt=0)] = 8_000
    completion: Annotated[int, Field(ge=0)] = 1_000
    """Tokens kept free for the answer."""
    constraints: Share = 0.30
    """At most this part for the constraints block; past it, `BudgetTooSmall`."""
    summary: Share = 0.15
    """At most this part for the summary."""
    recall: Share = 0.25
    """Up to this part for recalled turns when the question does not ask for more."""
    recall_max: Share = 0.85
    """Up to this part when the question is about the past; the window shrinks meanwhile."""
    documents: Share = 0.40
    """At most this part for documents of the application's own retrieval."""

    @property
    def prompt(self) -> int:
        """Tokens for the prompt: the total without the completion reserve."""
        return self.max_tokens - self.completion


class WindowConfig(_Settings):
    """When old exchanges leave the window; shares of what history may have."""

    high: Share = 0.70
    """Reaching this, the oldest exchanges are planned out ..."""
    low: Share = 0.35
    """... until this is left."""


class SummaryConfig(_Settings):
    """The rolling summary of what left the window."""

    enabled: bool = True
    max_tokens: Annotated[int, Field(ge=32)] = 600
    chunk_tokens: Annotated[int, Field(ge=128)] = 3_000
    """How much of the leaving text one call of the summariser reads."""


class RecallConfig(_Settings):
    """Hybrid recall over every turn that left the window."""

    enabled: bool = True
    candidates: Annotated[int, Field(ge=1)] = 100
    """How many turns are ranked for packing."""
    threshold: Share = 0.15
    """Hits with a lower score (0..1) are not sent."""
    deadline_s: Annotated[float, Field(gt=0)] = 0.5
    """Embedding the query may take this long; past it, recall is lexical."""
    language: str = "auto"
    """A Snowball language name, or "auto" to detect it."""
    sticky: bool = True
    """A recalled block stays with its message while that message is in the window (G13)."""


class ConstraintsConfig(_Settings):
    """Constraints found in what the user says."""

    enabled: bool = True
    scope: Literal["session", "owner"] = "session"
    """Where a constraint holds that a rule found."""
    max_active: Annotated[int, Field(ge=1)] = 200


class MemoryConfig(_Settings):
    """Everything a memory can be told; every field has a default that works."""

    budget: Budget = Budget()
    window: WindowConfig = WindowConfig()
    summary: SummaryConfig = SummaryConfig()
    recall: RecallConfig = RecallConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    max_message_chars: Annotated[int, Field(gt=0)] = 8_000_000
    """A longer message is refused with `InvalidMessage`."""
