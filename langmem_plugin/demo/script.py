"""The conversation that is replayed: days, exchanges, tool calls, questions; read from `conversation.txt`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files

from langmem_plugin.errors import InvalidSetting


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call and its result, both as JSON text."""

    name: str
    arguments: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What the user says, what the assistant does about it and what it answers."""

    number: int
    """From 1, through all days."""
    user: str
    calls: tuple[Call, ...] = ()
    answer: str = ""
    """"" for a question: the answering model answers it."""
    needs: tuple[str, ...] = ()
    """What a request must hold, word for word, to be able to answer the question."""

    @property
    def is_question(self) -> bool:
        """Whether it asks for something said long before."""
        return bool(self.needs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One sitting."""

    begins: datetime
    exchanges: tuple[Exchange, ...]


@dataclass(slots=True)
class _Draft:
    user: str
    question: bool
    calls: list[Call] = field(default_factory=list)
    call: tuple[str, str] | None = None
    answer: str = ""
    needs: list[str] = field(default_factory=list)


def shipped() -> tuple[Day, ...]:
    """The conversation that comes with the package."""
    return parse(files(__package__).joinpath("conversation.txt").read_text(encoding="utf-8"))


def parse(text: str) -> tuple[Day, ...]:
    """The days of a script; its header explains the format.

    Raises:
        InvalidSetting: A line stands where it cannot; names the line.
    """
    days: list[tuple[datetime, list[_Draft]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        mark, _, rest = line.partition(" ")
        try:
            _take(days, mark, rest.strip())
        except (IndexError, ValueError, TypeError) as error:
            raise InvalidSetting(f"line {number}", line[:40], "it cannot stand there, see the header") from error
    return tuple(_numbered(days))


def _take(days: list[tuple[datetime, list[_Draft]]], mark: str, rest: str) -> None:
    match mark:
        case "" | "#":
            return
        case "@":
            days.append((datetime.strptime(rest, "%Y-%m-%d %H:%M").replace(tzinfo=UTC), []))
            return
        case "U" | "Q":
            days[-1][1].append(_Draft(rest, mark == "Q"))
            return
    draft = days[-1][1][-1]
    match mark:
        case "T":
            name, _, arguments = rest.partition(" ")
            draft.call = (name, arguments)
        case "R" if draft.call is not None:
            draft.calls.append(Call(*draft.call, rest))
            draft.call = None
        case "A" if not draft.question:
            draft.answer = rest
        case "=" if draft.question:
            draft.needs.append(rest)
        case _:
            raise ValueError(mark)


def _numbered(days: Sequence[tuple[datetime, Sequence[_Draft]]]) -> list[Day]:
    out: list[Day] = []
    number = 0
    for begins, drafts in days:
        exchanges = []
        for draft in drafts:
            number += 1
            exchanges.append(
                Exchange(
                    number=number,
                    user=draft.user,
                    calls=tuple(draft.calls),
                    answer=draft.answer,
                    needs=tuple(draft.needs),
                )
            )
        out.append(Day(begins=begins, exchanges=tuple(exchanges)))
    return out
