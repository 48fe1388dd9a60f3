"""A session and a memory as a person reads them: HTML without scripts, every text escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from langmem_plugin.context.request_html import constraints_table, message_html
from langmem_plugin.engine import Engine
from langmem_plugin.inspection.held import Held
from langmem_plugin.inspection.timeline import Timeline
from langmem_plugin.markup import SEGMENTS, Html, Part, element, joined, number
from langmem_plugin.records import Constraint, ConstraintState, Entry, SessionKey

_WIDTH, _HEIGHT, _LEFT = 1000, 160, 52
_LANE, _LANES = 16, 16
_NEWEST = 12
MOST_SESSIONS = 200
"""Sessions that a memory's view lists."""


def session_html(timeline: Timeline, held: Held, *, actions: Sequence[Part] = ()) -> Html:
    """The view of a session: its timeline, its window, its constraints.

    Args:
        timeline: Of the session.
        held: The session.
        actions: A cell for each constraint of `held`, such as a button.
    """
    window = held.entries[timeline.window_from - 1 :] if timeline.window_from else ()
    shown = window[-_NEWEST:]
    more = f" (the newest {len(shown)} of {len(window)} messages)" if len(window) > len(shown) else ""
    return joined(
        element("h3", f"Session {timeline.session} of {timeline.owner}"),
        element("div", _summary_line(timeline), class_="dim"),
        element("div", timeline.note, class_="said constraints") if timeline.note else None,
        element("h4", "Where the messages are"),
        _places(timeline),
        [element("h4", "Tokens of each request against the budget"), _drawing(timeline)] if timeline.requests else None,
        [element("h4", "Constraints"), constraints_table(held.constraints, actions=actions)]
        if held.constraints
        else None,
        [element("h4", f"The window{more}"), *(_entry(one) for one in shown)] if shown else None,
        _summaries(held),
    )


def memory_html(engine: Engine, *, url: str, keys: Sequence[SessionKey], behind: Iterable[str] = ()) -> Html:
    """The view of a memory: what it counts with and its sessions, the newest first."""
    rows = []
    for key in list(reversed(keys))[:MOST_SESSIONS]:
        head = engine.store.head(key)
        rows.append(
            element(
                "tr",
                element("td", key.owner),
                element("td", key.session),
                element("td", number(head.last_seq), class_="num"),
                element("td", number(head.version), class_="num"),
                element("td", number(len(engine.store.active_constraints(key))), class_="num"),
            )
        )
    names = (("owner", ""), ("session", ""), ("messages", "num"), ("version", "num"), ("constraints in force", "num"))
    head_row = element("tr", *(element("th", name, class_=kind or None) for name, kind in names))
    hidden = len(keys) - len(rows)
    return joined(
        element("h3", f"Memory at {url}"),
        element("div", f"{number(len(keys))} sessions; tokens as {engine.counter.name} counts them", class_="dim"),
        element("div", "; ".join(behind), class_="dim"),
        element("table", element("thead", head_row), element("tbody", *rows)) if rows else None,
        element("div", f"and {number(hidden)} older ones", class_="dim") if hidden else None,
    )


def _summary_line(timeline: Timeline) -> str:
    parts = [
        f"version {number(timeline.version)}",
        f"{number(timeline.messages)} messages",
        f"{number(timeline.tokens)} tokens in the log",
        f"{len(timeline.compressions)} compressions",
    ]
    if used := sum(timeline.now.values()):
        parts.append(f"a request without a new message has {number(used)} of {number(timeline.budget)} tokens")
    if timeline.open_turns:
        parts.append(f"{timeline.open_turns} open turns")
    return " · ".join(parts)


def _places(timeline: Timeline) -> Html:
    """Every message of the log: covered by the summary, waiting, or in the window (guarantee G9)."""
    hidden = max(0, timeline.messages - timeline.summarised - timeline.waiting - timeline.window_messages)
    counts = (
        ("summary", "covered by the summary", timeline.summarised),
        ("free", "waiting to be summarised", timeline.waiting + hidden),
        ("window", "in the window, word for word", timeline.window_messages),
    )
    total = max(1, timeline.messages)
    bar = [element("span", class_=name, style=f"width:{count / total:.4%}") for name, _, count in counts if count]
    key = [element("span", element("i"), f"{number(count)} {what}", class_=name) for name, what, count in counts]
    return joined(element("div", *bar, class_="bar"), element("div", *key, class_="key"))


def _drawing(timeline: Timeline) -> Html:
    """Bars of the requests by segment, compressions as dashed lines, constraints as lanes below."""
    requests = timeline.requests
    most = max(timeline.budget, *(moment.tokens_used for moment in requests))
    first, last = requests[0].version, max(timeline.version, requests[-1].version)
    step = (_WIDTH - _LEFT) / len(requests)

    def x_of(version: int) -> float:
        """Between the bars, where a version falls."""
        before = sum(moment.version <= version for moment in requests)
        return _LEFT + before * step

    parts: list[Part] = []
    for place, moment in enumerate(requests):
        bottom = float(_HEIGHT)
        for name in SEGMENTS:
            tokens = moment.tokens.get(name, 0)
            height = tokens / most * _HEIGHT
            if not tokens:
                continue
            bottom -= height
            words = f"version {moment.version}, {name}: {number(tokens)} of {number(moment.tokens_used)} tokens"
            parts.append(
                element(
                    "g",
                    element("title", words),
                    _rect(_LEFT + place * step + step * 0.1, bottom, step * 0.8, height),
                    class_=name,
                )
            )
    line = _HEIGHT - timeline.budget / most * _HEIGHT
    parts.append(_line(_LEFT, line, _WIDTH, line))
    parts.append(element("text", number(timeline.budget), x=0, y=round(line + 4, 1)))
    parts.append(element("text", "0", x=0, y=_HEIGHT))
    for moment in timeline.compressions:
        x = x_of(moment.version)
        words = f"version {moment.version}: a summary covers the log up to #{moment.last_seq}"
        mark = element("g", element("title", words), _line(x, 0, x, _HEIGHT, dashed=True), class_="summary")
        parts.append(mark)
    own = [c for c in timeline.constraints if c.state is not ConstraintState.PROPOSED]
    lanes = own[-_LANES:]
    for place, constraint in enumerate(lanes):
        parts.append(_lane(constraint, _HEIGHT + 14 + place * _LANE, x_of, last=last, first=first))
    height = _HEIGHT + 14 + len(lanes) * _LANE + 14
    hidden = f"; the newest {len(lanes)} of {len(own)} constraints" if len(own) > len(lanes) else ""
    note = (
        f"Version {first} to {last}, {len(requests)} requests built again without system prompt and tools; "
        f"dashed: a compression; below: from when to when a constraint was in force{hidden}."
    )
    drawing = element("svg", *parts, viewBox=f"0 0 {_WIDTH} {height}", role="img", aria_label=note)
    used = {name for moment in requests for name in moment.tokens}
    key = [element("span", element("i"), name, class_=name) for name in SEGMENTS if name in used]
    return joined(drawing, element("div", *key, class_="key"), element("div", note, class_="dim"))


def _lane(constraint: Constraint, y: float, x_of: Callable[[int], float], *, last: int, first: int) -> Html:
    start = x_of(min(max(constraint.created_version, first), last))
    ended = constraint.ended_version
    end = x_of(min(ended, last)) if ended is not None else _WIDTH
    words = f"{constraint.text} ({constraint.state.value})"
    label = words if len(words) <= 110 else words[:109] + "…"
    right = start > _WIDTH * 0.6
    return element(
        "g",
        element("title", words),
        _rect(start, y, max(3.0, end - start), 3),
        element(
            "text", label, x=round(_WIDTH if right else start, 1), y=y + 13, text_anchor="end" if right else "start"
        ),
        class_="constraints",
    )


def _entry(entry: Entry) -> Html:
    note = f"{entry.created_at:%d %b %Y %H:%M}"
    if entry.attachment is not None:
        note += ", recalled for it: " + ", ".join(f"#{seq}" for seq in entry.attachment.seqs)
    return message_html(entry.message, segment="window", tokens=entry.tokens, seq=entry.seq, note=note)


def _summaries(held: Held) -> Part:
    if not held.past.summaries:
        return None
    shown = held.past.summaries[-1]
    how = "a language model" if shown.method == "model" else "an extract, for want of a model's"
    quality = (
        f", holding {shown.quality:.0%} of names, numbers, dates and negations" if shown.quality is not None else ""
    )
    judged = f", judged {shown.judged:.2f}" if shown.judged is not None else ""
    words = f"up to #{shown.upto_seq}, {number(shown.tokens)} tokens, by {how}{quality}{judged}"
    return [
        element("h4", "The newest summary"),
        element(
            "div",
            element("header", element("span", words)),
            element("div", shown.text, class_="words"),
            class_="said summary",
        ),
    ]


def _rect(x: float, y: float, width: float, height: float) -> Html:
    return element("rect", x=round(x, 1), y=round(y, 1), width=round(width, 1), height=round(height, 1), class_="fill")


def _line(x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> Html:
    return element(
        "line",
        x1=round(x1, 1),
        y1=round(y1, 1),
        x2=round(x2, 1),
        y2=round(y2, 1),
        class_="stroke" if dashed else None,
        stroke_dasharray="4 3" if dashed else None,
        stroke=None if dashed else "currentColor",
    )
