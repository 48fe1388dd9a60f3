"""Shorter words for a constraint when the block is full, and the proof that they say the same (guarantee G2).

A language model writes them, behind; nothing here trusts it. Whether a shorter wording may
stand for the user's words is decided each time, from the two texts alone.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace

from langmem_plugin.config import MemoryConfig
from langmem_plugin.context.request import Context, View
from langmem_plugin.records import Constraint, ConstraintKind

_WORD = re.compile(r"[^\W_]+(?:['.,:/-][^\W_]+)*|[^\w\s.,;:!?'\"()-]")
"""A word, a number with what is in it, or a sign that may weigh ("€", "%", "<")."""
_CONTRACTED = (("can't", "can not"), ("cannot", "can not"), ("won't", "will not"), ("n't", " not"), ("'d ", " would "))
_FREE = frozenset(("the", "an", "kindly"))
_OPENER = re.compile(
    r"^(?:(?:please|also|and|oh|hi|hey|hello|okay|ok|thanks|thank you|by the way|btw|bitte|por favor|per favore|"
    r"s'il (?:te|vous) plaît|alsjeblieft)\b[ ,!.:-]*)+"
)
_FRAME = re.compile(
    r"^(?:(?:could|can|would|will) you(?: please| kindly)?|you (?:must|should|have to|need to)|"
    r"i (?:really )?(?:want|need|expect) you to|i would (?:really )?(?:like|love|prefer) "
    r"(?:it if you(?: could| would)?|you to)|"
    r"i would (?:really |very much |greatly )?appreciate it if you(?: could| would)?|"
    r"it would be (?:great|good|nice|lovely|best|helpful) if you(?: could| would)?|"
    r"(?:please )?make sure (?:that you|you|to)|be sure to|i (?:kindly )?ask you to|i must ask you to) "
)
"""What makes a demand polite. Without it the demand is the same, as long as one follows."""
_DEMANDS = (ConstraintKind.PROHIBITION, ConstraintKind.REQUIREMENT)
_CLOSER = re.compile(
    r"(?:[ ,.!-]+(?:please|thanks|thank you|okay|ok|bitte|danke|merci|gracias|grazie|obrigad[oa]))+[ .!?]*$"
)


def _weighty(text: str, kind: ConstraintKind) -> list[str]:
    """The words that carry what a statement says, in order."""
    plain = " ".join(unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").split())
    for short, long in _CONTRACTED:
        plain = plain.replace(short, long)
    plain = _CLOSER.sub("", _OPENER.sub("", plain))
    if kind in _DEMANDS:
        plain = _OPENER.sub("", _FRAME.sub("", plain))
    return [found.group() for found in _WORD.finditer(plain) if found.group() not in _FREE]


def says_the_same(short: str, text: str, kind: ConstraintKind) -> bool:
    """Whether a shorter wording keeps every word of weight of a statement, in order, and adds none.

    Args:
        short: What would stand for it; one line.
        text: The statement.
        kind: What sort of statement it is: only a demand can be wrapped in a polite question.

    Returns:
        True if all words are the same and in the same order but for greetings, thanks, what wraps a demand
        ("could you please", "I would appreciate it if you") and articles, and the wording is really shorter.
    """
    if not short.strip() or len(short) >= len(text) or not short.isprintable():
        return False
    words = _weighty(short, kind)
    return bool(words) and words == _weighty(text, kind)


def shorter(constraint: Constraint) -> Constraint | None:
    """The constraint in the shorter words that a model gave, if they say the same; None otherwise."""
    if not constraint.display or not says_the_same(constraint.display, constraint.text, constraint.kind):
        return None
    return replace(constraint, text=constraint.display)


def with_shorter(view: View, config: MemoryConfig) -> View | None:
    """The view with shorter words wherever there are any that hold; None if there are none, or none are wanted."""
    if config.constraints.when_full != "consolidate":
        return None
    constraints = tuple(shorter(one) or one for one in view.constraints)
    return None if constraints == view.constraints else replace(view, constraints=constraints)


def told(context: Context, view: View) -> Context:
    """The request with a report that names the constraints as they are held, and says how many were shortened."""
    sent = context.report.constraints
    fewer = sum(one.text != held.text for one, held in zip(sent, view.constraints, strict=True))
    note = f"{fewer} constraints stand in shorter words: in their own they would not fit"
    report = replace(context.report, constraints=view.constraints, notes=(*context.report.notes, note))
    return replace(context, report=report)
