"""What an application may expect of a LangChain chat history, one sentence a clause.

Each clause has sessions of its own; what it writes is a conversation that any model would
take: a user's message, an answer, tool calls with their results.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from uuid import uuid4

from langmem_plugin.errors import MissingExtra

try:
    from langchain_core.chat_history import BaseChatMessageHistory
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
except ImportError as error:
    raise MissingExtra("grading chat histories", "langchain_core", "langchain") from error

Factory: TypeAlias = Callable[[str], BaseChatMessageHistory]
"""Makes a history of a session's id."""

ODD_TEXTS = (
    "\0", "a\0b", "a\x85b", "a\u2028b", "\u202e", "\ufeff", " a \r\n\t", "🙂", "한국어", "\\u0000", '"', "{}",
    "'; DROP TABLE message_store; --", "%s {x} :name ?", '{"lc": 1, "type": "constructor", "id": ["os", "system"]}',
)  # fmt: skip
"""Texts that stores are known to change, refuse or run."""
UNSENDABLE_TEXTS = ("\ud800", "x\udfffy", "\ud83d\ude42", " ", "\x85", "\u2028", "\r\n\t")
"""Texts that no provider takes: a lone surrogate is no UTF-8, and some refuse a message of nothing but space."""
_IDS = ("a", "A", "a ", "a/b", "a:b", "a*", "../a", "é", "a" * 200)
_THREADS, _TURNS = 8, 6
_LONG = 20
"""Messages of a batch that a reader might see a part of."""


class Broken(Exception):
    """The clause does not hold; says what was seen."""


class Refused(Exception):
    """The clause holds; some of what it tried was refused by an error, and nothing of that was kept."""


class Histories:
    """Histories of one factory, each session with an id that nobody else has."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def new(self) -> tuple[str, BaseChatMessageHistory]:
        """A session that nobody wrote to."""
        session_id = f"conformance-{uuid4().hex}"
        return session_id, self.again(session_id)

    def again(self, session_id: str) -> BaseChatMessageHistory:
        """Another object of a session."""
        return self._factory(session_id)


def turn(number: int | str, **more: Any) -> list[BaseMessage]:
    """A question and its answer."""
    return [HumanMessage(f"Question {number}?", **more), AIMessage(f"Answer {number}.")]


def texts(history: BaseChatMessageHistory) -> list[Any]:
    """What the history's messages say, in order."""
    return [message.content for message in history.messages]


def expect(found: object, wanted: object, what: str) -> None:
    """Break the clause unless the two are equal; says how many there are of each where they are lists.

    Raises:
        Broken: They differ.
    """
    if found != wanted:
        sizes = ""
        if isinstance(found, list) and isinstance(wanted, list) and len(found) != len(wanted):
            sizes = f" ({len(found)} messages, not {len(wanted)})"
        raise Broken(what + sizes)


def a_new_session_is_empty(histories: Histories) -> None:
    """A session that nobody wrote to is empty, and adding nothing leaves it so."""
    session_id, history = histories.new()
    expect(history.messages, [], "a new session has messages")
    history.add_messages([])
    expect(histories.again(session_id).messages, [], "adding nothing added something")


def order_is_kept(histories: Histories) -> None:
    """Messages come back in the order in which they were added, one by one and in batches."""
    _, history = histories.new()
    for number in range(10):
        history.add_messages(turn(number))
        for message in turn(f"{number}b"):
            history.add_message(message)
    wanted = [message.content for number in range(10) for name in (number, f"{number}b") for message in turn(name)]
    expect(texts(history), wanted, "the order is another")


def odd_text_is_kept(histories: Histories) -> None:
    """Any text comes back exactly, or is refused by an error and nothing of it is kept."""
    _texts_come_back(histories, ODD_TEXTS, lambda text, found: found == text)


def what_no_model_takes_costs_nothing_else(histories: Histories) -> None:
    """Text that no provider takes is kept, shown as text that they take, or refused; what is beside it stays."""
    _texts_come_back(histories, UNSENDABLE_TEXTS, lambda _, found: isinstance(found, str))


def _texts_come_back(histories: Histories, which: Sequence[str], fits: Callable[[str, Any], bool]) -> None:
    changed, refused = [], []
    for text in which:
        session_id, history = histories.new()
        history.add_messages(turn(1))
        try:
            history.add_messages([HumanMessage(text), AIMessage("Noted.")])
        except Exception:  # noqa: BLE001 - whatever it raises is its way to refuse
            refused.append(text)
        try:
            first, answer, *more = texts(histories.again(session_id))
        except Exception:  # noqa: BLE001 - it can no longer be read
            changed.append(text)
            continue
        kept = not more if text in refused else len(more) == 2 and fits(text, more[0]) and more[1] == "Noted."
        if (first, answer) != ("Question 1?", "Answer 1.") or not kept:
            changed.append(text)
    if changed:
        raise Broken(f"{len(changed)} of {len(which)} texts are changed, lost or half kept: {changed[:4]!a}")
    if refused:
        raise Refused(f"refuses {len(refused)} of {len(which)} texts: {refused[:4]!a}")


def messages_are_kept_whole(histories: Histories) -> None:
    """Content blocks, tool calls and results, ids, names, metadata and usage come back as they were."""
    said: list[BaseMessage] = [
        HumanMessage(
            [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}],
            id="m1",
            name="Ann",
            additional_kwargs={"draft": {"of": [1, 2.5, None, True]}},
        ),
        AIMessage(
            "",
            id="m2",
            tool_calls=[{"name": "look", "args": {"at": ["x", {"deep": 1}]}, "id": "c1", "type": "tool_call"}],
            response_metadata={"model_name": "m", "finish_reason": "tool_calls"},
            usage_metadata={"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
        ),
        ToolMessage("A cat.", tool_call_id="c1", name="look", status="success", id="m3"),
        AIMessage([{"type": "text", "text": "A cat."}], id="m4"),
    ]
    session_id, history = histories.new()
    history.add_messages(said)
    found = histories.again(session_id).messages
    expect([type(one).__name__ for one in found], [type(one).__name__ for one in said], "the kinds of messages differ")
    lost = []
    for was, now in zip(said, found, strict=True):
        before, after = was.model_dump(), now.model_dump()
        lost += [f"{was.type}.{name}" for name in before if before[name] != after.get(name)]
    if lost:
        raise Broken(f"these differ: {', '.join(sorted(set(lost))[:6])}")


def another_object_sees_the_same(histories: Histories) -> None:
    """What one object of a session adds, another one reads, made before it or after it."""
    session_id, one = histories.new()
    other = histories.again(session_id)
    expect(other.messages, [], "a new session has messages")
    one.add_messages(turn(1))
    expect(texts(histories.again(session_id)), texts(one), "an object made afterwards does not see what was added")
    expect(texts(other), texts(one), "an object made before does not see what was added")
    other.add_messages(turn(2))
    expect(len(one.messages), 4, "the first object does not see what the second one added")


def clearing_empties_one_session(histories: Histories) -> None:
    """`clear` empties the session for every object, no other session, and it can be used again."""
    session_id, history = histories.new()
    _, other = histories.new()
    for one in (history, other):
        one.add_messages(turn(1))
    history.clear()
    expect(history.messages, [], "messages are left")
    expect(histories.again(session_id).messages, [], "another object still sees messages")
    expect(len(other.messages), 2, "another session was emptied")
    history.add_messages(turn(2))
    expect(texts(histories.again(session_id)), ["Question 2?", "Answer 2."], "it cannot be used again")


def sessions_are_apart(histories: Histories) -> None:
    """Sessions share nothing, however much alike their ids are; an id is taken or refused by an error."""
    unique = uuid4().hex
    opened: dict[str, BaseChatMessageHistory] = {}
    refused = []
    for name in _IDS:
        try:
            opened[name] = histories.again(f"{unique}-{name}")
            opened[name].add_messages(turn(name))
        except Exception:  # noqa: BLE001 - whatever it raises is its way to refuse
            opened.pop(name, None)
            refused.append(name)
    for name, history in opened.items():
        expect(
            texts(history), [message.content for message in turn(name)], f"session {name!r} holds another's messages"
        )
    if refused:
        raise Refused(f"refuses {len(refused)} of {len(_IDS)} ids: {refused[:3]}")


def threads_lose_nothing(histories: Histories) -> None:
    """Threads that write to one session at once, each by an object of its own, lose nothing; each one's order holds."""
    session_id, first = histories.new()
    first.add_messages(turn("first"))
    errors: list[str] = []

    def write(thread: int) -> None:
        try:
            history = histories.again(session_id)
            for number in range(_TURNS):
                history.add_messages(turn(f"{thread}-{number}"))
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(type(error).__name__)

    _together(write, _THREADS)
    if errors:
        raise Broken(f"{len(errors)} of {_THREADS} threads met {Counter(errors).most_common(1)[0][0]}")
    found = texts(histories.again(session_id))
    wanted = [f"Question {thread}-{number}?" for thread in range(_THREADS) for number in range(_TURNS)]
    lost = len(set(wanted) - set(found))
    if lost:
        raise Broken(f"{lost} of {len(wanted)} turns are lost")
    for thread in range(_THREADS):
        mine = [text for text in found if str(text).startswith(f"Question {thread}-")]
        expect(mine, wanted[thread * _TURNS : (thread + 1) * _TURNS], "a thread's own order is another")


def batches_stay_together(histories: Histories) -> None:
    """Messages that were added in one call stand side by side, whoever else writes."""
    session_id, first = histories.new()
    first.add_messages(turn("first"))

    def write(thread: int) -> None:
        history = histories.again(session_id)
        for number in range(_TURNS):
            history.add_messages(turn(f"{thread}-{number}"))

    _together(write, _THREADS)
    found = texts(histories.again(session_id))
    apart = sum(
        str(text).startswith("Question")
        and found[place + 1 : place + 2] != [str(text).replace("Question", "Answer").replace("?", ".")]
        for place, text in enumerate(found)
    )
    if apart:
        raise Broken(f"{apart} questions are not followed by their answers")


def readers_see_whole_batches(histories: Histories) -> None:
    """Who reads while a batch is added sees all of it or nothing."""
    session_id, writer = histories.new()
    writer.add_messages(turn("first"))
    halves: list[int] = []
    done = threading.Event()

    errors: list[str] = []

    def read() -> None:
        try:
            history = histories.again(session_id)
            while not done.is_set():
                count = len(history.messages) - 2
                if count % _LONG:
                    halves.append(count)
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(type(error).__name__)

    def write() -> None:
        for number in range(10):
            writer.add_messages([one for place in range(_LONG // 2) for one in turn(f"{number}-{place}")])
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        write()
    finally:
        done.set()
        reader.join()
    if errors:
        raise Broken(f"a reader met {errors[0]}")
    if halves:
        raise Broken(f"a batch of {_LONG} was seen with {halves[0] % _LONG} messages")


def a_batch_that_fails_leaves_nothing(histories: Histories) -> None:
    """If one message of a batch cannot be kept, nothing of the batch is; or all of it is kept."""
    session_id, history = histories.new()
    history.add_messages(turn(1))
    batch = [*turn(2), HumanMessage("Question 3?", additional_kwargs={"odd": object()}), AIMessage("Answer 3.")]
    try:
        history.add_messages(batch)
    except Exception:  # noqa: BLE001 - whatever it raises is its way to refuse
        wanted = 2
    else:
        wanted = 6
    for one in (history, histories.again(session_id)):
        try:
            found = len(one.messages)
        except Exception as error:
            raise Broken(f"it cannot be read any more ({type(error).__name__})") from error
        expect(found, wanted, f"{found - 2} of 4 messages of the batch are there")


def what_is_sent_again_is_there_once(histories: Histories) -> None:
    """A message that is delivered again with the id that it had is there once; one without an id is a new one."""
    session_id, history = histories.new()
    batch = [HumanMessage("Question 1?", id="q1"), AIMessage("Answer 1.", id="a1")]
    for one in (history, history, histories.again(session_id)):
        one.add_messages(batch)
    expect(texts(history), ["Question 1?", "Answer 1."], "a delivery that comes twice is there twice")
    for _ in range(2):
        history.add_messages(turn(2))
    expect(len(history.messages), 6, "a message without an id was taken for a repeat")


def async_does_the_same(histories: Histories) -> None:
    """`aadd_messages`, `aget_messages` and `aclear` do what the others do, ten at once as well."""
    session_id, history = histories.new()

    async def all_of_it() -> tuple[list[Any], list[Any]]:
        await history.aadd_messages(turn("first"))
        await asyncio.gather(*(histories.again(session_id).aadd_messages(turn(number)) for number in range(10)))
        found = [message.content for message in await history.aget_messages()]
        await history.aclear()
        return found, await history.aget_messages()

    found, left = asyncio.run(all_of_it())
    wanted = [message.content for number in ("first", *range(10)) for message in turn(number)]
    expect(sorted(map(str, found)), sorted(map(str, wanted)), "messages that were added at once are lost")
    expect(left, [], "aclear left messages")


def what_was_read_is_the_readers(histories: Histories) -> None:
    """Changing a list that was read, or one that was added, changes nothing in the history."""
    _, history = histories.new()
    batch = turn(1)
    history.add_messages(batch)
    batch.append(HumanMessage("Later."))
    expect(len(history.messages), 2, "a message that was put into the list after adding it is in the history")
    read = list(history.messages)
    history.messages.append(HumanMessage("Mine."))
    expect(texts(history), [message.content for message in read], "a message that was put into a list read is in it")


def _together(write: Callable[[int], None], threads: int) -> None:
    order = random.Random(3).sample(range(threads), threads)  # noqa: S311 - guards nothing
    running = [threading.Thread(target=_quietly, args=(write, number)) for number in order]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def _quietly(write: Callable[[int], None], number: int) -> None:
    try:
        write(number)
    except Exception:  # noqa: BLE001 - what is missing afterwards tells
        return


CLAUSES: Sequence[Callable[[Histories], None]] = (
    a_new_session_is_empty,
    order_is_kept,
    odd_text_is_kept,
    what_no_model_takes_costs_nothing_else,
    messages_are_kept_whole,
    another_object_sees_the_same,
    clearing_empties_one_session,
    sessions_are_apart,
    what_was_read_is_the_readers,
    what_is_sent_again_is_there_once,
    a_batch_that_fails_leaves_nothing,
    threads_lose_nothing,
    batches_stay_together,
    readers_see_whole_batches,
    async_does_the_same,
)
"""In the order of the report; processes are the matter of `history_conformance`."""
