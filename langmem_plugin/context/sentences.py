"""Plain text, one sentence at a time, in any script."""

# ruff: noqa: RUF001 - punctuation of many scripts
from __future__ import annotations

import re

from langmem_plugin.messages import Media, Message, Text

MAX_SENTENCE_CHARS = 280
"""A longer one is taken in pieces, broken between words where there are any."""

_BREAK = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？｡])|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ABBREVIATION = re.compile(r"(?:^|[\s(])(?:[A-Za-z]|Dr|Mr|Mrs|Ms|Prof|St|Nr|No|Jr|Sr|vs|e\.g|i\.e|z\.B|bzw|ca)\.$")


def printable(text: str) -> str:
    """The text without control characters and writing-direction overrides, line breaks kept.

    A lone surrogate becomes U+FFFD, so that every tokenizer and database accepts the text.
    """
    return _SURROGATE.sub("\ufffd", _NOT_TEXT.sub("", text))


def one_line(text: str) -> str:
    """The printable text with every run of white space as one space."""
    return " ".join(printable(text).split())


def sentences(text: str) -> list[str]:
    """The sentences of a text, each one line of at most `MAX_SENTENCE_CHARS` characters; linear time."""
    found: list[str] = []
    held = ""
    for split in _BREAK.split(printable(text)):
        part = f"{held} {split}".strip() if held else split.strip()
        if len(part) < MAX_SENTENCE_CHARS and _ABBREVIATION.search(part[-6:]):
            held = part
            continue
        held = ""
        found.extend(_pieces(" ".join(part.split())))
    found.extend(_pieces(" ".join(held.split())))
    return found


def spoken(message: Message, *, argument_chars: int | None = None) -> str:
    """What a message says, for a reader: its text, its tool calls in short form, its media by name."""
    parts: list[str] = []
    for block in message.blocks:
        if isinstance(block, Text):
            parts.append(block.text)
        elif isinstance(block, Media):
            name = block.name or (block.url if block.url and not block.url.startswith("data:") else "")
            parts.append(f"[{block.kind}: {one_line(name)[:120]}]" if name else f"[{block.kind}]")
    for call in message.tool_calls:
        arguments = call.arguments if call.arguments.strip() not in {"", "{}"} else ""
        parts.append(f"[calls {call.name}({arguments[:argument_chars]})]")
    return "\n".join(part for part in parts if part)


def speaker(message: Message) -> str:
    """Role, and name where there is one: "user", "tool search", "assistant Ann"."""
    name = re.sub(r"[^\w .@-]", "", one_line(message.name or ""))[:40].strip()
    return f"{message.role.value} {name}" if name else message.role.value


def _pieces(sentence: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARS:
        end = sentence.rfind(" ", start + MAX_SENTENCE_CHARS // 2, start + MAX_SENTENCE_CHARS)
        end = end if end > 0 else start + MAX_SENTENCE_CHARS
        pieces.append(sentence[start:end].strip())
        start = end
    if last := sentence[start:].strip():
        pieces.append(last)
    return pieces
