"""From LangChain's memories to a session."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import BaseMessage

from langchain_langmem_plugin.convert import to_core
from langmem_plugin.messages import Message, Role, Text
from langmem_plugin.moving import add_history
from langmem_plugin.session import Session


def move_in(session: Session, messages: Sequence[BaseMessage], *, summary: str = "") -> int:
    """Write a conversation that another memory of LangChain held into a session; see `add_history`.

    For the messages of a `BaseChatMessageHistory`, a `ConversationBufferMemory`
    (`memory.chat_memory.messages`) or an agent's state. A message that summarising
    middleware wrote in the user's role becomes a note of the application: nobody said it.

    Args:
        session: A new session, or one that these messages were moved into before.
        messages: Oldest first.
        summary: `ConversationSummaryBufferMemory.moving_summary_buffer`, or the like.

    Returns:
        How many messages were added.

    Raises:
        InvalidSetting: The session holds another conversation.
        InvalidMessage: A message cannot be kept.
    """
    return add_history(session, [_neutral(message) for message in messages], summary=summary)


def _neutral(message: BaseMessage) -> Message:
    if message.additional_kwargs.get("lc_source") == "summarization":
        return Message(role=Role.SYSTEM, blocks=(Text(str(message.text)),))
    return to_core(message)
