"""How a memory behaves: checked once, here, and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.summary_prompts import SummaryPrompts
from langmem_plugin.windows import get_context_window

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A part of the budget, 0..1."""

Amount: TypeAlias = Annotated[int, Field(ge=0)] | Share
"""A whole number is tokens, a decimal number a share of the prompt: 1 is one token, 1.0 all of it."""

Portion: TypeAlias = Literal["constraints", "summary", "recall", "recall_max", "documents"]
"""The segments of a prompt that a budget limits."""

MAX_TTL_S = 36_500 * 86_400.0
"""A session's longest life after a write: a hundred years."""

Preset: TypeAlias = Literal["customer_support", "coding_assistant", "roleplay", "knowledge_assistant", "multi_agent"]
"""The situations that `MemoryConfig.preset` knows."""


_TAKEN = frozenset({"system", "constraints", "summary", "window", "recall", "documents", "new", "tools"})
"""Names of parts that every request has."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def __init__(self, **settings: Any) -> None:
        """Checks the settings.

        Raises:
            InvalidSetting: One of them cannot work; names it, what was given and what would do.
        """
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise _invalid(type(self), error) from None

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """The settings from a mapping, for example of a file.

        Raises:
            InvalidSetting: One of them cannot work.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise _invalid(cls, error) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """The settings from JSON text.

        Raises:
            InvalidSetting: One of them cannot work.
        """
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise _invalid(cls, error) from None


class Budget(_Settings):
    """How many tokens a request may have, and who may use them.

    `max_tokens` is the model's context window, or what you allow of it. The
    completion reserve is taken off first; the rest is the prompt. Each segment's limit
    is a share of the prompt (a decimal number) or tokens (a whole number). What one
    segment leaves unused flows to the window.

    Example:
        >>> Budget(max_tokens=8_000, completion=1_000, summary=500).tokens("summary")
        500
    """

    max_tokens: Annotated[int, Field(gt=0)] = 8_000
    completion: Annotated[int, Field(ge=0)] = 1_000
    """Tokens kept free for the answer."""
    constraints: Amount = 0.75
    """At most this for the constraints block, which is never cut; past it, `BudgetTooSmall`."""
    summary: Amount = 0.15
    """At most this for the summary."""
    recall: Amount = 0.25
    """Up to this for recalled turns when the question does not ask for more."""
    recall_max: Amount = 0.90
    """Up to this when the question is about the past; the window shrinks meanwhile."""
    documents: Amount = 0.40
    """At most this for documents of the application's own retrieval."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.completion >= self.max_tokens:
            raise InvalidSetting(
                "completion", self.completion, f"leave room for the prompt: less than max_tokens ({self.max_tokens})"
            )
        for portion in get_args(Portion):
            if self.tokens(portion) > self.prompt:
                raise InvalidSetting(
                    portion, getattr(self, portion), f"give at most the prompt, {self.prompt} tokens, or a share 0..1"
                )
        if self.tokens("recall") > self.tokens("recall_max"):
            raise InvalidSetting("recall", self.recall, f"give at most recall_max ({self.recall_max})")
        fixed = self.tokens("constraints") + self.tokens("summary")
        if fixed > self.prompt:
            raise InvalidSetting(
                "constraints",
                self.constraints,
                f"with summary ({self.summary}) it may take {fixed} of {self.prompt} tokens; lower one of them",
            )
        return self

    @classmethod
    def for_model(cls, name: str, **settings: Any) -> Budget:
        """The budget of a well-known model: its context window, an eighth of it for the answer (at most 4,096).

        Args:
            name: The model's name, with or without a provider's prefix.
            **settings: Any field of `Budget`; they take precedence.

        Raises:
            InvalidSetting: The model is not in the table, or a setting cannot work.

        Example:
            >>> Budget.for_model("gpt-4o").prompt
            123904
        """
        window = settings.pop("max_tokens", None) or get_context_window(name)
        if window is None:
            raise InvalidSetting("model", name, "its context window is not known, give Budget(max_tokens=...)")
        if isinstance(window, int):
            settings.setdefault("completion", min(4_096, window // 8))
        return cls(max_tokens=window, **settings)

    @property
    def prompt(self) -> int:
        """Tokens for the prompt: the total without the completion reserve."""
        return self.max_tokens - self.completion

    def with_prompt(self, prompt: int) -> Budget:
        """The same budget with so many tokens for the prompt; amounts given in tokens are cut to fit."""
        cut = {
            portion: min(amount, prompt)
            for portion in get_args(Portion)
            if isinstance(amount := getattr(self, portion), int)
        }
        return self.model_copy(update={"max_tokens": prompt + self.completion, **cut})

    def tokens(self, portion: Portion) -> int:
        """A segment's limit in tokens, whichever way it was given."""
        amount: int | float = getattr(self, portion)
        return self.share(amount)

    def share(self, amount: float) -> int:
        """An amount in tokens: a whole number as it is, a decimal number as a share of the prompt."""
        return amount if isinstance(amount, int) else int(amount * self.prompt)


class WindowConfig(_Settings):
    """When old exchanges leave the window; shares of what history may have."""

    high: Share = 0.70
    """Reaching this, the oldest exchanges are planned out ..."""
    low: Share = 0.20
    """... until this is left."""

    @model_validator(mode="after")
    def _low_below_high(self) -> Self:
        if self.low >= self.high:
            raise InvalidSetting("low", self.low, f"give less than high ({self.high})")
        return self


def _as_prompts(given: object) -> object:
    """Prompts as a file holds them: templates by name."""
    if not isinstance(given, Mapping):
        return given
    known = SummaryPrompts.__slots__
    for name, text in given.items():
        if name not in known or not isinstance(text, str):
            raise InvalidSetting("prompts", name, f"give texts for {', '.join(known)}")
    return SummaryPrompts(**given)


class SummaryConfig(_Settings):
    """The rolling summary of what left the window."""

    enabled: bool = True
    max_tokens: Annotated[int, Field(ge=32)] = 600
    chunk_tokens: Annotated[int, Field(ge=128)] = 3_000
    """How much of the leaving text one call of the summariser reads."""
    by_period: bool = True
    """In long sessions, once the notes fill half of their room: each part gets notes of its own, the oldest are merged.
    Otherwise all notes are rewritten for each part."""
    prompts: Annotated[SummaryPrompts, BeforeValidator(_as_prompts)] = Field(default_factory=SummaryPrompts)
    """What the summariser is asked."""
    judged: Annotated[int, Field(ge=0)] = 0
    """How many messages of each part the summariser is asked about afterwards: do the notes hold them? 0 for none."""
    min_judged: Share = 0.6
    """What the answer (0..1) has to be. Below it the notes are asked for once more, told what is missing; then the
    turns stay, and it is tried again later."""
    min_quality: Share = 0.0
    """A model's summary has to hold this share of the names, numbers, dates, decisions and negations that it read.
    Below it the model is asked once more, told what is missing; then the turns stay, and it is tried again later."""


class RecallConfig(_Settings):
    """Hybrid recall over every turn that left the window."""

    enabled: bool = True
    candidates: Annotated[int, Field(ge=1)] = 240
    """How many turns are ranked for packing, at most; fewer where the budget could not hold them."""
    threshold: Share = 0.15
    """Hits with a lower score (0..1) are not sent, unless the question is about the past: the more it is, the less
    this holds back."""
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """What a model may take of this long, embedder and reranker together; past it, recall goes on without."""
    rerank: Annotated[int, Field(ge=1)] = 32
    """With a reranker: so many of the best candidates are judged by it."""
    rerank_share: Share = 0.5
    """How much its opinion weighs in their order beside the learned one: 1.0 is its alone."""
    language: Annotated[str, Field(min_length=1)] = "auto"
    """A Snowball language name, or "auto" to detect it."""
    sticky: bool = True
    """A recalled block stays with its message while that message is in the window (G13)."""


class ConstraintsConfig(_Settings):
    """Constraints found in what the user says."""

    enabled: bool = True
    scope: Literal["session", "owner"] = "session"
    """Where a constraint holds that a rule found."""
    model_finds: Literal["proposed", "active"] = "proposed"
    """What becomes of a statement that the `extractor` model points at and the rules missed."""
    refine_every: Annotated[int, Field(ge=1)] = 4
    """How many of the user's messages the `extractor` waits for."""
    max_active: Annotated[int, Field(ge=1)] = 200
    """What is found past it is only proposed."""
    max_proposed: Annotated[int, Field(ge=0)] = 500
    """What would be proposed past it is not kept, so that a flood of pasted text fills nothing."""
    max_chars: Annotated[int, Field(ge=16)] = 600
    """A longer statement is only proposed."""
    when_full: Literal["error", "consolidate"] = "error"
    """What becomes of a request in which the constraints do not fit: `BudgetTooSmall`; or first, those for which the
    `extractor` found shorter words, behind, stand in these, if every word of weight is the same and in order."""


class ProfileConfig(_Settings):
    """What the owner's other sessions say of them, shown with a new message; see `Memory.profile`."""

    enabled: bool = False
    max_tokens: Annotated[int, Field(ge=1)] = 300
    """Of all lines together; they also count towards the documents' share of the budget."""
    sessions: Annotated[int, Field(ge=1)] = 8
    """How many of the owner's sessions are read, the last written to first."""


class SpendConfig(_Settings):
    """Limits on what is spent, by the tokens that providers report; None for no limit."""

    session_tokens: Annotated[int, Field(gt=0)] | None = None
    """Prompt and answer together, of one session within the span; past it, `SpendExceeded`."""
    owner_tokens: Annotated[int, Field(gt=0)] | None = None
    """The same for all sessions of an owner."""
    span_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 86_400.0
    """The sliding span, seconds."""
    warn: Share = 0.8
    """From this part of a limit on, the report has a note."""
    turn_calls: Annotated[int, Field(gt=0)] | None = None
    """Calls of the model within one turn: stops a tool loop that does not end."""
    repeats: Annotated[int, Field(gt=1)] | None = None
    """The same tool calls with the same arguments so many times in a row within one turn: stops a loop in place."""
    burst_requests: Annotated[int, Field(gt=0)] | None = None
    """Requests built for one session within `burst_s` seconds; past it, none for `rest_s` seconds."""
    burst_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0
    rest_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 60.0


class SegmentConfig(_Settings):
    """A named part of the request for texts of the application's own."""

    budget: Amount = 0.20
    """At most this, of the prompt."""
    priority: int = 0
    """Where not all have room, the segments with the lowest are cut first; "documents" has 0."""
    stable: bool = True
    """Stands before the conversation, for texts that seldom change; otherwise with the new message."""


class MemoryConfig(_Settings):
    """Everything a memory can be told; every field has a default that works."""

    budget: Budget = Field(default_factory=Budget)
    window: WindowConfig = Field(default_factory=WindowConfig)
    summary: SummaryConfig = Field(default_factory=SummaryConfig)
    recall: RecallConfig = Field(default_factory=RecallConfig)
    constraints: ConstraintsConfig = Field(default_factory=ConstraintsConfig)
    profile: ProfileConfig = Field(default_factory=ProfileConfig)
    spend: SpendConfig = Field(default_factory=SpendConfig)
    segments: Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], SegmentConfig] = Field(
        default_factory=dict
    )
    """Named parts for texts of the application's own, in the order in which they stand; see `Document.segment`."""
    open_sessions: Annotated[int, Field(ge=1)] = 1_024
    """Sessions kept ready in memory; the least recently used are let go and read again on demand."""
    ttl_s: Annotated[float, Field(gt=0, le=MAX_TTL_S)] | None = None
    """A session that begins lives on this long after each write, seconds; None: without end. `Memory.session` may
    give one of its own."""
    max_message_chars: Annotated[int, Field(gt=0)] = 8_000_000
    """A longer message is refused with `InvalidMessage`."""

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        for name in self.segments:
            if name in _TAKEN:
                raise InvalidSetting("segments", name, f"use other names than {', '.join(sorted(_TAKEN))}")
        return self

    @classmethod
    def preset(cls, name: Preset, **overrides: Any) -> MemoryConfig:
        """A configuration for one of the situations that users come with.

        * `customer_support`: window and constraints. 8,000 tokens; constraints may take 85 %,
          because what a customer demands or forbids outranks what was chatted; a short summary;
          little recall (15 %, threshold 0.25), so that an old case is not mixed into the new one.
        * `coding_assistant`: structured memory and summary. 32,000 tokens, 4,000 for the answer;
          a long summary (1,500 tokens) that carries decisions over many tool results; the window
          leaves late (0.80) and keeps half (0.45), since a file read five turns ago is still at
          work; recall up to 30 %, candidates 300, because names of files and functions match well.
        * `roleplay`: a long plain window. 16,000 tokens; the window fills to 0.95 and keeps 0.75, so
          that tone and scene stay verbatim; no recall, which would break the scene's order; a short
          summary of the story so far.
        * `knowledge_assistant`: memory beside the application's own retrieval. 16,000 tokens; half
          the prompt may be documents; recall 15 %, at most 40 %, so that documents keep their room;
          a small window that leaves early (0.60), since questions here stand alone.
        * `multi_agent`: one memory that several agents share. 16,000 tokens; a constraint that any of
          them hears holds for the owner in every session, up to 500; more recall (35 %), because an
          agent needs what another one did. Every commit makes a version, so no agent's write is lost.

        Args:
            name: The situation.
            **overrides: Fields of `MemoryConfig`; each replaces the preset's as a whole.

        Raises:
            InvalidSetting: No such preset, or an override cannot work.
        """
        settings = _preset(name)
        return cls(**{**settings, **overrides})


def _preset(name: Preset) -> dict[str, _Settings]:
    match name:
        case "customer_support":
            return {
                "budget": Budget(constraints=0.85, summary=0.10, recall=0.15, recall_max=0.50, documents=0.30),
                "summary": SummaryConfig(max_tokens=300),
                "recall": RecallConfig(threshold=0.25),
            }
        case "coding_assistant":
            return {
                "budget": Budget(max_tokens=32_000, completion=4_000, summary=0.15, recall=0.30),
                "window": WindowConfig(high=0.80, low=0.45),
                "summary": SummaryConfig(max_tokens=1_500, chunk_tokens=6_000),
                "recall": RecallConfig(candidates=300),
            }
        case "roleplay":
            return {
                "budget": Budget(
                    max_tokens=16_000,
                    completion=1_500,
                    summary=0.05,
                    recall=0.0,
                    recall_max=0.0,
                    documents=0.10,
                ),
                "window": WindowConfig(high=0.95, low=0.75),
                "summary": SummaryConfig(max_tokens=400),
                "recall": RecallConfig(enabled=False),
            }
        case "knowledge_assistant":
            return {
                "budget": Budget(
                    max_tokens=16_000,
                    completion=2_000,
                    summary=0.10,
                    recall=0.15,
                    recall_max=0.40,
                    documents=0.50,
                ),
                "window": WindowConfig(high=0.60, low=0.30),
            }
        case "multi_agent":
            return {
                "budget": Budget(max_tokens=16_000, completion=2_000, recall=0.35),
                "constraints": ConstraintsConfig(scope="owner", max_active=500),
            }
        case _:
            # Not assert_never: the name may come from a file.
            raise InvalidSetting("preset", name, f"use one of {', '.join(get_args(Preset))}")


def _invalid(settings: type[_Settings], error: ValidationError) -> InvalidSetting:
    """The first of pydantic's complaints, as this package says it."""
    first: ErrorDetails = error.errors(include_url=False)[0]
    context: dict[str, Any] = first.get("ctx") or {}
    inner = context.get("error")
    path = [str(part) for part in first["loc"] if not str(part).startswith(("constrained-", "function-"))]
    if isinstance(inner, InvalidSetting):
        return InvalidSetting(".".join([*path, inner.name]), inner.given, inner.want)
    # A union of number types adds its branch to the path.
    field = ".".join(part for part in path if part not in {"int", "float"}) or settings.__name__
    given = first["input"]
    if first["type"] == "extra_forbidden":
        return InvalidSetting(field, given, f"there is no such setting; use one of {', '.join(settings.model_fields)}")
    if settings is Budget and field in get_args(Portion):
        return InvalidSetting(field, given, "give a share of the prompt, 0.0..1.0, or a whole number of tokens")
    return InvalidSetting(field, given, first["msg"].replace("Input should be", "it should be"))
