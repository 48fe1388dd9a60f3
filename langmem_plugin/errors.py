"""Every error this package raises, as one tree.

```text
LangmemPluginError
├── InvalidSetting (ValueError)        a setting or argument that cannot work
├── MissingExtra (ImportError)         an optional package is not installed
├── BudgetTooSmall                     what must be sent does not fit the budget
├── SpendExceeded                      a limit on tokens or calls is reached
├── InvalidMessage (ValueError)        a message that cannot be kept or sent
├── SessionError
│   ├── TurnClosed                     the turn was committed or aborted already
│   ├── TurnOpen                       the turn is still open
│   └── VersionConflict                the session moved on since it was read
├── ConstraintNotFound (LookupError)
├── ConstraintMissing                  a request lacks constraints that are in force
├── MessageNotFound (LookupError)      no such message in the session's log
├── KeyRefused                         a session key that opens nothing
├── StoreError
│   ├── StoreUnavailable               the database cannot be reached or opened
│   ├── StoreClosed                    the memory was closed
│   ├── SchemaTooNew                   written by a newer release
│   ├── StoreLost                      the server dropped what was acknowledged
│   ├── KeyUnavailable                 no key opens what is sealed
│   └── StoreCorrupt                   the file is not what it should be
│       └── SealBroken                 a sealed row is not what was sealed there
├── VectorsLocked                      another process writes the vector index
├── WorkerRunning                      another process works on a SQLite file
├── ServerFailed                       a chat server cannot be reached, refuses or breaks off
└── ModelFailed                        a summariser, extractor or embedder failed
    └── AnswerCutOff                   its answer ended at a limit of length
```

A class takes fields and writes the sentence: what happened, how much, what to do.
No message text ever enters an error (guarantee G14).
"""

from __future__ import annotations


class LangmemPluginError(Exception):
    """Base of every error of this package."""


class InvalidSetting(LangmemPluginError, ValueError):
    """A setting or argument cannot work; says which, what was given and what would do."""

    def __init__(self, name: str, given: object, want: str) -> None:
        self.name = name
        self.given = given
        self.want = want
        super().__init__(f"{name} is {given!r}; {want}")


class MissingExtra(LangmemPluginError, ImportError):
    """An optional package is needed and not installed; names the extra that brings it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        self.what = what
        self.package = package
        self.extra = extra
        super().__init__(f'{what} needs {package}: pip install "langmem-plugin[{extra}]"')


class BudgetTooSmall(LangmemPluginError):
    """What may never be cut needs more tokens than the budget allows."""

    def __init__(self, *, needed: int, available: int, constraints: int, what: str = "") -> None:
        self.needed = needed
        self.available = available
        self.constraints = constraints
        what = what or f"system prompt, tools, {constraints} constraints and the new message"
        advice = "raise it or revoke a constraint" if constraints else "raise it or shorten the message"
        super().__init__(f"{what} need {needed} tokens, the budget is {available}; {advice}")


class SpendExceeded(LangmemPluginError):
    """A limit of `SpendConfig` is reached: no request is built until there is room again."""

    def __init__(self, what: str, *, used: int, limit: int, unit: str, span_s: float | None) -> None:
        self.what = what
        """"session", "owner" or "turn"."""
        self.used = used
        self.limit = limit
        self.unit = unit
        self.span_s = span_s
        when = "" if span_s is None else f" in {span_s:g} seconds"
        advice = "end the turn" if span_s is None else "wait"
        super().__init__(f"the {what} has used {used} {unit}{when}, the limit is {limit}; {advice} or raise the limit")


class InvalidMessage(LangmemPluginError, ValueError):
    """A message cannot be kept or sent as it is."""

    def __init__(self, why: str, advice: str) -> None:
        self.why = why
        self.advice = advice
        super().__init__(f"{why}; {advice}")


class SessionError(LangmemPluginError):
    """A session or turn was used in a way its state does not allow."""


class TurnClosed(SessionError):
    """The turn was committed or aborted already."""

    def __init__(self, turn_id: str, state: str) -> None:
        self.turn_id = turn_id
        self.state = state
        super().__init__(f"turn {turn_id} is {state}; begin a new turn")


class TurnOpen(SessionError):
    """A message of a pending turn cannot be forgotten."""

    def __init__(self, turn_id: str) -> None:
        self.turn_id = turn_id
        super().__init__(f"turn {turn_id} is still open; commit or abort it first")


class VersionConflict(SessionError):
    """The session moved on since the caller read it."""

    def __init__(self, *, expected: int, actual: int) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"the session is at version {actual}, not {expected}; read it again and retry")


class ConstraintNotFound(LangmemPluginError, LookupError):
    """No constraint of this owner and session has that id."""

    def __init__(self, constraint_id: str) -> None:
        self.constraint_id = constraint_id
        super().__init__(f"no constraint {constraint_id!r} in this session; list them with session.constraints()")


class ConstraintMissing(LangmemPluginError):
    """A request that was about to be sent lacks constraints that are in force."""

    def __init__(self, *, missing: tuple[str, ...], active: int) -> None:
        self.missing = missing
        """Their ids."""
        self.active = active
        super().__init__(
            f"{len(missing)} of {active} active constraints are not in the request ({', '.join(missing[:5])}); "
            "something between the memory and the model drops or changes the system prompt"
        )


class MessageNotFound(LangmemPluginError, LookupError):
    """The session's log has no message with that id or number."""

    def __init__(self, message: str | int) -> None:
        self.message = message
        super().__init__(f"no message {message!r} in this session's log; session.history() lists them")


class KeyRefused(LangmemPluginError):
    """A key opens nothing: never issued, revoked, expired, or of another session; it does not say which."""

    def __init__(self) -> None:
        super().__init__("the key opens no such session; issue a new one with memory.issue_key(...)")


class StoreError(LangmemPluginError):
    """The database failed; the driver's error is the cause."""


class StoreUnavailable(StoreError):
    """The database cannot be opened, reached or written."""

    def __init__(self, where: str, why: str, advice: str) -> None:
        self.where = where
        self.why = why
        self.advice = advice
        super().__init__(f"{where}: {why}; {advice}")


class StoreClosed(StoreError):
    """The memory was closed."""

    def __init__(self) -> None:
        super().__init__("the memory is closed; open it again with Memory.open(...)")


class SchemaTooNew(StoreError):
    """The database was written by a newer release."""

    def __init__(self, *, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the database has schema {found}, this release knows {known}; upgrade langmem-plugin to open it"
        )


class StoreLost(StoreError):
    """The server no longer has something that was acknowledged: evicted, deleted by hand, or lost in a restart."""

    def __init__(self, where: str, what: str, advice: str) -> None:
        self.where = where
        self.what = what
        self.advice = advice
        super().__init__(f"{where}: {what}; {advice}")


class StoreCorrupt(StoreError):
    """The file is not a readable database of this package."""

    def __init__(self, where: str, why: str) -> None:
        self.where = where
        self.why = why
        super().__init__(f"{where}: {why}; restore a backup, nothing was written")


class SealBroken(StoreCorrupt):
    """A sealed row does not open with its owner's key: it was changed, or brought from another place."""

    def __init__(self, where: str, place: str) -> None:
        self.place = place
        """Table and row; nothing of what it says."""
        super().__init__(where, f"{place} is not what was sealed there with this key")


class KeyUnavailable(StoreError):
    """A key that opens what is sealed cannot be had: not given, destroyed, of another ring, or not readable."""

    def __init__(self, where: str, why: str, advice: str, *, key_id: str = "") -> None:
        self.where = where
        self.why = why
        self.advice = advice
        self.key_id = key_id
        """The key's id in the ring; "" if it is not about one key."""
        super().__init__(f"{where}: {why}; {advice}")


class VectorsLocked(LangmemPluginError):
    """Another process writes the vector index of this folder."""

    def __init__(self, folder: str, pid: str) -> None:
        self.folder = folder
        self.pid = pid
        super().__init__(
            f"the vector index in {folder} is written by process {pid}; "
            "run a Chroma server (`chroma run`) and give its http:// address to share it"
        )


class WorkerRunning(LangmemPluginError):
    """Another worker works on this SQLite file, and one is all that a file takes."""

    def __init__(self, where: str, pid: str) -> None:
        self.where = where
        self.pid = pid
        super().__init__(
            f"process {pid} works on {where} already; stop it first, or use PostgreSQL for several workers"
        )


class ServerFailed(LangmemPluginError):
    """A chat server cannot be reached, refuses the request or breaks its answer off."""

    def __init__(
        self, where: str, why: str, advice: str, *, worth_retrying: bool = False, after_s: float | None = None
    ) -> None:
        self.where = where
        self.why = why
        self.advice = advice
        self.worth_retrying = worth_retrying
        self.after_s = after_s
        """How long the server asks to wait, seconds; None if it does not say."""
        super().__init__(f"{where}: {why}; {advice}")


class ModelFailed(LangmemPluginError):
    """A summariser, extractor, embedder or reranker failed or answered something unusable."""

    def __init__(self, role: str, why: str) -> None:
        self.role = role
        self.why = why
        super().__init__(f"the {role} failed: {why}; the work stays queued and is tried again")


class AnswerCutOff(ModelFailed):
    """A model's answer ended at its limit of length: less to read may bring a whole one."""

    def __init__(self, role: str) -> None:
        super().__init__(role, "its answer was cut off at the model's own length limit")
