"""What the matrix is made of: a way in, a conversation through it, and the columns that check it."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from langmem_plugin import Budget, Memory, MemoryConfig, Message, Role
from langmem_plugin.messages import ToolCall, assistant, tool_result, user
from langmem_plugin.testing.validity import problems

RULE = "Never call me before noon."
CONFIG = MemoryConfig(budget=Budget(max_tokens=900, completion=100))
FOLDER = Path(__file__).parent


def load(path: Path, name: str) -> ModuleType:
    """A module by its file, once; tests are not packages."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


class Broken(ConnectionError):
    """The model's server went away."""


@dataclass
class Talk:
    """One conversation through a way in. What it has not is None."""

    requests: Callable[[], list[list[Message]]]
    """What reached the answering model, oldest first."""
    asay: Callable[[str], Awaitable[str]]
    say: Callable[[str], str] | None = None
    stream: Callable[[str], Iterator[str]] | None = None
    astream: Callable[[str], AsyncIterator[str]] | None = None


@dataclass(frozen=True)
class Way:
    """A row: one way of using a framework."""

    name: str
    framework: str
    open: Callable[..., Talk]
    """(memory, session id, script, pause between a stream's parts in seconds) -> Talk."""
    answer: Callable[[str], str] = lambda text: text
    """How the model must put an answer for this way."""
    extra: int = 0
    """Tokens that the engine adds to what the memory built: its own prompt, retrieved text."""
    why_extra: str = ""
    history: bool = True
    """Whether the answering model is sent the conversation at all."""
    why_no_history: str = ""
    except_: dict[str, str] = field(default_factory=dict)
    """Columns that cannot hold, and why."""
    absent: dict[str, str] = field(default_factory=dict)
    """Columns that this way does not have, and why."""

    def __str__(self) -> str:
        return self.name


def said(memory: Memory, session_id: str = "s") -> list[tuple[str, str]]:
    return [(e.message.role.value, e.message.text) for e in memory.session(session_id, owner="ann").history()]


def asked(memory: Memory, session_id: str = "s") -> list[str]:
    """What the user said, open turns included."""
    session = memory.session(session_id, owner="ann")
    turn = session.resume()
    return [text for role, text in said(memory, session_id) if role == "user"] + [
        message.text for message in (turn.messages if turn else ()) if message.role is Role.USER
    ]


def answers(memory: Memory, session_id: str = "s") -> list[str]:
    return [text for role, text in said(memory, session_id) if role == "assistant" and text]


def fill(memory: Memory, exchanges: int = 14, *, rule: bool = False, session_id: str = "s") -> None:
    """An earlier part of the conversation, long enough to leave the window."""
    session = memory.session(session_id, owner="ann")
    if rule:
        session.add(RULE, assistant("Noted."))
    said: list[Message] = []
    for number in range(exchanges):
        tale = f"Ship {number} met {number + 2} whales and a storm; its crew of {number + 3} men sang. " * 2
        said += [
            user(f"Tell me of ship {number} and of its crew of {number + 3} men, at some length."),
            assistant(tale),
        ]
    session.add(*said)  # one commit, for speed
    assert memory.wait(timeout_s=30)


def standing(request: Sequence[Message]) -> str:
    """The system messages of a request; of one without any, all of it (a prompt that is one text)."""
    systems = [message.text for message in request if message.role is Role.SYSTEM]
    return "\n".join(systems or [message.text for message in request])


def whole(request: Sequence[Message]) -> str:
    return "\n".join(message.text for message in request)


def times(request: Sequence[Message], text: str) -> int:
    return sum(message.text.count(text) for message in request if message.role is not Role.SYSTEM)


# The columns. Each is (way, url of a database file) -> None and fails by an assertion.


async def constraints(way: Way, url: str) -> None:
    """G2: a rule that left the window long ago is in the system prompt of every request."""
    with Memory.open(url, config=CONFIG) as memory:
        fill(memory, rule=True)
        talk = way.open(memory, "s", [way.answer("one"), way.answer("two")])
        for question in ("And then?", "And now?"):
            await talk.asay(question)
        requests = talk.requests()
        assert len(requests) >= 2
        for request in requests:
            assert RULE in standing(request)
            assert RULE not in [message.text for message in request if message.role is Role.USER]


async def budget(way: Way, url: str) -> None:
    """G1: whatever the history, a request is within the budget, but for what the engine itself adds."""
    with Memory.open(url, config=CONFIG) as memory:
        fill(memory, 20, rule=True)
        talk = way.open(memory, "s", [way.answer("fine")] * 3)
        for question in ("Good.", "How many whales did ship 4 meet?", "Which crew sang, and how many men were they?"):
            await talk.asay(question)
        for request in talk.requests():
            assert memory.counter.count_request(request) <= CONFIG.budget.prompt + way.extra
        if way.history:
            assert max(map(memory.counter.count_request, talk.requests())) > 400


async def tool_pairs(way: Way, url: str) -> None:
    """G3: tool calls of the past keep their results, also parallel ones, and one that never came is answered."""
    with Memory.open(url, config=CONFIG) as memory:
        session = memory.session("s", owner="ann")
        calls = [ToolCall(id=f"c{n}", name="add", arguments='{"a": 1, "b": 1}') for n in range(2)]
        session.add(
            "Add twice.", assistant("", *calls), *(tool_result("2", call_id=c.id) for c in calls), assistant("2")
        )
        lost = ToolCall(id="c9", name="add", arguments='{"a": 2, "b": 2}')
        session.add("And again.", assistant("", lost), assistant("I could not."))
        fill(memory, 2)
        talk = way.open(memory, "s", [way.answer("fine")])
        await talk.asay("And now?")
        (request,) = talk.requests()[-1:]
        found = problems([message for message in request if message.role is not Role.SYSTEM])
        assert not [one for one in found if "tool" in one or "call" in one]


async def once(way: Way, url: str) -> None:
    """G5: after several exchanges each message is in the log once and in a request once."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer(f"answer {n}") for n in range(3)])
        for number in range(3):
            await talk.asay(f"question {number}")
        assert asked(memory) == [f"question {n}" for n in range(3)]
        assert [number for number, text in enumerate(answers(memory)) if f"answer {number}" in text] == [0, 1, 2]
        last = talk.requests()[-1]
        for number in range(2 if way.history else 0):
            assert times(last, f"question {number}") == 1
            assert times(last, f"answer {number}") == 1


async def streaming(way: Way, url: str) -> None:
    """A stream that is read to its end is the answer, and the turn is committed whole."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("ships met whales"), way.answer("and a storm")])
        assert talk.astream
        assert "ships met whales" in "".join([part async for part in talk.astream("What happened?")])
        await settle(lambda: len(answers(memory)) == 1)
        if talk.stream is not None:
            assert "and a storm" in "".join(await asyncio.to_thread(list, talk.stream("And then?")))
            await settle(lambda: len(answers(memory)) == 2)
        assert "ships met whales" in answers(memory)[0]
        assert asked(memory)[0] == "What happened?"


async def broken_stream(way: Way, url: str) -> None:
    """G6: the model breaks a stream; no half answer is kept, and the retry sends the question once."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("ships met whales"), way.answer("they sang")], breaks=True)
        assert talk.astream
        await failing(read(talk.astream("What happened?")), "broke", may_pass=True)
        assert "they sang" in await talk.asay("What happened?")
        assert asked(memory) == ["What happened?"], asked(memory)
        assert len(answers(memory)) == 1
        assert "they sang" in answers(memory)[0]
        assert times(talk.requests()[-1], "What happened?") == 1


async def abandoned_stream(way: Way, url: str) -> None:
    """G6, G9: the reader leaves a stream; nothing said is lost, no half answer is kept, the next turn is in order."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("ships met whales"), way.answer("they sang")], pause=0.002)
        assert talk.astream
        stream = talk.astream("What happened?")
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        assert "they sang" in await talk.asay("And then?")
        await in_order(memory, talk)


async def cancelled(way: Way, url: str) -> None:
    """G6, G9: a task is cancelled while the model works; no half answer is kept, the retry is in order."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("ships met whales"), way.answer("they sang")], pause=0.2)
        task = asyncio.ensure_future(talk.asay("What happened?"))
        await settle(lambda: bool(talk.requests()))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert "they sang" in await talk.asay("And then?")
        await in_order(memory, talk)


async def in_order(memory: Memory, talk: Talk) -> None:
    await settle(lambda: any("they sang" in text for text in answers(memory)))
    for text in answers(memory):
        assert "ships met whales" in text or "they sang" in text
    assert asked(memory).count("And then?") == 1
    assert asked(memory).count("What happened?") <= 1
    assert times(talk.requests()[-1], "And then?") == 1


async def sync_and_async(way: Way, url: str) -> None:
    """Sync and async calls on one session do the same."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("one"), way.answer("two")])
        assert talk.say
        assert "one" in await asyncio.to_thread(talk.say, "First?")
        assert "two" in await talk.asay("Second?")
        assert asked(memory) == ["First?", "Second?"]
        assert len(answers(memory)) == 2
        assert not way.history or "First?" in whole(talk.requests()[-1])


async def retry(way: Way, url: str) -> None:
    """G5: the model fails, the user asks again: one question, one answer, and one question sent."""
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [Broken("down"), way.answer("here")])
        await failing(talk.asay("Are you there?"), "down")
        assert "here" in await talk.asay("Are you there?")
        assert asked(memory) == ["Are you there?"], asked(memory)
        assert len(answers(memory)) == 1
        assert times(talk.requests()[-1], "Are you there?") == 1


async def sessions_at_once(way: Way, url: str) -> None:
    """G7: conversations side by side on one database never see one another's words."""
    with Memory.open(url, config=CONFIG) as memory:
        names = ("harbour", "lighthouse", "compass")
        talks = {
            name: way.open(memory, name, [way.answer(f"{name} answer {n}") for n in range(3)], pause=0.001)
            for name in names
        }

        async def converse(name: str) -> None:
            for number in range(3):
                await talks[name].asay(f"{name} question {number}")

        await asyncio.gather(*map(converse, names))
        for name in names:
            assert asked(memory, name) == [f"{name} question {n}" for n in range(3)]
            for request in talks[name].requests():
                assert not any(other in whole(request) for other in names if other != name)


async def restart(way: Way, url: str) -> None:
    """G4: another process with the same file goes on with the conversation and its constraints."""
    with Memory.open(url, config=CONFIG) as memory:
        await way.open(memory, "s", [way.answer("Hello Ann")]).asay(f"I am Ann. {RULE}")
    with Memory.open(url, config=CONFIG) as memory:
        talk = way.open(memory, "s", [way.answer("You are Ann")])
        await talk.asay("Who am I?")
        request = talk.requests()[-1]
        assert RULE in standing(request)
        assert not way.history or "I am Ann. " in "".join(m.text for m in request if m.role is Role.USER)
        assert len(asked(memory)) == 2


async def read(stream: AsyncIterator[str]) -> list[str]:
    return [part async for part in stream]


async def failing(call: Awaitable[Any], with_words: str, *, may_pass: bool = False) -> None:
    """The call fails as the model did, wrapped or not; some engines end a broken stream without an error."""
    try:
        await call
    except Exception as error:
        if with_words not in f"{error} {error.__cause__}":
            raise
    else:
        assert may_pass, "the error did not reach the caller"


async def settle(done: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait until what a framework's own thread does is done."""
    until = asyncio.get_running_loop().time() + timeout_s
    while not done():
        assert asyncio.get_running_loop().time() < until, "it never came"
        await asyncio.sleep(0.005)


COLUMNS: dict[str, Callable[[Way, str], Awaitable[None]]] = {
    "constraints": constraints,
    "budget": budget,
    "tool pairs": tool_pairs,
    "exactly once": once,
    "stream": streaming,
    "stream breaks": broken_stream,
    "stream left": abandoned_stream,
    "cancelled": cancelled,
    "sync and async": sync_and_async,
    "retry": retry,
    "sessions at once": sessions_at_once,
    "restart": restart,
}


STREAMS = ("stream", "stream breaks", "stream left")


def without_stream(reason: str) -> dict[str, str]:
    """The columns that a way has not which gives its answer in one part."""
    return dict.fromkeys(STREAMS, reason)
