"""HTML that is escaped by construction, and the style that every page of ours shares.

Whatever is not already `Html` is escaped, so that a message with markup or script in it
stays text. No page loads anything: style and drawings are in it, and there is no script
in what a notebook shows.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["SEGMENTS", "Html", "Part", "element", "joined", "notebook", "number", "page"]

SEGMENTS = ("tools", "system", "constraints", "summary", "window", "recall", "documents", "new")
"""The segments of a request, in the order of the request; each has a colour of its own."""

_VOID = frozenset({"br", "rect", "line", "path", "circle", "meta", "input"})


class Html(str):
    """A text that is markup already; made by `element` and `joined` alone."""

    __slots__ = ()


Part: TypeAlias = "Html | str | int | Iterable[Part] | None"
"""What may stand in an element; None is nothing, and everything but `Html` is escaped."""


def joined(*parts: Part) -> Html:
    """The parts one after the other, escaped where they are not markup."""
    return Html("".join(_written(part) for part in parts))  # every piece was escaped


def element(tag: str, *children: Part, **attributes: str | float | bool | None) -> Html:
    """An element with escaped attributes and children.

    Args:
        tag: Its name; `_` stands for `-`.
        children: Texts are escaped.
        attributes: `class_` is `class`, other underscores are hyphens; None and False are
            left out, True is an attribute without value.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        written = name.rstrip("_").replace("_", "-")
        words.append(written if value is True else f'{written}="{_escaped(str(value))}"')
    if tag in _VOID:
        return Html(f"<{' '.join(words)}/>")
    return Html(f"<{' '.join(words)}>{joined(*children)}</{tag}>")


def number(value: float) -> str:
    """A whole number with thousands apart."""
    return f"{value:,.0f}"


def notebook(*parts: Part) -> str:
    """What `_repr_html_` gives: the style and the parts, in a box of their own."""
    return element("div", element("style", Html(STYLE)), *parts, class_="lmp")


def page(title: str, *parts: Part) -> str:
    """A whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE + _PAGE_STYLE)),
    )
    body = element("body", element("main", *parts, class_="lmp"))
    return "<!doctype html>\n" + element("html", head, body, lang="en")


def _written(part: Part) -> str:
    if part is None:
        return ""
    if isinstance(part, Html):
        return part
    if isinstance(part, str | int):
        return _escaped(str(part))
    return joined(*part)


def _escaped(text: str) -> str:
    """Escaped for text and attributes; what no document can hold becomes U+FFFD."""
    clean = "".join("\ufffd" if _unsendable(char) else char for char in text) if not text.isprintable() else text
    return html.escape(clean, quote=True)


def _unsendable(char: str) -> bool:
    code = ord(char)
    return (code < 32 and char not in "\n\t") or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code in _BIDI


_BIDI = frozenset({*range(0x202A, 0x202F), *range(0x2066, 0x206A)})
"""Marks that turn the direction of what follows: they could make a text look like another."""

_LIGHT = """--lmp-fg:#1c2128;--lmp-dim:#5b6470;--lmp-line:#d5dae1;--lmp-bg:#fff;--lmp-soft:#f5f7f9;
--lmp-tools:#8c95a1;--lmp-system:#5f6b7a;--lmp-constraints:#c4342d;--lmp-summary:#9a6700;--lmp-window:#1a7f4b;
--lmp-recall:#0b7285;--lmp-documents:#8a3fb0;--lmp-new:#2160c4;"""
_DARK = """--lmp-fg:#e3e7ec;--lmp-dim:#9aa5b1;--lmp-line:#3a424d;--lmp-bg:#16191e;--lmp-soft:#1f242b;
--lmp-tools:#77818d;--lmp-system:#9aa7b8;--lmp-constraints:#f2726b;--lmp-summary:#d9a63a;--lmp-window:#4cc38a;
--lmp-recall:#3fb8cc;--lmp-documents:#c38be0;--lmp-new:#6ea4f4;"""

STYLE = (
    f".lmp{{{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{.lmp{{{_DARK}}}}}"
    # A notebook's own choice comes before the system's.
    f'[data-jp-theme-light="true"] .lmp,.vscode-light .lmp,html[theme="light"] .lmp{{{_LIGHT}}}'
    '[data-jp-theme-light="false"] .lmp,.vscode-dark .lmp,.vscode-high-contrast .lmp,html[theme="dark"] .lmp'
    f"{{{_DARK}}}"
    """
.lmp{color:var(--lmp-fg);background:var(--lmp-bg);font:14px/1.45 system-ui,-apple-system,"Segoe UI",sans-serif;
padding:12px 14px;border-radius:6px;max-width:1100px;box-sizing:border-box}
.lmp *{box-sizing:border-box}
.lmp h1{font-size:20px;margin:0 0 10px}.lmp h3{font-size:15px;margin:0 0 6px}.lmp h4{font-size:13px;margin:14px 0 4px}
.lmp a{color:var(--lmp-new)}.lmp .dim{color:var(--lmp-dim)}.lmp .num{text-align:right;font-variant-numeric:tabular-nums}
.lmp table{border-collapse:collapse;width:100%;background:none;color:inherit;margin:0;font-size:13px}
.lmp th,.lmp td{text-align:left;vertical-align:top;padding:3px 8px 3px 0;border:0;background:none;color:inherit;
border-bottom:1px solid var(--lmp-line)}
.lmp th{color:var(--lmp-dim);font-weight:500}.lmp th.num,.lmp td.num{text-align:right;white-space:nowrap}
.lmp td.text{width:48%;overflow-wrap:anywhere}
.lmp .bar{display:flex;height:18px;border-radius:4px;overflow:hidden;border:1px solid var(--lmp-line);margin:6px 0}
.lmp .bar span{display:block;height:100%;min-width:1px}
.lmp .key{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:13px}
.lmp .key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}
.lmp .said{border-left:4px solid var(--lmp-line);background:var(--lmp-soft);margin:4px 0;padding:4px 8px;
border-radius:0 4px 4px 0}
.lmp .said header{display:flex;gap:10px;font-size:12px;color:var(--lmp-dim)}
.lmp .said header b{color:var(--lmp-fg);font-weight:600}
.lmp .said .words{white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0 0;
font:13px/1.4 ui-monospace,Menlo,Consolas,monospace}
.lmp .words .inset{border-left:3px solid var(--lmp-c);padding-left:8px;margin:2px 0;display:block}
.lmp details>summary{cursor:pointer;color:var(--lmp-dim);font-size:12px}
.lmp .ended{text-decoration:line-through;color:var(--lmp-dim)}
.lmp svg{display:block;width:100%;height:auto;overflow:visible}.lmp svg text{fill:var(--lmp-dim);font-size:11px}
.lmp ul{margin:2px 0;padding-left:18px}
"""
    + "".join(f".lmp .{name}{{--lmp-c:var(--lmp-{name})}}" for name in (*SEGMENTS, "free"))
    + ".lmp .bar span,.lmp .key i{background:var(--lmp-c)}.lmp .free{--lmp-c:transparent}"
    ".lmp .key .free i{border:1px solid var(--lmp-line)}"
    ".lmp .said{border-left-color:var(--lmp-c,var(--lmp-line))}"
    ".lmp .fill{fill:var(--lmp-c)}.lmp .stroke{stroke:var(--lmp-c)}"
)

_PAGE_STYLE = """
html{background:#eef1f4}body{margin:0;padding:20px}main.lmp{margin:0 auto;padding:22px 26px}
@media (prefers-color-scheme:dark){html{background:#0d0f12}}
form{display:inline}button{font:inherit;font-size:12px;padding:1px 8px;cursor:pointer}
nav{margin-bottom:10px;font-size:13px}
"""
