"""Which messages of an agent's state the memory does not have yet."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from langchain_langmem_plugin.convert import to_core, to_core_all
from langchain_langmem_plugin.recording import same_words
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session

_AT_ONCE = 100
_CERTAIN = 2
"""So many messages in a row that say the same are no coincidence."""


def unrecorded(session: Session, messages: Sequence[BaseMessage]) -> tuple[Message | None, list[Message]]:
    """The newest message that the memory knows by its id, if any, and the messages after it.

    Ids decide. Where the memory knows none of them, the caller may have sent its own
    transcript without ids, or with new ones: then the part before the newest user
    message is laid against the end of the log by what it says. What overlaps is known;
    a transcript that the memory never saw is taken in once.
    """
    said = [message for message in messages if not _is_made_up(message)]
    for end in range(len(said), 0, -_AT_ONCE):  # from the end, because the newest known one is all that counts
        start = max(0, end - _AT_ONCE)
        known = session.known([message.id for message in said[start:end] if message.id])
        if known:
            newest = max(place for place in range(start, end) if said[place].id in known)
            return to_core(said[newest]), _without_put_by(session, to_core_all(said[newest + 1 :]))
    neutral = to_core_all(said)
    start = _newest_question(neutral)
    if not start:
        return None, neutral
    log = [entry.message for entry in session.history()]
    return None, neutral[_overlap(neutral[:start], log) :]


def _without_put_by(session: Session, new: list[Message]) -> list[Message]:
    """The new messages without leading repetitions of a question that the log ends on unanswered.

    Such a question was too large for the budget and was sent again; what the user said
    after it must not have to carry it along.
    """
    if len(new) <= 1 or any(message.role is not Role.USER for message in new[:2]):
        return new
    log = session.history()
    while log and len(new) > 1 and new[1].role is Role.USER and same_words(new[0], log[-1].message):
        new = new[1:]
    return new


def _is_made_up(message: BaseMessage) -> bool:
    # Another middleware's summary in the user's role is nobody's words, least of all a constraint.
    return message.type == "system" or message.additional_kwargs.get("lc_source") == "summarization"


def _newest_question(messages: Sequence[Message]) -> int:
    """Where the newest run of user messages begins; the end if there is none."""
    place = len(messages)
    while place and messages[place - 1].role is not Role.USER:
        place -= 1
    if not place:
        return len(messages)
    while place and messages[place - 1].role is Role.USER:
        place -= 1
    return place


def _overlap(transcript: Sequence[Message], log: Sequence[Message]) -> int:
    """How many messages of the transcript, from its start, the end of the log covers."""
    for size in range(len(transcript), 0, -1):
        most = min(size, len(log))
        run = 0
        while run < most and same_words(transcript[size - 1 - run], log[-1 - run]):
            run += 1
        if most and (run == most or run >= _CERTAIN):
            return size
    return 0
