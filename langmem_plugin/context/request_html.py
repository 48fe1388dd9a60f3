"""A request as a person reads it: HTML of its segments, what was recalled and why, what was cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langmem_plugin.context.rendering import CONSTRAINTS
from langmem_plugin.context.request import Context, ContextReport, Item
from langmem_plugin.markup import SEGMENTS, Html, Part, element, joined, number
from langmem_plugin.messages import Media, Message, Role
from langmem_plugin.records import Constraint, ConstraintState, Hit

SHORT = 700
"""Characters of a message that are shown at once; the rest unfolds."""
_NAMES = {"new": "new message"}


def request_html(context: Context) -> Html:
    """The whole view of a request; every text in it is escaped."""
    report = context.report
    folded = element(
        "details",
        element("summary", f"the {len(context.items)} messages that are sent, in order"),
        *(_item(item, context) for item in context.items),
        open=len(context.items) <= 12,
    )
    return joined(
        element("h3", f"Request at version {report.version}: {_total(report)}"),
        segments_bar(report),
        _section("What is sent", [folded]),
        _section("Recalled for the new message", [hits_table(report.hits)] if report.hits else ()),
        _section("Constraints in force", [constraints_table(report.constraints)] if report.constraints else ()),
        _section("Left out or shortened", [_list(report.cut)] if report.cut else ()),
        _section("Notes", [_list(_notes(report))]),
    )


def segments_bar(report: ContextReport) -> Html:
    """The budget as one bar, and its key with the tokens of each segment."""
    most = max(report.budget, report.tokens_used, 1)
    shown = [(name, report.tokens.get(name, 0)) for name in SEGMENTS if report.tokens.get(name, 0)]
    free = max(0, report.budget - report.tokens_used)
    bar = [
        element(
            "span", class_=name, style=f"width:{tokens / most:.4%}", title=f"{_name(name)}: {number(tokens)} tokens"
        )
        for name, tokens in shown
    ]
    key = [
        element("span", element("i"), f"{_name(name)} {number(tokens)} ({tokens / most:.0%})", class_=name)
        for name, tokens in (*shown, ("free", free))
    ]
    return joined(element("div", *bar, class_="bar"), element("div", *key, class_="key"))


def hits_table(hits: Sequence[Hit]) -> Html:
    """What was recalled, best first: both legs' scores, who said it when, and why it was found."""
    rows = [
        element(
            "tr",
            element("td", f"{hit.score:.2f}", class_="num"),
            element("td", f"{hit.keyword:.2f}", class_="num"),
            element("td", "-" if hit.vector is None else f"{hit.vector:.2f}", class_="num"),
            element("td", f"#{hit.entry.seq}, {hit.entry.created_at:%d %b %Y}"),
            element(
                "td",
                f"{hit.entry.message.role.value}: {_short(hit.entry.message.text, 240)}",
                element("div", hit.why, class_="dim"),
                class_="text",
            ),
        )
        for hit in hits
    ]
    return _table(("score", "keyword", "meaning", "said", "what, and why"), rows, numbers=3)


def constraints_table(constraints: Sequence[Constraint], *, actions: Sequence[Part] = ()) -> Html:
    """Constraints in creation order with where each comes from; ended ones are struck through.

    Args:
        constraints: In any state.
        actions: One more cell for each, such as a button.
    """
    rows = []
    for place, constraint in enumerate(constraints):
        active = constraint.state is ConstraintState.ACTIVE
        rows.append(
            element(
                "tr",
                element("td", constraint.id, class_="dim"),
                element("td", constraint.kind.value),
                element("td", state_of(constraint)),
                element("td", constraint.text, class_="text" if active else "text ended"),
                element("td", provenance(constraint), class_="dim"),
                element("td", actions[place]) if actions else None,
            )
        )
    return _table(("id", "kind", "state", "in the user's words", "from", *(("",) if actions else ())), rows)


def state_of(constraint: Constraint) -> str:
    """The state with what ended it, in a few words."""
    text = constraint.state.value
    if constraint.superseded_by:
        text += f" by {constraint.superseded_by}"
    if constraint.ended_version is not None:
        text += f" at version {constraint.ended_version}"
    if constraint.expires_at is not None:
        text += f", until {constraint.expires_at:%d %b %Y %H:%M}"
    return text


def provenance(constraint: Constraint) -> str:
    """Where a constraint comes from: the message and the place in it, or that it was added by hand."""
    day = f"{constraint.created_at:%d %b %Y}"
    scope = ", for all sessions of the owner" if constraint.scope == "owner" else ""
    if constraint.seq is None:
        return f"added by hand, {day}{scope}"
    sure = f", confidence {constraint.confidence:.2f}" if constraint.confidence < 1 else ""
    how = "a rule" if constraint.source == "rule" else "a model" if constraint.source == "model" else "the application"
    return (
        f"message #{constraint.seq}, characters {constraint.start}-{constraint.end}, {day}, found by {how}{sure}{scope}"
    )


def message_html(
    message: Message, *, segment: str, tokens: int, seq: int | None = None, note: str = "", words: Part = None
) -> Html:
    """One message with its colour, tokens and place in the log."""
    name = f" {message.name}" if message.name else ""
    header = element(
        "header",
        element("b", message.role.value + name),
        element("span", _name(segment)),
        element("span", f"{number(tokens)} tokens"),
        element("span", f"#{seq}") if seq else None,
        element("span", note) if note else None,
    )
    body: Part = words if words is not None else _folded(message.text)
    return element("div", header, element("div", body, *_beside(message), class_="words"), class_=f"said {segment}")


def _item(item: Item, context: Context) -> Html:
    text = item.message.text
    before = context.attachment.text if context.attachment else ""
    words: Part = None
    if before and item.segment == "new" and before in text:
        head, _, rest = text.partition(before)
        words = (head, element("span", _folded(before), class_="inset recall"), _folded(rest))
    elif item.message.role is Role.SYSTEM and (start := text.find(f"<{CONSTRAINTS}>")) >= 0:
        words = (_folded(text[:start].rstrip("\n")), element("span", text[start:], class_="inset constraints"))
    note = "changed for this request" if item.altered else ""
    return message_html(item.message, segment=item.segment, tokens=item.tokens, seq=item.seq, note=note, words=words)


def _beside(message: Message) -> Iterable[Part]:
    for block in message.blocks:
        if isinstance(block, Media):
            yield element("div", f"[{block.kind}: {_short(block.name or block.url or block.mime_type or 'data', 120)}]")
    for call in message.tool_calls:
        yield element("div", f"calls {call.name}({_short(call.arguments, 240)})", class_="dim")


def _folded(text: str) -> Part:
    if len(text) <= SHORT:
        return text
    rest = element("details", element("summary", f"{number(len(text) - SHORT)} more characters"), text[SHORT:])
    return (text[:SHORT], rest)


def _notes(report: ContextReport) -> list[str]:
    lines = [f"the window holds {report.window_messages} messages word for word"]
    if report.summarised:
        lines.append(f"{report.summarised} earlier messages are covered by the summary")
    if report.waiting:
        lines.append(f"{report.waiting} messages left the window and wait to be summarised; they can be recalled")
    if report.legs:
        lines.append(f"recall ran by {' and '.join(report.legs)}; need of the past {report.need:.2f} of 1")
    if report.prefix_tokens:
        lines.append(
            f"the first {number(report.prefix_tokens)} tokens ({report.prefix_reuse:.0%}) repeat the request before"
        )
    return [*lines, *report.notes]


def _total(report: ContextReport) -> str:
    return f"{number(report.tokens_used)} of {number(report.budget)} tokens"


def _section(title: str, parts: Iterable[Part]) -> Part:
    parts = list(parts)
    return joined(element("h4", title), *parts) if parts else None


def _list(lines: Iterable[str]) -> Html:
    return element("ul", *(element("li", line) for line in lines))


def _table(names: Sequence[str], rows: Iterable[Html], *, numbers: int = 0) -> Html:
    head = [element("th", name, class_="num" if place < numbers else None) for place, name in enumerate(names)]
    return element("table", element("thead", element("tr", *head)), element("tbody", *rows))


def _name(segment: str) -> str:
    return _NAMES.get(segment, segment)


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
