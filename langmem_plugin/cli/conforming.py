"""`langmem-plugin conformance`: which promises a LangChain chat history keeps."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langmem_plugin.errors import InvalidSetting, MissingExtra

if TYPE_CHECKING:
    from langmem_plugin.evaluation.history_conformance import Graded

_BROKEN = 3
"""The exit code if a clause does not hold, as of an evaluation that is below what was asked for."""
_COLOURS = {"holds": "green", "broken": "red", "unknown": "yellow"}


def add_conformance(command: argparse.ArgumentParser) -> None:
    """The arguments of `conformance`."""
    command.description = (
        "Grade any chat history of LangChain's, by what it does: order, exact round trips, isolation, threads, "
        "repeats, killed writers. FACTORY takes a session's id and gives a history. Exit code 3 if a clause is broken."
    )
    command.add_argument("factory", metavar="MODULE:FACTORY", help="for example histories:sqlite, in this folder")
    command.add_argument("--kills", type=int, default=3, metavar="N", help="writing processes that are killed (3)")
    command.add_argument("--json", type=Path, metavar="FILE", help="write the grades there, too")
    command.set_defaults(run=conformance)


def conformance(arguments: argparse.Namespace) -> int:
    """Grade, and print a line a clause."""
    from langmem_plugin import display

    try:
        from langmem_plugin.evaluation.history_conformance import grade, made_by
    except ImportError as error:
        raise MissingExtra("grading a chat history", "langchain-core", "langchain") from error
    if arguments.kills < 1:
        raise InvalidSetting("--kills", arguments.kills, "give 1 or more")
    found = grade(made_by(arguments.factory), name=arguments.factory, kills=arguments.kills)
    out = display.console()
    out.print(_table(display, found))
    held = sum(one.grade == "holds" for one in found)
    out.print(f"{held} of {len(found)} clauses hold")
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidSetting("--json", str(arguments.json), f"it cannot be written ({error.strerror})") from error
    return _BROKEN if any(one.grade == "broken" for one in found) else 0


def _table(display: Any, found: list[Graded]) -> Any:
    table = display.plain_table(("clause", "left"), ("", "left"), ("what was seen", "left"))
    for one in found:
        table.add_row(one.clause, display.Text(one.grade, style=_COLOURS[one.grade]), display.Text(one.note))
    return table
