"""The part of the system prompt that carries the user's standing statements (guarantee G2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from langmem_plugin.context.rendering import CONSTRAINTS, escape_tags, sendable_text, without_invisible
from langmem_plugin.context.shorter import shorter
from langmem_plugin.records import Constraint

_HEADER = (
    "What the user has said to hold for the whole conversation, in the user's own words. Follow each of these "
    "unless it goes against the instructions above, which rank higher."
)

_ROLE_MARK = re.compile(
    r"<(?=\|)"  # <|im_start|>, <|eot_id|>
    r"|<(?=/?s>|<SYS>>|</SYS>>|(?:start|end)_of_turn>)"
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])",
    re.IGNORECASE,
)


def quote_constraint(text: str) -> str:
    """The statement as it stands in the block.

    Byte for byte, except for what could forge structure: further lines are indented,
    control and invisible characters are left out, chat-template marks and our own
    tags are broken up.
    """
    clean = without_invisible(sendable_text(text.replace("\r\n", "\n").replace("\r", "\n")))
    clean = _ROLE_MARK.sub(lambda mark: mark.group() + " ", escape_tags(clean))
    return clean.replace("\n", "\n    ")


def render(constraints: Sequence[Constraint]) -> str:
    """The block, in creation order, so that a new statement only adds to its end; "" for none."""
    if not constraints:
        return ""
    return "\n".join((f"<{CONSTRAINTS}>", _HEADER, *map(_line, constraints), f"</{CONSTRAINTS}>"))


def missing(request: str, constraints: Sequence[Constraint]) -> tuple[Constraint, ...]:
    """Those that do not stand in the text that is sent, in creation order (guarantee G2).

    A constraint stands in it with its own words, or with shorter ones that say the same.
    """
    gone = [constraint for constraint in constraints if _line(constraint) not in request]
    return tuple(one for one in gone if (short := shorter(one)) is None or _line(short) not in request)


def _line(constraint: Constraint) -> str:
    return f"- [{constraint.id}] {constraint.kind.value}: {quote_constraint(constraint.text)}"


def join_system(system: str, block: str) -> str:
    """The developer's prompt byte for byte, a blank line, the block."""
    if not block:
        return system
    return f"{system}\n\n{block}" if system else block
