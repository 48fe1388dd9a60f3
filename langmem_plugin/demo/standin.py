"""The stand-in for an answering model: it quotes the line of its request that fits the question best.

It sees nothing but the request. If the memory does not bring a fact, it cannot quote it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from langmem_plugin.messages import Message, Role
from langmem_plugin.recall.terms import analyse

_TAG = re.compile(r"</?\w+>$")
_BLOCK_END = re.compile(r"</\w+>\n\n")
_LEAD = re.compile(r"^(?:- \[\w+\] \w+: |#\d+ (?:tool )?\w*: |- )")
_CLAUSE = re.compile(r"[,.;:!?]\s+")
SAYS = "I am a stand-in and only quote my request:"


def split(request: Sequence[Message]) -> tuple[list[str], str]:
    """The lines of a request, and the question that it ends on."""
    last = next((place for place in range(len(request) - 1, -1, -1) if request[place].role is Role.USER), None)
    texts = [message.text for message in request]
    question = ""
    if last is not None:
        parts = _BLOCK_END.split(texts[last])
        question = parts[-1]
        texts[last] = texts[last][: len(texts[last]) - len(question)]
    lines = [line.strip() for text in texts for line in text.splitlines()]
    return [line for line in lines if line and not _TAG.match(line)], question


def best_line(lines: Sequence[str], question: str) -> str:
    """The line that shares the rarest words with the question; the newest of equals, "" if none shares any.

    What the question ends on counts twice, because people lead up to what they ask.
    Questions and the stand-in's own answers are no lines to quote.
    """
    lines = [_LEAD.sub("", line) for line in lines if not line.endswith("?") and SAYS not in line]
    end = set(analyse(_CLAUSE.split(question.strip())[-1]))
    held = [set(analyse(line)) for line in lines]
    spread = Counter(term for terms in held for term in terms)
    weight = {term: math.log(1 + len(lines) / (1 + spread[term])) * (1 + (term in end)) for term in analyse(question)}
    scores = [sum(weight[term] for term in weight.keys() & terms) / (1 + 0.02 * len(terms)) for terms in held]
    if not any(scores):
        return ""
    return lines[max(range(len(lines)), key=lambda place: (scores[place], place))]


def answer(request: Sequence[Message]) -> str:
    """What the stand-in says to a request."""
    lines, question = split(request)
    line = best_line(lines, question)
    return f"{SAYS} “{line}”" if line else f"{SAYS} no line of it fits."
