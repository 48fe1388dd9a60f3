"""Moving in: what another memory held becomes a session of this one, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Literal

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Message, Role, forgotten, system
from langmem_plugin.records import Constraint, ConstraintKind
from langmem_plugin.session import Session

__all__ = ["add_facts", "add_history"]

_BATCH = 500


def add_history(
    session: Session,
    messages: Iterable[Message],
    *,
    summary: str = "",
    progress: Callable[[int], object] | None = None,
) -> int:
    """Write an earlier conversation into a session, a turn for each exchange.

    Running it again, or with more messages at the end, adds only what is new. The rules
    read the user's messages as they do those of any turn, so standing statements of the
    past are in force afterwards.

    Args:
        session: A new session, or one that holds a beginning of these messages.
        messages: Oldest first; user messages begin turns. Read one after the other, never held as a whole.
        summary: What another memory wrote about still earlier messages; kept as a note of
            the application, because nobody said it, and never read for constraints.
        progress: Called with how many messages were read, every few hundred.

    Returns:
        How many messages were added.

    Raises:
        InvalidSetting: The session holds another conversation.
        InvalidMessage: A message cannot be kept; what came before its turn is there.
    """
    said = _counted(chain([system(summary)] if summary.strip() else [], messages), progress)
    for held in _log(session):
        message = next(said, None)
        if message is None or _said(held) not in (_said(message), _said(forgotten(message))):
            raise InvalidSetting("session", session.id, "it holds another conversation; move into a new one")
    added = 0
    for turn in _turns(said):
        session.add(*turn)
        added += len(turn)
    return added


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


def _log(session: Session) -> Iterator[Message]:
    after = 0
    while entries := session.history(after=after, limit=_BATCH):
        yield from (entry.message for entry in entries)
        after = entries[-1].seq


def _counted(messages: Iterable[Message], progress: Callable[[int], object] | None) -> Iterator[Message]:
    """The messages; of two with one id the later has none, so that it is not taken for the first one come again."""
    ids: set[str] = set()
    for number, message in enumerate(messages, start=1):
        if progress is not None and number % _BATCH == 0:
            progress(number)
        if message.id is None or message.id not in ids:
            yield message
        else:
            yield replace(message, id=None)
        if message.id is not None:
            ids.add(message.id)


def _turns(messages: Iterable[Message]) -> Iterator[list[Message]]:
    turn: list[Message] = []
    for message in messages:
        if turn and message.role is Role.USER and turn[-1].role is not Role.USER:
            yield turn
            turn = []
        turn.append(message)
    if turn:
        yield turn


def _said(message: Message) -> Message:
    return replace(message, id=None, name=None, usage=None, metadata={}, payload=None)
