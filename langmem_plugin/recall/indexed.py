"""What of a message the indexes see: one place, so that store, vectors and queries agree."""

from __future__ import annotations

from langmem_plugin.messages import Message
from langmem_plugin.recall.meaning import shorten
from langmem_plugin.recall.terms import TermCounts, count_terms


def indexed_text(message: Message) -> str:
    """The message's text, with the names and arguments of the tools it calls."""
    calls = "\n".join(f"{call.name} {call.arguments}" for call in message.tool_calls)
    return f"{message.text}\n{calls}" if calls and message.text else message.text or calls


def message_terms(message: Message, *, language: str = "auto") -> TermCounts:
    """What the keyword index keeps of a message; its length there is the sum of the counts."""
    return count_terms(indexed_text(message), language=language)


def embedded_text(message: Message) -> str:
    """What the vector index embeds of a message: "Name: text" where the speaker has a name.

    Measured on LoCoMo, the name before the text finds a third more turns by meaning.
    A long text keeps its beginning and its end, because embedders read little more.
    """
    text = shorten(indexed_text(message))
    return f"{message.name}: {text}" if message.name and text else text
