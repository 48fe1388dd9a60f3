"""What the store keeps: log entries, constraints, summaries, positions; all frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeAlias

from langmem_plugin.messages import Message


@dataclass(frozen=True, slots=True)
class SessionKey:
    """Whose conversation: nothing is read without both (guarantee G7)."""

    owner: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A block of recalled text that was sent just before a user's message.

    It stays with that message until the message leaves the window, so that later
    requests begin with the same bytes (guarantee G13).
    """

    text: str
    seqs: tuple[int, ...]
    """The log entries quoted in `text`, ascending."""
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One message as the log holds it."""

    seq: int
    """Place in the session's log, from 1, without gaps; entries of a turn are adjacent."""
    turn: str
    message: Message
    tokens: int
    """Of the message with its overhead, by the memory's counter."""
    created_at: datetime
    attachment: Attachment | None = None
    """Only on the message that opens a turn: the last of the user's before the assistant acts."""
    counter: str = ""
    """What counted `tokens`; another memory's counter has to count anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a session stands."""

    version: int
    """Counts committed changes, from 0 for a session nobody wrote to."""
    last_seq: int
    history_tokens: int
    """Tokens that the last request had for summary, recall and window together; 0 if unknown."""
    first_seq: int = 0
    """Given by a commit: the first entry that it added; 0 if it added none."""
    erased: int = 0
    """The version that last forgot a message or dropped the summaries; what was derived before it is void."""
    tokens: int = 0
    """Of all the messages that it holds, as each was counted when it was said."""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """How much of a session no summary covers."""

    head: Head
    """Where the session stands, in the same moment."""
    tokens: int
    """Of the messages after the summary that is shown."""
    by_model: bool | None = None
    """Whether a model wrote that summary; None if there is none."""


class ConstraintKind(StrEnum):
    """What sort of statement binds the assistant."""

    PROHIBITION = "prohibition"
    REQUIREMENT = "requirement"
    PREFERENCE = "preference"
    FACT = "fact"
    GOAL = "goal"


class ConstraintState(StrEnum):
    """Where a constraint is in its life; only `active` ones are sent to the model."""

    ACTIVE = "active"
    PROPOSED = "proposed"
    SUPERSEDED = "superseded"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A statement that every request must carry, in the user's own words."""

    id: str
    kind: ConstraintKind
    text: str
    """A verbatim span of a committed user message, or what the application added by hand."""
    display: str = ""
    """For people: the statement as a model understood it, pronouns resolved. Sent only where the constraints are too
    many for the budget and `when_full` is "consolidate", and only if it keeps every word of weight of `text`."""
    state: ConstraintState = ConstraintState.ACTIVE
    scope: Literal["session", "owner"] = "session"
    source: Literal["rule", "model", "app"]
    session: str = ""
    """The session it was said or added in; "" if that was cleared."""
    seq: int | None = None
    """That session's log entry it was said in; None if added by the application."""
    start: int = 0
    end: int = 0
    """The span within that entry's text, in characters, half open."""
    confidence: float = 1.0
    """0..1"""
    created_version: int
    ended_version: int | None = None
    superseded_by: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    pinned: bool = False
    """Ends by the application's hand alone: neither by a later statement nor by time."""


ConstraintChange: TypeAlias = Literal[
    "stated",
    "proposed",
    "added",
    "confirmed",
    "superseded",
    "revoked",
    "edited",
    "pinned",
    "unpinned",
    "contradicted",
    "expired",
]
"""What can happen to a constraint; "contradicted" only says that a model thinks so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintEvent:
    """A constraint came, changed or ended; the change is durable when this is told."""

    change: ConstraintChange
    constraint: Constraint
    """As it is after the change."""
    owner: str
    session: str
    """Where the change was made."""
    by: str | None = None
    """The id of the constraint that replaces or contradicts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What stands for every entry up to and including `upto_seq`."""

    text: str
    upto_seq: int
    tokens: int
    method: Literal["model", "extract"]
    """A language model's summary, or the deterministic extract that stands in for one."""
    model: str = ""
    prompt_version: str = ""
    quality: float | None = None
    """Share of names, numbers, dates and negations of the source that it still holds, 0..1."""
    judged: float | None = None
    """What a model said of how much it holds of sampled messages, 0..1, the lowest of its parts; None if none did."""
    created_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change of a session."""

    version: int
    """The version that it made."""
    kind: Literal["turn", "constraint", "sharing", "summary", "forgotten", "forked"]
    ref: str
    """The turn's or constraint's id; how far the summary reaches; how many messages were forgotten;
    the version that the session was forked at."""
    detail: str
    """Of a constraint, the state that it got; of a summary, its method; of a turn, how many messages."""
    writer: str
    """Who: the name that the memory was opened with."""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A log entry that recall found, and why."""

    entry: Entry
    score: float
    """0..1, higher is nearer; comparable between queries."""
    keyword: float = 0.0
    """The keyword leg's part of the score, 0..1."""
    vector: float | None = None
    """The vector leg's part, 0..1; None if that leg did not answer or had no vector."""
    why: str = ""
    """For a reader: the words that matched, the nearness in meaning, a neighbour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """What recall found for one query."""

    hits: tuple[Hit, ...] = ()
    """Best first; ties by newest."""
    need: float = 0.0
    """How much the query asks for the past, 0 (small talk) .. 1 (nothing but the past)."""
    legs: tuple[str, ...] = ()
    """The legs that answered: "keyword", "vector", "reranker"."""
    note: str = ""
    """Why a leg did not answer; "" if all did."""
    missing: tuple[str, ...] = ()
    """The legs that should have answered and did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session in a list; holds no text."""

    owner: str
    session: str
    version: int
    messages: int
    """Of the log, tombstones of forgotten ones included."""
    tokens: int
    """Of them together, each as it was counted when it was said."""
    constraints: int
    """Active ones that were stated in the session."""
    created_at: datetime
    updated_at: datetime
    """When somebody last wrote to it; what is made behind does not count."""
    ttl: timedelta | None = None
    """How long it lives on after each write; None: without end."""
    expires_at: datetime | None = None
    """When it ends if nobody writes to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerInfo:
    """An owner in a list, with what its sessions hold together."""

    owner: str
    sessions: int
    messages: int
    tokens: int
    constraints: int
    """Active ones, those that hold in all sessions among them."""
    updated_at: datetime | None = None
    """When one of the sessions was last written to; None if only constraints are left."""


SessionOrder: TypeAlias = Literal["created", "updated", "name"]
"""What sessions are listed by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionQuery:
    """Which sessions to list, and how."""

    owner: str | None = None
    """Whose; everybody's if not given."""
    session: str | None = None
    """That one alone."""
    prefix: str = ""
    """Ids that begin so."""
    since: datetime | None = None
    """Last written to then or later."""
    until: datetime | None = None
    """Last written to before."""
    order: SessionOrder = "created"
    newest_first: bool = False
    """Or from the end of the alphabet; sessions of one moment stand in the order in which they began."""
    limit: int | None = None
    offset: int = 0
    expired: bool = False
    """Those whose time is over and that were not swept yet, instead of those that live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key to an owner's sessions, or to one of them, as the store holds it: without its secret."""

    id: str
    """Its public part: names it in lists and to revoke it."""
    owner: str
    session: str | None
    """The one session that it opens; None: each of the owner's."""
    digest: str = field(repr=False)
    """SHA-256 of the secret, hex."""
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was forgotten, and what a scan of the files then found of it; holds no text."""

    id: str
    at: datetime
    scope: Literal["message", "session", "owner", "expired"]
    counts: Mapping[str, int]
    """Rows that were deleted or emptied, by table; `sessions` among them."""
    versions: tuple[int, ...] = ()
    """Of each session, the version that the forgetting made; its tombstone keeps it."""
    salt: str = ""
    digests: tuple[str, ...] = ()
    """HMAC-SHA256 under `salt` (hex) of each forgotten message's text in UTF-8: whoever has the
    text can check that it is meant; so can one who guesses it, so keep receipts of short texts apart."""
    files: int = 0
    """Files that were read after the forgetting, the database's and the vector index's."""
    bytes: int = 0
    """Their size together."""
    strings: int = 0
    """Byte strings looked for: texts in each form they were kept in, keywords, vectors."""
    elsewhere: int = 0
    """Of those, still said in what remains: in another message, by another owner."""
    left: int = 0
    """Of those, found in a file though nothing that remains says them."""
    limits: tuple[str, ...] = ()
    """What the scan cannot reach."""
    keys: int = 0
    """Encryption keys that were destroyed, so that copies of what they sealed cannot be read either."""

    @property
    def complete(self) -> bool:
        """True if nothing was left."""
        return self.left == 0

    def to_json(self) -> dict[str, Any]:
        """The receipt as plain JSON, to be kept."""
        out = {name: getattr(self, name) for name in self.__slots__}
        out |= {"at": self.at.isoformat(), "counts": dict(self.counts), "complete": self.complete}
        return out | {name: list(out[name]) for name in ("versions", "digests", "limits")}
