"""Which messages of an agent's state the memory does not have yet."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from langchain_langmem_plugin.convert import to_core_all
from langchain_langmem_plugin.recording import same_words
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session

_CERTAIN = 2
"""So many messages in a row that say the same are no coincidence."""


def unrecorded(session: Session, messages: Sequence[BaseMessage]) -> list[Message]:
    """The messages after the newest one that the memory knows.

    Ids decide. Where the memory knows none of them, the caller may have sent its own
    transcript without ids, or with new ones: then the part before the newest user
    message is laid against the end of the log by what it says. What overlaps is known;
    a transcript that the memory never saw is taken in once.
    """
    said = [message for message in messages if not _is_made_up(message)]
    known = session.known([message.id for message in said if message.id])
    if known:
        newest = max(place for place, message in enumerate(said) if message.id in known)
        return to_core_all(said[newest + 1 :])
    neutral = to_core_all(said)
    start = _newest_question(neutral)
    if not start:
        return neutral
    log = [entry.message for entry in session.history()]
    return neutral[_overlap(neutral[:start], log) :]


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
