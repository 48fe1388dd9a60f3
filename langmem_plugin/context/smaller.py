"""A request made smaller, step by step, after a model refused it as too long.

Works on the request as it was sent, so that it serves wherever the refusal arrives. The
system prompt with the constraints and the new message are in every step, calls and
their results stay together, and every step is smaller than the one before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from langmem_plugin.context import open_turn
from langmem_plugin.context.counting import Counter
from langmem_plugin.context.exchanges import Line, repair
from langmem_plugin.context.rendering import APPLICATION, RECALLED, SUMMARY
from langmem_plugin.messages import Message, Role, Text

Step: TypeAlias = Literal[
    "without recall", "half of the window", "a quarter of the window", "the new message alone with system prompt"
]
ATTEMPTS = 4
"""Requests that are sent for one call of a model at most, the first one included."""

_BLOCK = re.compile(rf"<{RECALLED}>\n.*?\n</{RECALLED}>\s*", re.DOTALL)
_SPARE = 0.95
"""Of the limit that the provider names, so much is used."""


class Shrinking:
    """The requests to try after one was refused; at most three."""

    def __init__(self, request: Sequence[Message], *, counter: Counter) -> None:
        """Keep the request that is about to be sent.

        Args:
            request: As it is sent, the system message first.
            counter: Counts its tokens.
        """
        self._request = tuple(request)
        self._counter = counter
        self._steps = iter(_steps(self._request, counter))
        self._left = ATTEMPTS - 1
        self._size = self._first = -1
        self.notes: list[str] = []
        """What was done, a sentence for each request that was rebuilt."""

    def next(self, *, requested: int | None = None, limit: int | None = None) -> tuple[Message, ...] | None:
        """The next smaller request; None if there is none, or enough were tried.

        Args:
            requested: Tokens of the request that was refused, as the provider counted them.
            limit: Tokens that the provider takes. With both numbers, steps that would be
                refused again are passed over.
        """
        if self._size < 0:
            self._size = self._first = self._tokens(self._request)
        if not self._left:
            return None
        most = self._size - 1
        if requested and limit and requested > limit:
            most = min(most, int(self._size * limit / requested * _SPARE))
        chosen: tuple[Step, tuple[Message, ...], int] | None = None
        for step, messages in self._steps:
            size = self._tokens(messages)
            if size < self._size:
                chosen = step, messages, size
            # The last try is the smallest there is, and so is one that nothing else reaches.
            if chosen and size <= most and self._left > 1:
                break
        if chosen is None:
            return None
        step, messages, size = chosen
        self._left -= 1
        refused = f" (it counted {requested}, its limit is {limit})" if requested and limit else ""
        self.notes.append(
            f"the model refused a request of {self._size} tokens as too long{refused}; rebuilt with {size}: {step}"
        )
        self._size = size
        return messages

    def _tokens(self, messages: Sequence[Message]) -> int:
        return sum(map(self._counter.count_message, messages))


def _steps(request: Sequence[Message], counter: Counter) -> Iterator[tuple[Step, tuple[Message, ...]]]:
    bare = _without_recall(request)
    yield "without recall", bare
    head, pair, window, turn = _parts(bare)
    parts: tuple[tuple[Step, float], ...] = (("half of the window", 0.5), ("a quarter of the window", 0.25))
    for step, share in parts:
        kept = _newest(window, share, counter)
        yield step, (*head, *pair, *kept, *_shorter_turn(turn, share, counter))
    yield "the new message alone with system prompt", (*head, *_shorter_turn(turn, 0.0, counter))


def _parts(
    request: Sequence[Message],
) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message], Sequence[Message]]:
    """System messages, the pair that stands for earlier turns, the window, and the newest turn."""
    first = next((i for i, message in enumerate(request) if message.role is not Role.SYSTEM), len(request))
    asked = [i for i, message in enumerate(request) if message.role is Role.USER and i >= first]
    newest = asked[-1] if asked else first
    after = first
    while newest > after + 1 and request[after].text.startswith((f"<{SUMMARY}>", f"<{APPLICATION}>")):
        after += 2
    return request[:first], request[first:after], request[after:newest], request[newest:]


def _newest(window: Sequence[Message], share: float, counter: Counter) -> Sequence[Message]:
    """The newest whole exchanges that have at most this share of the window's tokens."""
    room = share * sum(map(counter.count_message, window))
    start = len(window)
    for position in range(len(window) - 1, -1, -1):
        room -= counter.count_message(window[position])
        if room < 0:
            break
        if window[position].role is Role.USER:
            start = position
    return window[start:]


def _shorter_turn(turn: Sequence[Message], share: float, counter: Counter) -> Sequence[Message]:
    """The newest turn with this share of its tool loop; the user's words and the newest step stay."""
    if len(turn) < 2:
        return turn
    kept = counter.count_message(turn[0])
    loop = sum(map(counter.count_message, turn[1:]))
    lines = [Line(message) for message in turn]
    awaiting = bool(turn[-1].tool_calls)
    room = kept + int(share * loop)
    fitted = open_turn.fit(lines, room=room, counter=counter, awaiting=awaiting, least=share == 0)
    if not fitted.cut:
        return turn
    return [line.message for line in repair(fitted.lines, awaiting=awaiting)]


def _without_recall(request: Sequence[Message]) -> tuple[Message, ...]:
    out: list[Message] = []
    answer_of_dropped = False
    for message in request:
        if answer_of_dropped and message.role is Role.ASSISTANT and not message.tool_calls:
            answer_of_dropped = False
            continue
        answer_of_dropped = False
        if message.role is not Role.USER or f"<{RECALLED}>" not in message.text:
            out.append(message)
            continue
        blocks = tuple(
            replace(block, text=_BLOCK.sub("", block.text)) if isinstance(block, Text) else block
            for block in message.blocks
        )
        bare = replace(message, blocks=blocks, payload=None)
        if not bare.text.strip() and all(isinstance(block, Text) for block in blocks):
            answer_of_dropped = True  # a pair that showed recalled messages and nothing else
            continue
        out.append(bare)
    return tuple(out)
