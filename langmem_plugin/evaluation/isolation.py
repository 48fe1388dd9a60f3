"""Owners with a word of their own each, and random calls: whether any turns up with another owner (guarantee G7)."""

from __future__ import annotations

import logging
import random
import re
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant, dump_json
from langmem_plugin.session import Session
from langmem_plugin.testing.soak import Letters

_CANARY = re.compile(r"zq[0-9a-f]{16}")
_SUBJECTS = ("the invoice", "my sister", "the train to Ghent", "a rash on my arm", "the password", "our wedding")
_RULES = ("Never mention {}.", "Always greet me as {}.", "I am allergic to {}.", "Please forget about {}.")
_LOOK_EVERY = 500


def measure(
    *,
    owners: int = 100,
    operations: int = 100_000,
    url: str | None = None,
    vectors: bool = True,
    seed: int = 0,
    progress: Callable[[str], object] = lambda _line: None,
) -> dict[str, Any]:
    """Make random calls for owners that use the same session ids and nearly the same words.

    Args:
        owners: How many; each has one canary, a word that nobody else says.
        operations: Calls.
        url: The database; a SQLite file of its own if not given.
        vectors: Recall by meaning, too.
        seed: Of the calls.
        progress: Called with a line now and then.

    Returns:
        `seen`: canaries found in answers, their own owner's. `foreign`: any other, by place: answers by the
        kind of call, errors, log lines (any canary at all), what is held in memory. And how many calls raised.
    """
    rng = random.Random(seed)
    canary = {f"owner {number}": f"zq{rng.getrandbits(64):016x}" for number in range(owners)}
    found: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    config = MemoryConfig(budget=Budget(max_tokens=1_500, completion=0))
    lines = _Lines()
    with tempfile.TemporaryDirectory() as folder, _listening(lines):
        at = url or f"sqlite:///{Path(folder) / 'isolation.db'}"
        with Memory.open(at, config=config, embedder=Letters() if vectors else None) as memory:
            for number in range(1, operations + 1):
                owner = rng.choice(list(canary))
                name, call = rng.choices(list(_CALLS), weights=[weight for weight, _ in _CALLS.values()])[0], None
                call = _CALLS[name][1]
                session = memory.session(rng.choice("abc"), owner=owner)
                calls[name] += 1
                try:
                    answer = call(memory, session, canary[owner], rng)
                except LangmemPluginError as error:
                    name = "an error"
                    answer = "".join(traceback.format_exception(error))
                    calls[name] += 1
                words = set(_CANARY.findall(answer))
                found["seen"] += canary[owner] in words
                foreign[name] += len(words - {canary[owner]})
                foreign["a log line"] += len(_CANARY.findall(lines.taken()))
                if number % _LOOK_EVERY == 0 or number == operations:
                    foreign["what is held in memory"] += _held(memory, canary)
                    progress(f"{number:,} of {operations:,} calls")
    return {
        "owners": owners,
        "calls": dict(sorted(calls.items())),
        "seen": found["seen"],
        "foreign": dict(sorted(foreign.items())),
        "passed": not foreign.total(),
    }


def _said(canary: str, rng: random.Random) -> str:
    subject = rng.choice(_SUBJECTS)
    if rng.random() < 0.2:
        return rng.choice(_RULES).format(f"{subject} {canary}")
    return f"What did I say about {subject}? It was {canary}, {rng.randrange(1000)} times."


def _add(_memory: Memory, session: Session, canary: str, rng: random.Random) -> str:
    session.add(_said(canary, rng), assistant(f"Noted {canary}. " + "Well, well. " * rng.randrange(30)))
    return ""


def _turn(_memory: Memory, session: Session, canary: str, rng: random.Random) -> str:
    turn = session.begin(_said(canary, rng))
    with suppress(ConnectionError):
        context = turn.context(system="Be brief.")
        if rng.random() < 0.3:
            turn.abort()
        else:
            for _ in turn.stream(["Yes, ", canary, "."]):
                pass
            turn.commit()
    return repr(context.messages)


def _context(_memory: Memory, session: Session, _canary: str, rng: random.Random) -> str:
    context = session.context(f"What about {rng.choice(_SUBJECTS)}, zq?", system="Be brief.")
    return context.system + repr(context.messages) + repr(context.report)


def _recall(memory: Memory, session: Session, _canary: str, rng: random.Random) -> str:
    question = f"Noted {rng.choice(_SUBJECTS)} times"
    return repr(session.recall(question)) + repr(memory.recall(question, owner=session.owner))


def _read(_memory: Memory, session: Session, _canary: str, _rng: random.Random) -> str:
    past = session.at(session.version)
    return repr((session.history(), session.constraints(all=True), session.events(), past.history()))


def _list(memory: Memory, session: Session, _canary: str, _rng: random.Random) -> str:
    return repr((memory.sessions(owner=session.owner), memory.status()))


def _export(_memory: Memory, session: Session, _canary: str, _rng: random.Random) -> str:
    return "".join(dump_json(entry.message.to_json()) for entry in session.history())


def _mistake(memory: Memory, session: Session, canary: str, rng: random.Random) -> str:
    """Calls that are refused: the error may not tell what others have."""
    match rng.randrange(5):
        case 0:
            session.forget(f"no such message {canary}")
        case 1:
            session.at(10_000_000)
        case 2:
            session.add(_said(canary, rng), expected_version=10_000_000)
        case 3:
            session.revoke(f"c{rng.getrandbits(40):010x}")
        case _:
            memory.session("\0", owner=session.owner)
    return ""


def _fork(_memory: Memory, session: Session, _canary: str, rng: random.Random) -> str:
    return repr(session.fork(rng.choice("bcd")).history())


def _constrain(_memory: Memory, session: Session, canary: str, rng: random.Random) -> str:
    made = session.add_constraint(f"Say {canary} first.", scope=rng.choice(("session", "owner")))
    return repr(made) if rng.random() < 0.3 else repr(session.revoke(made.id))


def _clear(_memory: Memory, session: Session, _canary: str, _rng: random.Random) -> str:
    session.clear()
    return repr(session.history())


_CALLS: dict[str, tuple[int, Callable[[Memory, Session, str, random.Random], str]]] = {
    "add": (30, _add),
    "turn": (10, _turn),
    "context": (25, _context),
    "recall": (12, _recall),
    "read": (5, _read),
    "list": (3, _list),
    "export": (3, _export),
    "mistake": (6, _mistake),
    "fork": (2, _fork),
    "constrain": (3, _constrain),
    "clear": (1, _clear),
}
"""How often each is made, and what is made of its answer."""


def _held(memory: Memory, canary: dict[str, str]) -> int:
    """Canaries of others in what the open sessions hold in memory."""
    found = 0
    for key, session in list(memory._sessions.items()):  # noqa: SLF001 - what no call gives
        words = set(_CANARY.findall(repr(vars(session._reader))))  # noqa: SLF001
        found += len(words - {canary[key.owner]})
    return found


class _Lines(logging.Handler):
    """Every log line since it was last asked, tracebacks too."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(logging.Formatter().format(record))

    def taken(self) -> str:
        lines, self._lines = self._lines, []
        return "\n".join(lines)


class _listening:  # noqa: N801 - read as a verb
    """All of this package's log, to the last detail."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._log = logging.getLogger("langmem_plugin")

    def __enter__(self) -> None:
        self._level = self._log.level
        self._log.setLevel(logging.DEBUG)
        self._log.addHandler(self._lines)

    def __exit__(self, *_error: object) -> None:
        self._log.removeHandler(self._lines)
        self._log.setLevel(self._level)


def to_markdown(found: dict[str, Any]) -> str:
    """What was called, and where a foreign canary was found."""
    lines = ["| place | calls | foreign canaries |", "|---|---:|---:|"]
    for name, count in found["foreign"].items():
        lines.append(
            f"| {name} | {found['calls'].get(name, ''):,} | {count} |"
            if name in found["calls"]
            else f"| {name} | | {count} |"
        )
    lines += ["", f"{found['owners']} owners; in {found['seen']:,} answers the owner's own canary stood."]
    return "\n".join(lines)
