"""Tools for agents: recall something, and list, add and revoke constraints.

No text of a tool, an assistant or a document can become a constraint, and a model that
was talked into calling these tools cannot make one up either: it can only point at
words the user said. The whole sentence with those words is what is added, so that
"delete everything" cannot be cut out of "never delete everything". A constraint is
revoked only by a later sentence of the user that takes something back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool

from langmem_plugin.errors import ConstraintNotFound, InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Role
from langmem_plugin.records import ConstraintKind
from langmem_plugin.session import Session

_SENTENCE_END = re.compile("(?<=[.!?\u3002\uff01\uff1f])\\s+|\\n+")
_TAKES_BACK = re.compile(
    r"\b(no longer|not? any ?more|forget|ignore|drop|cancel|revoke|lift|remove|undo|instead|never ?mind|"
    r"don't need|do not need|doesn't apply|changed my mind|from now on|"
    r"vergiss|nicht mehr|statt|ab jetzt|olvida|ya no|oublie|ne\b.+\bplus)\b",
    re.IGNORECASE,
)


def memory_tools(
    memory: Memory,
    *,
    owner: str | Callable[[RunnableConfig], str],
    session_id: str | Callable[[RunnableConfig], str] | None = None,
) -> list[BaseTool]:
    """Two tools over a session: `recall_conversation` and `conversation_constraints`.

    Args:
        memory: The memory.
        owner: Whose conversation it is, or a callable that finds it from the config.
        session_id: The session, or a callable from the config; the run's `thread_id` or
            `session_id` if not given.
    """

    def find(config: RunnableConfig) -> Session:
        configurable = config.get("configurable") or {}
        name = session_id(config) if callable(session_id) else session_id
        name = name or configurable.get("thread_id") or configurable.get("session_id")
        if not name:
            raise InvalidSetting("session_id", None, "give session_id=..., or run with a thread_id in the config")
        return memory.session(str(name), owner=owner(config) if callable(owner) else owner)

    def recall_conversation(query: str, config: RunnableConfig, k: int = 5) -> str:
        """Search everything said earlier in this conversation, also what is no longer shown.

        Args:
            query: What to look for: words, names, a question.
            config: Given by LangChain.
            k: How many messages at most, 1 to 20.
        """
        return _recall(find(config), query, min(max(k, 1), 20))

    def conversation_constraints(
        config: RunnableConfig,
        action: str = "list",
        words: str = "",
        constraint_id: str = "",
        kind: str = "requirement",
    ) -> str:
        """List, add or revoke what the user said must always hold.

        To add, quote the user's own words exactly; the sentence they stand in is added.
        To revoke, give the constraint's id and quote the user's later words that take it back.

        Args:
            config: Given by LangChain.
            action: "list", "add" or "revoke".
            words: A verbatim quotation of the user.
            constraint_id: Which one to revoke, as listed.
            kind: For "add": prohibition, requirement, preference, fact or goal.
        """
        session = find(config)
        match action:
            case "list":
                return _listed(session)
            case "add":
                return _add(session, words, kind)
            case "revoke":
                return _revoke(session, constraint_id, words)
        return f"Not done: {action!r} is no action; use list, add or revoke."

    return [
        StructuredTool.from_function(recall_conversation, parse_docstring=True),
        StructuredTool.from_function(conversation_constraints, parse_docstring=True),
    ]


def _recall(session: Session, query: str, k: int) -> str:
    hits = session.recall(query, k=k)
    if not hits:
        return "Nothing earlier in this conversation matches."
    lines = [
        f"[{hit.entry.seq}] {hit.entry.message.role.value}, {hit.entry.created_at:%Y-%m-%d}: {hit.entry.message.text}"
        for hit in sorted(hits, key=lambda hit: hit.entry.seq)
    ]
    return "\n".join(lines)


def _listed(session: Session) -> str:
    held = session.constraints()
    if not held:
        return "No constraints are in force."
    return "\n".join(f"{one.id} ({one.kind}): {one.text}" for one in held)


def _add(session: Session, words: str, kind: str) -> str:
    if kind not in set(ConstraintKind):
        return f"Not added: kind must be one of {', '.join(ConstraintKind)}."
    sentence = next((found for _seq, found in _sentences(session, words)), None)
    if sentence is None:
        return "Not added: the user did not say these words. Quote the user exactly, or ask."
    if any(one.text == sentence for one in session.constraints()):
        return f"In force already: {sentence}"
    added = session.add_constraint(sentence, kind=kind)
    return f"Added {added.id}: {sentence}"


def _revoke(session: Session, constraint_id: str, words: str) -> str:
    held = {one.id: one for one in session.constraints()}
    constraint = held.get(constraint_id)
    if constraint is None:
        return f"Not revoked: no constraint {constraint_id!r} is in force.\n{_listed(session)}"
    said = [sentence for seq, sentence in _sentences(session, words) if seq is None or seq > (constraint.seq or 0)]
    if not any(_TAKES_BACK.search(sentence) for sentence in said if sentence != constraint.text):
        return (
            "Not revoked: quote the user's own later words that take it back. "
            "If the user has not said so, ask; the application can revoke it as well."
        )
    try:
        session.revoke(constraint_id)
    except ConstraintNotFound:
        return f"Not revoked: no constraint {constraint_id!r} is in force."
    return f"Revoked {constraint_id}: {constraint.text}"


def _sentences(session: Session, words: str) -> Iterator[tuple[int | None, str]]:
    """The user's sentences that hold these words, newest first, with their place; None while the turn is open."""
    words = words.strip().strip("\"'")
    if len(words.split()) < 2 and len(words) < 8:
        return
    said: list[tuple[int | None, Any]] = [(entry.seq, entry.message) for entry in session.history()]
    turn = session.resume()
    said += [(None, message) for message in (turn.messages if turn else ())]
    for seq, message in reversed(said):
        if message.role is not Role.USER:
            continue
        text: str = message.said
        at = text.find(words)
        if at >= 0:
            yield seq, _around(text, at, at + len(words))


def _around(text: str, start: int, end: int) -> str:
    """The whole sentences of the text that the span touches."""
    begin = 0
    for gap in _SENTENCE_END.finditer(text):
        if gap.end() <= start:
            begin = gap.end()
        elif gap.start() >= end:
            return text[begin : gap.start()].strip()
    return text[begin:].strip()
