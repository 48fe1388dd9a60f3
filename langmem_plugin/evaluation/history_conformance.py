"""Grades a LangChain chat history, anybody's: which clauses hold, and what was seen where one does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Literal, TypeAlias
from uuid import uuid4

from langmem_plugin.by_name import function_named
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.evaluation.history_clauses import CLAUSES, Broken, Factory, Histories, Refused, expect, texts, turn

Grade: TypeAlias = Literal["holds", "broken", "unknown"]

_KILLS = 3
_CHILD = """\
import sys
from langmem_plugin.evaluation.history_conformance import write_forever
write_forever(sys.argv[1], sys.argv[2])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A clause and how it went."""

    clause: str
    """Its name."""
    says: str
    """Its sentence."""
    grade: Grade
    note: str = ""
    """What was seen, or refused, or why it could not be tried."""


def made_by(name: str) -> Factory:
    """The factory `module:name`; the current folder is searched first.

    Raises:
        InvalidSetting: There is no such function.
    """
    return function_named(name, option="FACTORY", want="give MODULE:FACTORY, a function of a session's id")


def grade(
    factory: Factory,
    *,
    name: str | None = None,
    kills: int = _KILLS,
    progress: Callable[[Graded], object] | None = None,
) -> list[Graded]:
    """Try every clause on a factory's histories.

    Args:
        factory: Makes a history of a session's id; each call another object.
        name: The factory as `module:name`, for the clauses about other processes, which import
            it anew; they are not tried without it.
        kills: Writing processes that are killed.
        progress: Called with each clause that was tried.

    Raises:
        InvalidSetting: What the factory makes has no `messages` and `add_messages`.
    """
    histories = Histories(factory)
    _, first = histories.new()
    if not all(hasattr(first, needed) for needed in ("messages", "add_messages", "clear")):
        raise InvalidSetting("FACTORY", name or factory, "it makes no chat history of LangChain's")
    found: list[Graded] = []

    def note(graded: Graded) -> None:
        found.append(graded)
        if progress is not None:
            progress(graded)

    for clause in CLAUSES:
        note(_tried(clause, partial(clause, histories)))
    for apart in (_another_process_sees_it, _killed_writers_leave_whole_turns):
        if name is None:
            note(_graded(apart, "unknown", "needs a factory that another process can import"))
        else:
            note(_tried(apart, partial(apart, histories, name, kills)))
    return found


def write_forever(name: str, session_id: str, out: IO[str] | None = None) -> None:
    """In a process of its own: add turns and say the number of each that was acknowledged, until killed."""
    out = out or sys.stdout
    history = made_by(name)(session_id)
    number = 0
    while True:
        history.add_messages(turn(number))
        out.write(f"{number}\n")
        out.flush()
        number += 1


def _another_process_sees_it(histories: Histories, name: str, _kills: int) -> None:
    """What was acknowledged in a process that has ended is there."""
    session_id, acknowledged = _killed_after(name, wait_s=0.05)
    found = texts(histories.again(session_id))
    if acknowledged and not found:
        raise Broken("another process's messages are not there: nothing outlives the process")
    expect(found[: 2 * acknowledged], _said(acknowledged), "what was acknowledged is not there")


def _killed_writers_leave_whole_turns(histories: Histories, name: str, kills: int) -> None:
    """Of a process that is killed while it writes, every acknowledged turn is there, and no half turn."""
    for number in range(kills):
        session_id, acknowledged = _killed_after(name, wait_s=0.02 + 0.06 * number)
        try:
            found = texts(histories.again(session_id))
        except Exception as error:
            raise Broken(f"it cannot be read any more ({type(error).__name__})") from error
        if len(found) < 2 * acknowledged:
            raise Broken(f"{2 * acknowledged - len(found)} of {2 * acknowledged} acknowledged messages are lost")
        expect(found, _said(len(found) // 2), "a turn is half, or there twice")


def _killed_after(name: str, *, wait_s: float) -> tuple[str, int]:
    """A session that a process wrote to until it was killed, and how many turns were acknowledged."""
    session_id = f"conformance-{uuid4().hex}"
    path = os.pathsep.join(part or os.getcwd() for part in sys.path)  # noqa: PTH109 - as sys.path has it
    with subprocess.Popen(  # noqa: S603 - this interpreter, our own code
        [sys.executable, "-c", _CHILD, name, session_id],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": path},
    ) as child:
        out: Any = child.stdout
        first = out.readline()
        time.sleep(wait_s if first else 0)
        child.kill()
        lines = [first, *out.read().split(b"\n")]
    if not first:
        raise Broken("a process that imports the factory ends with an error")
    return session_id, sum(line.strip().isdigit() for line in lines)


def _said(turns: int) -> list[Any]:
    return [message.content for number in range(turns) for message in turn(number)]


def _tried(clause: Callable[..., None], call: Callable[[], None]) -> Graded:
    try:
        call()
    except Refused as refused:
        return _graded(clause, "holds", str(refused))
    except Broken as broken:
        return _graded(clause, "broken", str(broken))
    except Exception as error:  # noqa: BLE001 - whatever it raises breaks the clause
        return _graded(clause, "broken", f"{type(error).__name__} was raised")
    return _graded(clause, "holds")


def _graded(clause: Callable[..., None], grade: Grade, note: str = "") -> Graded:
    name = clause.__name__.strip("_").replace("_", " ")
    return Graded(clause=name, says=(clause.__doc__ or "").strip(), grade=grade, note=note)
