"""What the clauses of a suite ask with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langmem_plugin.session import Session


def said(session: Session) -> list[str]:
    """The texts of the log."""
    return [entry.message.text for entry in session.history()]


def refused(kind: type[BaseException], call: Callable[[], Any]) -> BaseException:
    """The error of that kind that the call raises.

    Raises:
        AssertionError: It raised none.
    """
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
