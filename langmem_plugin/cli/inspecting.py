"""`langmem-plugin inspect`: what a memory holds and why, as tables and bars or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from langmem_plugin.cli.keys import ring_of
from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context
from langmem_plugin.context.request_html import provenance, state_of
from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.inspection import explain, read_session, read_timeline
from langmem_plugin.inspection.held import Held, request_at
from langmem_plugin.inspection.opening import find_session, opened
from langmem_plugin.inspection.timeline import Moment, Timeline, constraint_json
from langmem_plugin.messages import Message

_BLOCKS = " ▁▂▃▄▅▆▇█"
_ROWS = 12
_NEWEST = 8


def inspect(arguments: argparse.Namespace) -> int:
    """Show a memory, a session, one of its versions, or the story of a constraint or message."""
    if arguments.session is None and (arguments.at is not None or arguments.why is not None):
        raise InvalidSetting("SESSION", None, "--at and --why need a session")
    budget = Budget(max_tokens=arguments.budget, completion=0) if arguments.budget else None
    with opened(arguments.url, model=arguments.model, budget=budget, encryption=ring_of(arguments)) as engine:
        if arguments.session is None:
            _sessions(engine, arguments)
            return 0
        held = read_session(engine, find_session(engine, arguments.session, owner=arguments.owner))
        if arguments.why is not None:
            _why(engine, held, arguments)
        elif arguments.at is not None:
            _at(engine, held, arguments)
        else:
            _session(read_timeline(engine, held), held, arguments)
    return 0


def _sessions(engine: Engine, arguments: argparse.Namespace) -> None:
    rows: list[dict[str, Any]] = []
    for key in engine.store.keys(owner=arguments.owner):
        head = engine.store.head(key)
        rows.append(
            {
                "owner": key.owner,
                "session": key.session,
                "messages": head.last_seq,
                "version": head.version,
                "constraints": len(engine.store.active_constraints(key)),
                "open_turns": len(engine.store.pending(key)),
            }
        )
    if arguments.json:
        _json({"url": arguments.url, "sessions": rows})
        return
    from langmem_plugin import display

    out = display.console()
    table = display.plain_table(("owner", "left"), ("session", "left"), *((name, "right") for name in list(_COUNTS)))
    for row in rows:
        table.add_row(plain(row["owner"]), plain(row["session"]), *(f"{row[name]:,}" for name in _COUNTS))
    out.print(table if rows else "no sessions")


_COUNTS = ("messages", "version", "constraints", "open_turns")


def _session(timeline: Timeline, held: Held, arguments: argparse.Namespace) -> None:
    if arguments.json:
        _json(timeline.to_json())
        return
    from langmem_plugin import display

    out = display.console()
    out.print(display.Text(f"Session {plain(timeline.session)} of {plain(timeline.owner)}", style="bold"))
    out.print(
        f"version {timeline.version:,}, {timeline.messages:,} messages, {timeline.tokens:,} tokens in the log, "
        f"{len(timeline.compressions)} compressions, {timeline.open_turns} open turns"
    )
    out.print(
        f"{timeline.summarised:,} messages are covered by the summary, {timeline.waiting:,} wait to be summarised, "
        f"{timeline.window_messages:,} are in the window"
    )
    if timeline.note:
        out.print(display.Text(timeline.note, style="red"))
    else:
        out.print("\nA request without a new message")
        out.print(display.segment_bars(timeline.now, budget=timeline.budget))
    if timeline.requests:
        out.print("\nTokens of each request against the budget (without system prompt and tools)")
        out.print(display.Text(_spark(timeline, display.WIDTH - 12), style="green"))
    _moments(timeline, held, out, display)
    if held.constraints:
        out.print("\nConstraints")
        out.print(_constraints(held, display))
    if timeline.window_from:
        out.print("\nThe end of the window")
        for entry in held.entries[timeline.window_from - 1 :][-_NEWEST:]:
            out.print(display.Text(f"#{entry.seq} {_said(entry.message)}", no_wrap=True, overflow="ellipsis"))


def _moments(timeline: Timeline, held: Held, out: Any, display: Any) -> None:
    words = {constraint.id: constraint.text for constraint in held.constraints}
    told = [moment for moment in timeline.moments if moment.kind != "turn" or moment.born or moment.ended]
    if not told:
        return
    out.print(f"\nWhat changed{f' (the newest {_ROWS} of {len(told)})' if len(told) > _ROWS else ''}")
    table = display.plain_table(("version", "right"), ("when", "left"), ("what", "left"))
    for moment in told[-_ROWS:]:
        when = f"{moment.at:%d %b %Y %H:%M}" if moment.at else ""
        table.add_row(f"{moment.version:,}", when, display.Text(_told(moment, words)))
    out.print(table)


def _told(moment: Moment, words: dict[str, str]) -> str:
    lines = []
    if moment.kind == "summary":
        lines.append(f"compression: the summary covers the log up to #{moment.last_seq}")
    lines += [f"+ {plain(words[one])}" for one in moment.born]
    lines += [f"- {plain(words[one])}" for one in moment.ended]
    return "\n".join(lines)


def _constraints(held: Held, display: Any) -> Any:
    table = display.plain_table(("id", "left"), ("state", "left"), ("in the user's words", "left"), ("from", "left"))
    for constraint in held.constraints:
        active = constraint.state == "active"
        table.add_row(
            constraint.id,
            display.Text(state_of(constraint), style="green" if active else "red"),
            display.Text(plain(constraint.text), style="" if active else "strike dim"),
            display.Text(provenance(constraint), style="dim"),
        )
    return table


def _at(engine: Engine, held: Held, arguments: argparse.Namespace) -> None:
    version = arguments.at
    if version > held.head.version:
        raise InvalidSetting("--at", version, f"the session is at version {held.head.version}")
    context = request_at(engine, held, version)
    if arguments.json:
        _json(_request_json(context))
        return
    from langmem_plugin import display

    out = display.console()
    out.print(
        display.Text(f"Session {plain(held.key.session)} of {plain(held.key.owner)} at version {version}", "bold")
    )
    out.print(display.budget_bars(context.report))
    for line in display.notes(context.report):
        out.print(display.Text(f"- {line}"))
    for item in context.items:
        where = f"#{item.seq} " if item.seq else ""
        out.print()
        out.print(display.Text(f"{where}{item.message.role.value} ({item.segment}, {item.tokens:,} tokens)", "bold"))
        out.print(display.Text(plain(item.message.text, lines=True)))


def _why(engine: Engine, held: Held, arguments: argparse.Namespace) -> None:
    window_from = request_at(engine, held, held.head.version).report.window_from
    explanation = explain(held, arguments.why, window_from=window_from)
    if arguments.json:
        _json({"kind": explanation.kind, **explanation.data})
        return
    from langmem_plugin import display

    out = display.console()
    out.print(display.Text(plain(explanation.title, lines=True), style="bold"))
    for line in explanation.lines:
        out.print(display.Text(f"- {plain(line, lines=True)}"))


def _request_json(context: Context) -> dict[str, Any]:
    report = context.report
    return {
        "version": report.version,
        "budget": report.budget,
        "tokens": dict(report.tokens),
        "messages": [
            {
                "segment": item.segment,
                "seq": item.seq,
                "tokens": item.tokens,
                "altered": item.altered,
                "message": {key: value for key, value in item.message.to_json().items() if key != "payload"},
            }
            for item in context.items
        ],
        "constraints": [constraint_json(constraint) for constraint in report.constraints],
        "cut": list(report.cut),
        "notes": list(report.notes),
    }


def _spark(timeline: Timeline, width: int) -> str:
    requests = timeline.requests
    chosen = [
        requests[place * len(requests) // min(width, len(requests))] for place in range(min(width, len(requests)))
    ]
    most = max(timeline.budget, *(moment.tokens_used for moment in chosen), 1)
    bars = "".join(_BLOCKS[max(1, round(moment.tokens_used / most * 8))] for moment in chosen)
    return f"{bars} of {most:,}"


def _said(message: Message) -> str:
    calls = ", ".join(call.name for call in message.tool_calls)
    return f"{message.role.value}: {plain(message.text)}{f' [calls {plain(calls)}]' if calls else ''}"


def plain(text: str, *, lines: bool = False) -> str:
    """The text without what could steer a terminal; on one line unless `lines`."""
    if not lines:
        text = " ".join(text.split())
    return "".join(char if char.isprintable() or (lines and char in "\n\t") else "\ufffd" for char in text)


def _json(value: Any) -> None:
    # ASCII: odd text in a log must not break a pipe.
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")
