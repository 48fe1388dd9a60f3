"""Moving in: what another memory held becomes a session of this one, once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Message, Role, system
from langmem_plugin.records import Constraint, ConstraintKind
from langmem_plugin.session import Session

__all__ = ["add_facts", "add_history"]


def add_history(session: Session, messages: Sequence[Message], *, summary: str = "") -> int:
    """Write an earlier conversation into a session, a turn for each exchange.

    Running it again, or with more messages at the end, adds only what is new. The rules
    read the user's messages as they do those of any turn, so standing statements of the
    past are in force afterwards.

    Args:
        session: A new session, or one that holds a beginning of these messages.
        messages: Oldest first; user messages begin turns.
        summary: What another memory wrote about still earlier messages; kept as a note of
            the application, because nobody said it, and never read for constraints.

    Returns:
        How many messages were added.

    Raises:
        InvalidSetting: The session holds another conversation.
        InvalidMessage: A message cannot be kept; what came before its turn is there.
    """
    said = [*([system(summary)] if summary.strip() else []), *messages]
    held = [entry.message for entry in session.history()]
    if len(held) > len(said) or any(_said(one) != _said(other) for one, other in zip(held, said, strict=False)):
        raise InvalidSetting("session", session.id, "it holds another conversation; move into a new one")
    new = said[len(held) :]
    for turn in _turns(new):
        session.add(*turn)
    return len(new)


def add_facts(
    session: Session, facts: Iterable[str], *, scope: Literal["session", "owner"] = "owner"
) -> tuple[Constraint, ...]:
    """Add what another memory had distilled about a user, as facts that stand in every request.

    A fact that is there already is not added again. Facts are never cut from a request, so
    bring those that must always be known; a long list belongs into the conversation's own
    log, where recall finds it.

    Args:
        session: Any session of the user.
        facts: One statement each; empty ones are left out.
        scope: "owner" for all sessions of the user.

    Returns:
        The constraints that were added.
    """
    known = {constraint.text for constraint in session.constraints()}
    added = []
    for fact in facts:
        text = fact.strip()
        if text and text not in known:
            known.add(text)
            added.append(session.add_constraint(text, kind=ConstraintKind.FACT, scope=scope))
    return tuple(added)


def _turns(messages: Sequence[Message]) -> list[list[Message]]:
    turns: list[list[Message]] = []
    for message in messages:
        if not turns or (message.role is Role.USER and turns[-1][-1].role is not Role.USER):
            turns.append([])
        turns[-1].append(message)
    return turns


def _said(message: Message) -> Message:
    return replace(message, id=None, name=None, usage=None, metadata={}, payload=None)
