"""Hostile and odd text, and mutations of it, through every string that a session takes, on every backend."""

from __future__ import annotations

import json
import random
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from langmem_plugin import errors
from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role, Text, ToolCall
from langmem_plugin.session import Session
from langmem_plugin.testing.servers import postgres_server
from langmem_plugin.testing.stores import ODD_TEXTS

HOSTILE = (
    *ODD_TEXTS[:-1],
    "' OR 1=1 --",
    '"; DELETE FROM sessions; --',
    "$$; SELECT pg_sleep(10); $$",
    "NEAR(a b) OR *",
    '{"lc": 1, "type": "constructor", "id": ["os", "system"]}',
    "cos\nsystem\n(S'true'\ntR.",
    "!!python/object/apply:os.system ['true']",
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "%n%s%x",
    "a" * 513,
    "é" * 512,
    "\x00\x01\x02\x1b[31m",
    "\u0301" * 2_000,
)
"""Texts that databases, loaders, searches and terminals are known to run, change or refuse."""

_ODD = "\0\ud800\udfff\u2028\x85'\"\\;%:${}\n\r😀"
_BATCH = 250
"""Texts of a database."""
_TOGETHER = 25
"""Texts of a session: each of them is a constraint of it, too, which every call reads."""


def mutated(rng: random.Random, text: str) -> str:
    """The text, at most 2,000 characters of it, with a few changed, cut, doubled or put in."""
    letters = list(text[:2_000])
    for _ in range(rng.randint(1, 4)):
        place = rng.randint(0, len(letters))
        match rng.randrange(3):
            case 0:
                letters[place:place] = rng.choice(_ODD)
            case 1:
                del letters[place : place + rng.randint(1, 5)]
            case _:
                letters[place:place] = letters[place : place + 20]
    return "".join(letters)


def whole(text: str) -> Message:
    """The text in every field of a message."""
    return Message(
        role=Role.USER,
        blocks=(Text(text),),
        tool_calls=(ToolCall(id=text, name=text, arguments=text),),
        tool_call_id=text,
        name=text,
        metadata={"text": text, "list": [text], "of": {text: text}},
    )


def tried(url: str, texts: Sequence[str]) -> list[object]:
    """What becomes of each text as content, name, id, constraint and question, in an empty database.

    Returns:
        For each text what each call gave, or the name of the typed error that it raised.

    Raises:
        AssertionError: What was kept is not what was given, byte for byte.
    """
    found: list[object] = []
    with Memory.open(url) as memory:
        for start in range(0, len(texts), _TOGETHER):
            log = memory.session(f"log {start}", owner="ann")
            some = texts[start : start + _TOGETHER]
            log.add(*map(whole, some))
            if [entry.message for entry in log.history()] != [whole(text) for text in some]:
                raise AssertionError("a message came back changed")
            for text in some:
                found += map(_outcome, _calls(memory, log, text))
            if [entry.message for entry in log.history()][: len(some)] != [whole(text) for text in some]:
                raise AssertionError("one text changed what another left")
        if set(memory.sessions(owner="ann")) != {f"log {start}" for start in range(0, len(texts), _TOGETHER)}:
            raise AssertionError("a text became a session of somebody else")
    return found


def _calls(memory: Memory, log: Session, text: str) -> tuple[Callable[[], object], ...]:
    named = Message(role=Role.USER, blocks=(Text("x"),), id=text)
    return (
        lambda: len(log.recall(text)) >= 0,
        lambda: memory.session(text, owner=text).add("Hello.", turn_id=text),
        lambda: log.add(named),
        lambda: log.add_constraint(text).text,
        lambda: log.revoke(text),
        lambda: memory.forget(owner=text, session=text).counts.get("sessions"),
    )


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except LangmemPluginError as error:
        return type(error).__name__


def measure(
    *,
    mutations: int = 100_000,
    data: Path | None = None,
    postgres: bool = False,
    redis: bool = False,
    seed: int = 0,
    progress: Callable[[str], object] = lambda _line: None,
) -> dict[str, Any]:
    """Try the hostile texts and so many mutations of them, and compare what the backends make of each.

    Args:
        mutations: How many.
        data: A folder with `blns.json` and `utf8tests.txt`, whose texts are tried and mutated, too.
        postgres: Also on a PostgreSQL server of its own.
        redis: Also on a Redis server of its own.
        seed: Of the mutations.
        progress: Called with a line now and then.

    Returns:
        `texts`, `outcomes` (how often each typed error, or none), and what must be 0: `crashes` (errors that
        are not typed, texts that came back changed), `unequal` (outcomes that differ between backends).
    """
    rng = random.Random(seed)
    sources = [*HOSTILE, *(_collected(data) if data else ())]
    outcomes: Counter[str] = Counter()
    crashes: list[str] = []
    unequal = done = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        backends = _backends(stack, folder, postgres=postgres, redis=redis)
        left = [*sources, *(mutated(rng, rng.choice(sources)) for _ in range(mutations))]
        while left:
            texts, left = left[:_BATCH], left[_BATCH:]
            results = []
            for name, new in backends.items():
                try:
                    results.append(tried(new(), texts))
                except Exception as error:  # noqa: BLE001 - counted
                    crashes.append(f"{name}: {type(error).__name__}")
            unequal += sum(any(one != other for other in others) for one, *others in zip(*results, strict=True))
            if results:
                outcomes.update(one if isinstance(one, str) and hasattr(errors, one) else "done" for one in results[0])
            done += len(texts)
            progress(f"{done:,} texts")
    return {
        "backends": list(backends),
        "texts": done,
        "outcomes": dict(outcomes.most_common(12)),
        "crashes": len(crashes),
        "first crashes": crashes[:5],
        "unequal": unequal,
        "passed": not crashes and not unequal,
    }


def _backends(stack: ExitStack, folder: Path, *, postgres: bool, redis: bool) -> dict[str, Callable[[], str]]:
    """Makers of empty databases, by name."""
    made: dict[str, Callable[[], str]] = {"SQLite": lambda: f"sqlite:///{folder / secrets.token_hex(6)}.db"}
    if postgres:
        server = stack.enter_context(postgres_server(folder / "pg"))

        def database() -> str:
            name = f"try_{secrets.token_hex(6)}"
            server.psql(f"CREATE DATABASE {name};")
            return str(server.get_uri(name))

        made["PostgreSQL"] = database
    if redis:
        from langmem_plugin.testing.redis_server import RedisServer

        cache = RedisServer(folder / "redis")
        stack.callback(cache.kill)
        made["Redis"] = cache.url
    return made


def _collected(folder: Path) -> list[str]:
    texts = [text for text in json.loads((folder / "blns.json").read_text("utf-8")) if isinstance(text, str)]
    return texts + (folder / "utf8tests.txt").read_bytes().decode("utf-8", "surrogateescape").split("\n")


def to_markdown(found: dict[str, Any]) -> str:
    """The counts."""
    lines = ["| | |", "|---|---:|", f"| texts, on {', '.join(found['backends'])} | {found['texts']:,} |"]
    lines += [f"| calls: {name} | {count:,} |" for name, count in found["outcomes"].items()]
    lines += [f"| {name} | {found[name]:,} |" for name in ("crashes", "unequal")]
    return "\n".join(lines)
