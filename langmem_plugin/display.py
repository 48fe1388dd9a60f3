"""What the command line shows of a memory: bars of the budget, constraints, what was recalled; with rich."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO

from langmem_plugin.context.request import ContextReport
from langmem_plugin.errors import MissingExtra
from langmem_plugin.records import Constraint, ConstraintState, Hit

try:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    raise MissingExtra("the command line", "rich", "cli") from error

__all__ = [
    "WIDTH",
    "Console",
    "Table",
    "Text",
    "budget_bars",
    "console",
    "constraints_table",
    "hits_table",
    "notes",
    "plain_table",
    "segment_bars",
]

WIDTH = 100
_BAR = 44
_WIDE = ("recalled", "what was seen", "in the user's words", "what", "from", "state")
_NAMES = {"new": "new message"}
_COLOURS = {
    "tools": "bright_black",
    "system": "bright_black",
    "constraints": "red",
    "summary": "yellow",
    "window": "green",
    "recall": "cyan",
    "documents": "magenta",
    "new": "blue",
}


def console(file: IO[str] | None = None) -> Console:
    """A console of at most 100 columns; without colour where its output is no terminal."""
    out = Console(file=file or sys.stdout, highlight=False)
    if not out.is_terminal or out.width > WIDTH:
        out.width = WIDTH
    return out


def budget_bars(report: ContextReport, *, used: int | None = None) -> Table:
    """The tokens of a request by segment: number, share of the budget, bar.

    Args:
        report: Of the request.
        used: Tokens of the whole as they were counted on their way to the model; the
            report's own sum if not given.
    """
    return segment_bars(report.tokens, budget=report.budget, used=used)


def segment_bars(tokens: Mapping[str, int], *, budget: int, used: int | None = None) -> Table:
    """Tokens by segment against a budget: number, share, bar.

    Args:
        tokens: By segment; those without any are left out.
        budget: Tokens that the whole may have.
        used: Tokens of the whole; the sum if not given.
    """
    table = plain_table(("segment", "left"), ("tokens", "right"), ("share", "right"), ("", "left"))
    left = budget
    used = sum(tokens.values()) if used is None else used
    for name, colour in _COLOURS.items():
        if count := tokens.get(name, 0):
            left -= count
            share = count / budget
            table.add_row(_NAMES.get(name, name), f"{count:,}", f"{share:.0%}", Text(_bar(share), style=colour))
    table.add_row(Text("free", style="dim"), f"{left:,}", f"{left / budget:.0%}", Text("·" * _cells(left / budget)))
    table.add_row(Text("request", style="bold"), f"{used:,}", f"{used / budget:.0%}", f"of {budget:,} tokens")
    return table


def constraints_table(constraints: Sequence[Constraint], said: Mapping[int, int] | None = None) -> Table:
    """Constraints in creation order with their state; the ended ones are struck through where that can be shown.

    Args:
        constraints: In any state.
        said: From a log entry's number to that of its turn, to say when it was stated.
    """
    by_id = {constraint.id: place for place, constraint in enumerate(constraints, start=1)}
    table = plain_table(
        ("", "right"), ("state", "left"), ("kind", "left"), ("in the user's words", "left"), ("stated", "left")
    )
    for place, constraint in enumerate(constraints, start=1):
        active = constraint.state is ConstraintState.ACTIVE
        state = constraint.state.value
        if constraint.superseded_by in by_id:
            state += f" by {by_id[constraint.superseded_by]}"
        table.add_row(
            str(place),
            Text(state, style="green" if active else "red"),
            constraint.kind.value,
            Text(_short(constraint.text, 160), style="" if active else "strike dim"),
            _stated(constraint, said),
        )
    return table


def hits_table(hits: Sequence[Hit], *, limit: int = 6) -> Table:
    """What was recalled, best first: score, the two legs, the day, who said what, and why."""
    table = plain_table(
        ("score", "right"), ("keyword", "right"), ("vector", "right"), ("day", "left"), ("recalled", "left")
    )
    for hit in hits[:limit]:
        vector = "-" if hit.vector is None else f"{hit.vector:.2f}"
        words = Text(f"{hit.entry.message.role.value}: {_short(hit.entry.message.text, 110)}")
        words.append(f"\n{hit.why}", style="dim italic")
        day = f"{hit.entry.created_at:%d %b}".lstrip("0")
        table.add_row(f"{hit.score:.2f}", f"{hit.keyword:.2f}", vector, day, words)
    return table


def notes(report: ContextReport) -> list[str]:
    """One sentence for each thing worth knowing about a request."""
    lines = []
    if report.summarised:
        lines.append(f"{report.summarised} earlier messages are covered by the summary")
    if report.waiting:
        lines.append(f"{report.waiting} messages left the window and wait to be summarised; they can be recalled")
    lines.append(f"the window holds {report.window_messages} messages word for word")
    if report.legs:
        lines.append(f"recall ran by {' and '.join(report.legs)}; need of the past {report.need:.2f} of 1")
    return [*lines, *report.cut, *report.notes]


def plain_table(*columns: tuple[str, str]) -> Table:
    """A table without lines; `columns` are names with "left" or "right"."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in columns:
        wide = name in _WIDE
        table.add_column(
            name, justify="right" if justify == "right" else "left", no_wrap=not wide, ratio=1 if wide else None
        )
    return table


def _stated(constraint: Constraint, said: Mapping[int, int] | None) -> str:
    if constraint.seq is None:
        return "added by hand"
    day = f"{constraint.created_at:%d %b}".lstrip("0")
    turn = said.get(constraint.seq) if said else None
    return f"{day}, turn {turn}" if turn else day


def _cells(share: float) -> int:
    return max(1, round(share * _BAR)) if share > 0 else 0


def _bar(share: float) -> str:
    return "█" * _cells(share)


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
