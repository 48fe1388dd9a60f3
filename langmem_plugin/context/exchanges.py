"""History as exchanges that every provider accepts (guarantee G3).

An exchange begins with the user and ends before the user speaks again. `group`
cuts history between exchanges; `repair` writes one of them by the strictest rules
of OpenAI, Anthropic, Gemini and Mistral: the user first, user and assistant in
turn, each tool call followed at once by its result, no empty message.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from langmem_plugin.context import rendering
from langmem_plugin.context.rendering import sendable_text
from langmem_plugin.messages import Block, Media, Message, Other, Role, Text, ToolCall, assistant, tool_result, user
from langmem_plugin.records import Entry

EMPTY = "(empty message)"
NO_ANSWER = "(no answer was recorded)"
NO_RESULT = "[no result was recorded]"
EMPTY_RESULT = "(empty result)"
OPENING = "(the assistant speaks first)"


class Line(NamedTuple):
    """One message on its way into a request."""

    message: Message
    tokens: int | None = None
    """Of the message as it stands; None if it has to be counted."""
    seq: int | None = None
    before: str = ""
    """Goes just before the message's text."""
    altered: bool = False


Exchange = tuple[Line, ...]


def lines(entries: Iterable[Entry], *, attachments: bool = True) -> Exchange:
    """Entries as lines, with what recall put before them when they were sent."""
    return tuple(
        Line(
            entry.message,
            entry.tokens,
            entry.seq,
            entry.attachment.text if attachments and entry.attachment is not None else "",
        )
        for entry in entries
    )


def group(entries: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    """The entries as whole exchanges, oldest first; together they are all entries.

    What stands before the first user message is an exchange of its own. Messages of
    the user in a row belong together, and so does what the user says while calls wait
    for results. Where an exchange begins depends on what came before it alone.
    """
    starts: list[int] = []
    unanswered: list[str | None] = []
    asked = False  # the user spoke last
    for position, entry in enumerate(entries):
        message = entry.message
        asks = message.role is Role.USER or message.role is Role.SYSTEM
        if position == 0 or (asks and not asked and not unanswered):
            starts.append(position)
        if message.role is Role.ASSISTANT:
            unanswered = [call.id for call in message.tool_calls]
        elif message.role is Role.TOOL and unanswered:
            if message.tool_call_id in unanswered:
                unanswered.remove(message.tool_call_id)
            elif message.tool_call_id is None or None in unanswered:
                unanswered.pop()
        asked = asks
    return [tuple(entries[start:end]) for start, end in zip(starts, [*starts[1:], len(entries)], strict=False)]


def repair(exchange: Sequence[Line], *, awaiting: bool = False) -> list[Line]:
    """The exchange as valid messages, `before` written into their text.

    Args:
        exchange: The lines of one exchange, or of several in a row.
        awaiting: The turn is open: the last step's calls stay even if none of them has a result.
    """
    if len(exchange) == 2 and _plain(exchange[0], Role.USER) and _plain(exchange[1], Role.ASSISTANT):
        return list(exchange)
    out: list[Line] = []
    for line in pair(exchange, awaiting=awaiting):
        ready = _ready(line)
        if out:
            last = out[-1].message.role
            role = ready.message.role
            if last is Role.TOOL and role is Role.USER:
                out.append(Line(assistant(NO_ANSWER)))
            elif (last is role and role is Role.USER) or (
                last is role and role is Role.ASSISTANT and not out[-1].message.tool_calls
            ):
                out[-1] = merge(out[-1], ready)
                continue
        elif ready.message.role is not Role.USER:
            out.append(Line(user(OPENING)))
        out.append(ready)
    return out


def _plain(line: Line, role: Role) -> bool:
    return line.message.role is role and not line.message.tool_calls and not line.before and _sendable(line.message)


def join(parts: Iterable[Sequence[Line]]) -> list[Line]:
    """Repaired exchanges one after another."""
    out: list[Line] = []
    for part in parts:
        rest = list(part)
        if out and rest and rest[0].message.role is Role.USER:
            last = out[-1].message
            if last.role is Role.USER:
                out[-1] = merge(out[-1], rest.pop(0))
            elif last.role is Role.TOOL or last.tool_calls:
                out.append(Line(assistant(NO_ANSWER)))
        out.extend(rest)
    return out


def merge(first: Line, second: Line) -> Line:
    """Two messages of one role as one: texts joined by a blank line, other blocks kept."""
    a, b = first.message, second.message
    name = a.name if a.name == b.name else None
    left, right = a.blocks, b.blocks
    if a.name != b.name:
        left, right = _signed(left, a.name), _signed(right, b.name)
    if left and right and isinstance(left[-1], Text) and isinstance(right[0], Text):
        blocks: tuple[Block, ...] = (*left[:-1], Text(f"{left[-1].text}\n\n{right[0].text}"), *right[1:])
    else:
        blocks = (*left, *right)
    message = Message(
        role=a.role, blocks=blocks, tool_calls=(*a.tool_calls, *b.tool_calls), id=a.id, name=name, metadata=a.metadata
    )
    return Line(message, None, first.seq if first.seq is not None else second.seq, altered=True)


def unique_ids(request: Sequence[Line]) -> list[Line]:
    """The lines with every tool call's id present and used once; the first use keeps its id."""
    used: set[str] = set()
    if not any(line.message.tool_calls for line in request):
        return list(request)
    out: list[Line] = []
    open_calls: list[tuple[str | None, str]] = []  # the id as it was, the id as it is sent
    for line in request:
        message = line.message
        if message.tool_calls:
            sent = [_unused(call.id, line.seq, used) for call in message.tool_calls]
            open_calls = list(zip((call.id for call in message.tool_calls), sent, strict=True))
            if any(was != now for was, now in open_calls):
                calls = tuple(replace(call, id=id) for call, id in zip(message.tool_calls, sent, strict=True))
                out.append(_changed(line, replace(message, tool_calls=calls, payload=None)))
                continue
        elif message.role is Role.TOOL and open_calls:
            place = next((i for i, (was, _) in enumerate(open_calls) if was == message.tool_call_id), 0)
            id = open_calls.pop(place)[1]
            if id != message.tool_call_id:
                out.append(_changed(line, replace(message, tool_call_id=id, payload=None)))
                continue
        out.append(line)
    return out


def _changed(line: Line, message: Message) -> Line:
    return line._replace(message=message, tokens=None, altered=True)


def _unused(id: str | None, seq: int | None, seen: set[str]) -> str:
    base = id or f"call_{seq or 0}"
    name, number = base, 1
    while name in seen or (not id and number == 1):
        name = f"{base}_{number}"
        number += 1
    seen.add(name)
    return name


def _signed(blocks: tuple[Block, ...], name: str | None) -> tuple[Block, ...]:
    if not name:
        return blocks
    sign = f"{rendering.label(name)}: "
    for position, block in enumerate(blocks):
        if isinstance(block, Text):
            return (*blocks[:position], Text(sign + block.text), *blocks[position + 1 :])
    return (Text(sign.rstrip()), *blocks)


def pair(exchange: Sequence[Line], *, awaiting: bool) -> list[Line]:
    """Each call followed by its results; orphans left out, missing results filled in.

    Calls with no result at all that the assistant never came back to are left out,
    because that turn never finished; those of an open turn stay, for it may be asked again
    after its tools broke off. Results are matched by id; where ids are missing, in order.
    """
    if not any(line.message.tool_calls or line.message.role is Role.TOOL for line in exchange):
        return list(exchange)
    answers = _answers(exchange)
    spoken = [i for i, line in enumerate(exchange) if line.message.role is not Role.TOOL]
    follows = dict(itertools.pairwise(spoken))
    out: list[Line] = []
    for position, line in enumerate(exchange):
        message = line.message
        if message.role is Role.TOOL:
            continue
        answered = {
            answers[position, number]: call
            for number, call in enumerate(message.tool_calls)
            if (position, number) in answers
        }
        newest = awaiting and position == spoken[-1]
        resumed = position in follows and exchange[follows[position]].message.role is Role.ASSISTANT
        if message.tool_calls and not answered and not resumed and not newest:
            if message.blocks:
                out.append(_changed(line, replace(message, tool_calls=(), payload=None)))
            continue
        out.append(line)
        out.extend(_addressed(exchange[result], answered[result]) for result in sorted(answered))
        out.extend(
            Line(tool_result(NO_RESULT, call_id=call.id, name=call.name))
            for number, call in enumerate(message.tool_calls)
            if (position, number) not in answers
        )
    return out


def _answers(exchange: Sequence[Line]) -> dict[tuple[int, int], int]:
    """For a line and the number of a call in it: the line of its result."""
    answers: dict[tuple[int, int], int] = {}
    unanswered: list[tuple[int, int, ToolCall]] = []
    for position, line in enumerate(exchange):
        message = line.message
        if message.role is Role.ASSISTANT:
            unanswered.extend((position, number, call) for number, call in enumerate(message.tool_calls))
        elif message.role is Role.TOOL:
            found = _slot_for(message, unanswered)
            if found is not None:
                unanswered.remove(found)
                answers[found[:2]] = position
    return answers


def _slot_for(result: Message, unanswered: list[tuple[int, int, ToolCall]]) -> tuple[int, int, ToolCall] | None:
    if not unanswered:
        return None
    id = result.tool_call_id
    if id is None:
        return next((slot for slot in unanswered if slot[2].id is None), unanswered[0])
    return next(
        (slot for slot in unanswered if slot[2].id == id),
        next((slot for slot in unanswered if slot[2].id is None and result.name in (None, slot[2].name)), None),
    )


def _addressed(line: Line, call: ToolCall) -> Line:
    if line.message.tool_call_id == call.id:
        return line
    return _changed(line, replace(line.message, tool_call_id=call.id, payload=None))


def _ready(line: Line) -> Line:
    """The line as it can be sent: no blank text, nothing that UTF-8 cannot carry, no system role."""
    message = line.message
    if message.role is Role.SYSTEM:
        message = user(rendering.note(sendable_text(message.text.strip() or EMPTY)), id=message.id)
    elif not _sendable(message):
        message = _cleaned(message)
    if line.before:
        message = message.prepend(line.before)
    if message is line.message:
        return line
    return Line(message, None, line.seq, altered=True)


def _sendable(message: Message) -> bool:
    blocks = message.blocks
    if len(blocks) == 1 and isinstance(blocks[0], Text):
        text = blocks[0].text
        return bool(text.strip()) and (text.isascii() or sendable_text(text) is text)
    if not blocks:
        return bool(message.tool_calls)
    return has_content(message) and all(
        not isinstance(block, Text) or (bool(block.text.strip()) and sendable_text(block.text) is block.text)
        for block in blocks
    )


def has_content(message: Message) -> bool:
    """Whether a provider would take the message's content as not empty."""
    return bool(message.tool_calls) or any(
        isinstance(block, Media | Other) or (isinstance(block, Text) and bool(block.text.strip()))
        for block in message.blocks
    )


def _cleaned(message: Message) -> Message:
    blocks: list[Block] = []
    for block in message.blocks:
        if not isinstance(block, Text):
            blocks.append(block)
        elif block.text.strip():
            blocks.append(Text(sendable_text(block.text)))
    cleaned = replace(message, blocks=tuple(blocks), payload=None)
    if not has_content(cleaned):
        empty = EMPTY_RESULT if message.role is Role.TOOL else EMPTY
        cleaned = replace(cleaned, blocks=(*cleaned.blocks, Text(empty)))
    return cleaned
