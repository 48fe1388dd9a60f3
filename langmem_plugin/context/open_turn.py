"""The newest part of a request: the open turn, made to fit however long its tool loop is.

The user's words and the newest step are never left out. When the loop outgrows its
room, results of older steps become a note of their size, then the oldest steps go as
wholes, and the newest results are cut in the middle. That happens in strides, by the
same kind of fold as the window's, so that between two strides each request of the
loop begins with the bytes of the one before it (G13).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from langmem_plugin.context.counting import Counter
from langmem_plugin.context.cutting import cut_middle
from langmem_plugin.context.exchanges import Line, pair
from langmem_plugin.messages import Message, Role, user

LEFT_OUT = re.compile(r"(?:\n\n)?\[\d+ earlier steps? of this turn left out to fit\]\Z")
"""The note at the end of the user's words that stands for steps that were left out."""
_STRIDE = 0.6
"""What is left of the loop's room when older steps had to make place."""
_NEWEST = 0.5
"""The newest step may take this part of the loop's room before older steps go."""
_STEP = 0.04
"""Beside what is recalled an open turn keeps this part of the prompt free for a tool's call and result (G13)."""
_LEAST = 12
"""Tokens that a result of the newest step keeps of its text."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """The lines that are sent, and what was done to them."""

    lines: tuple[Line, ...]
    cut: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Step:
    """An assistant's message and the results of its calls; or words of the user, which stay."""

    lines: tuple[Line, ...]
    keep: bool
    tokens: int


def step_room(prompt: int, taken: int) -> int:
    """Tokens that a turn keeps free for its next steps, so that a small one does not move the window.

    Args:
        prompt: Tokens of the whole request.
        taken: What its steps have already.
    """
    return max(0, int(prompt * _STEP) - taken)


def stub(tokens: int) -> str:
    """What stands in place of an older tool result."""
    return f"[tool result of {tokens} tokens left out to fit; recall it or run the tool again]"


def fit(lines: Sequence[Line], *, room: int, counter: Counter, awaiting: bool, least: bool = False) -> Fitted:
    """The lines of an open turn within `room` tokens, as far as that can be had.

    Args:
        lines: The turn's lines, oldest first.
        room: Tokens that they may have.
        counter: Counts tokens.
        awaiting: The last step's calls stay even if none of them has a result.
        least: Cut as much as may be cut at all, whatever the room.
    """
    size = _size(counter)
    total = sum(size(line) for line in lines)
    if not least and total <= room:
        return Fitted(tuple(lines))
    steps = _steps(pair(lines, awaiting=awaiting), size)
    loop = [step for step in steps if not step.keep]
    if not loop:
        return Fitted(tuple(lines))
    kept = sum(step.tokens for step in steps if step.keep)
    high = 0 if least else max(0, room - kept - 24)  # the note of what was left out
    stubbed = [_stubbed(step, size) for step in loop]
    gone, short = _fold(loop, stubbed, high=high)
    newest = loop[-1]
    older = sum((stubbed[i] if i < short else loop[i]).tokens for i in range(gone, len(loop) - 1))
    last = _cut_newest(newest, room=high - older, counter=counter, size=size)
    return _written(steps, loop, stubbed, gone=gone, short=short, last=last)


def _size(counter: Counter) -> Callable[[Line], int]:
    def size(line: Line) -> int:
        if line.tokens is not None and not line.before:
            return line.tokens
        return counter.count_message(line.message.prepend(line.before))

    return size


def _steps(lines: Sequence[Line], size: Callable[[Line], int]) -> list[_Step]:
    steps: list[_Step] = []
    current: list[Line] = []
    for line in lines:
        if line.message.role is not Role.TOOL and current:
            steps.append(_step(current, size))
            current = []
        current.append(line)
    if current:
        steps.append(_step(current, size))
    return steps


def _step(lines: list[Line], size: Callable[[Line], int]) -> _Step:
    keep = lines[0].message.role in (Role.USER, Role.SYSTEM)
    return _Step(tuple(lines), keep, sum(size(line) for line in lines))


def _stubbed(step: _Step, size: Callable[[Line], int]) -> _Step:
    lines = tuple(_shorter(line, size) if line.message.role is Role.TOOL else line for line in step.lines)
    return _Step(lines, step.keep, sum(size(line) for line in lines))


def _shorter(line: Line, size: Callable[[Line], int]) -> Line:
    before = size(line)
    short = _with_text(line, stub(before))
    after = size(short)
    return short._replace(tokens=after) if after < before else line


def _fold(loop: Sequence[_Step], stubbed: Sequence[_Step], *, high: int) -> tuple[int, int]:
    """How many of the oldest steps are left out, and up to which results are notes only."""
    low = int(high * _STRIDE)
    gone = short = 0
    total = 0
    for position, step in enumerate(loop):
        # A large newest result is cut before older steps go.
        weight = min(step.tokens, max(int(high * _NEWEST), high - sum(s.tokens for s in stubbed[gone:position])))
        if total + step.tokens <= high:
            total += step.tokens
            continue
        while total + weight > low and short < position:
            total -= loop[short].tokens - stubbed[short].tokens
            short += 1
        if total + weight > high:
            while total + weight > low and gone < position:
                total -= stubbed[gone].tokens
                gone += 1
        total += step.tokens
    return gone, max(gone, short)


def _cut_newest(step: _Step, *, room: int, counter: Counter, size: Callable[[Line], int]) -> _Step:
    if step.tokens <= room:
        return step
    sizes = [size(line) for line in step.lines]
    results = [i for i, line in enumerate(step.lines) if line.message.role is Role.TOOL]
    if not results:
        return step
    left = room - sum(sizes[i] for i in range(len(sizes)) if i not in results)
    lines = list(step.lines)
    # Short results stay whole; what they leave is shared by the longer ones.
    for number, i in enumerate(sorted(results, key=lambda i: sizes[i])):
        share = max(0, left) // (len(results) - number)
        if sizes[i] > share:
            message = lines[i].message
            text = message.text or "[content left out to fit]"
            overhead = max(0, counter.count_message(message.with_text("x")) - 1)
            short = cut_middle(text, max_tokens=max(_LEAST, share - overhead - 1), count=counter.count)
            if short != text or len(message.blocks) != 1:
                candidate = _with_text(lines[i], short)
                if (tokens := size(candidate)) < sizes[i]:
                    lines[i], sizes[i] = candidate._replace(tokens=tokens), tokens
        left -= sizes[i]
    return _Step(tuple(lines), step.keep, sum(sizes))


def _with_text(line: Line, text: str) -> Line:
    message: Message = line.message.with_text(text)
    return Line(message, None, line.seq, altered=True)


def _written(
    steps: Sequence[_Step], loop: Sequence[_Step], stubbed: Sequence[_Step], *, gone: int, short: int, last: _Step
) -> Fitted:
    out: list[Line] = []
    cut: list[str] = []
    position = 0
    noted = False
    for step in steps:
        if step.keep:
            out.extend(step.lines)
            continue
        if position >= gone and gone and not noted:
            out.append(Line(user(_left_out(gone))))
            noted = True
        if position == len(loop) - 1:
            out.extend(last.lines)
        elif position >= gone:
            out.extend((stubbed if position < short else loop)[position].lines)
        position += 1
    if short > gone:
        saved = sum(loop[i].tokens - stubbed[i].tokens for i in range(gone, short))
        if saved:
            cut.append(f"results of {short - gone} earlier steps of this turn shortened by {saved} tokens")
    if gone:
        tokens = sum(step.tokens for step in loop[:gone])
        cut.append(f"{gone} earlier steps of this turn left out ({tokens} tokens)")
    if last.tokens < loop[-1].tokens:
        cut.append(f"results of the newest step cut from {loop[-1].tokens} to {last.tokens} tokens")
    return Fitted(tuple(out), tuple(cut))


def _left_out(steps: int) -> str:
    # `LEFT_OUT` reads it again.
    what = "1 earlier step" if steps == 1 else f"{steps} earlier steps"
    return f"[{what} of this turn left out to fit]"
