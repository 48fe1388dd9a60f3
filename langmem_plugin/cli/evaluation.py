"""What an evaluation of `langmem-plugin eval` is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Outcome = tuple[str, Any]
"""A table in Markdown, and the figures as plain JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One evaluation: its name, what it tells, its arguments and what runs it."""

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Outcome]
    gate: Callable[[argparse.Namespace, Any], str] = lambda _arguments, _figures: ""
    """Why the figures are not good enough for what was asked, "" if they are."""


def numbers(text: str) -> tuple[int, ...]:
    """Numbers above 0, between commas."""
    found = tuple(int(part) for part in text.split(","))
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers such as 1000,2000")
    return found


def progress(line: str) -> None:
    """Tell the terminal how far it is."""
    print(line, file=sys.stderr)
