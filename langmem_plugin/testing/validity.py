"""What a provider would reject in a request, by the strictest rules of them all.

OpenAI: every call is answered at once, every result has a call. Anthropic: no empty
or blank text, unique call ids. Mistral's template: user and assistant in turn, tool
steps aside. Gemini: the user first, a call after the user or a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from langmem_plugin.messages import Media, Message, Other, Role, Text


def problems(messages: Sequence[Message], *, awaiting: bool = False) -> list[str]:
    """Every rule that the messages break, one sentence each; empty for a valid request.

    Args:
        messages: The whole request, the system message first if there is one.
        awaiting: The last step's calls may still lack results, because they are being run.
    """
    found = [*_content(messages)]
    conversation = list(messages[1:] if messages and messages[0].role is Role.SYSTEM else messages)
    found += [
        f"message {i}: a system message inside the conversation"
        for i, message in enumerate(conversation)
        if message.role is Role.SYSTEM
    ]
    if conversation and conversation[0].role is not Role.USER:
        found.append(f"the first message is of the {conversation[0].role.value}, not of the user")
    return found + _turns(conversation) + split_pairs(conversation, awaiting=awaiting)


def _content(messages: Sequence[Message]) -> list[str]:
    found: list[str] = []
    for i, message in enumerate(messages):
        texts = [block.text for block in message.blocks if isinstance(block, Text)]
        if any(not text.strip() for text in texts):
            found.append(f"message {i}: a blank text block")
        if not texts and not message.tool_calls and not any(isinstance(b, Media | Other) for b in message.blocks):
            found.append(f"message {i}: the {message.role.value} message is empty")
        if message.tool_calls and message.role is not Role.ASSISTANT:
            found.append(f"message {i}: tool calls in a {message.role.value} message")
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            found.append(f"message {i}: text that UTF-8 cannot carry")
    return found


def _turns(conversation: Sequence[Message]) -> list[str]:
    found: list[str] = []
    for i, (before, message) in enumerate(pairwise(conversation), start=1):
        if before.role is message.role and message.role is not Role.TOOL:
            found.append(f"message {i}: two {message.role.value} messages in a row")
        if before.role is Role.TOOL and message.role is Role.USER:
            found.append(f"message {i}: the user speaks before the tool result was answered")
    spoken = [m.role for m in conversation if m.role is Role.USER or (m.role is Role.ASSISTANT and not m.tool_calls)]
    for before_role, role in pairwise(spoken):
        if before_role is role:
            found.append(f"without tool steps, two {role.value} messages stand in a row")
    return found


def split_pairs(conversation: Sequence[Message], *, awaiting: bool = False) -> list[str]:
    """The part of `problems` that is about tool calls and their results; empty if every pair is whole.

    Args:
        conversation: The request without its system message.
        awaiting: The last step's calls may still lack results, because they are being run.
    """
    found: list[str] = []
    used: set[str] = set()
    open_ids: set[str] = set()
    for i, message in enumerate(conversation):
        if message.role is Role.TOOL:
            if message.tool_call_id is None or message.tool_call_id not in open_ids:
                found.append(f"message {i}: a tool result without its call just before it")
            else:
                open_ids.discard(message.tool_call_id)
            continue
        if open_ids:
            found.append(f"message {i}: {len(open_ids)} tool calls have no result")
        open_ids = set()
        for call in message.tool_calls:
            if not call.id:
                found.append(f"message {i}: a tool call without an id")
            elif call.id in used:
                found.append(f"message {i}: a tool call's id is used twice")
            else:
                used.add(call.id)
                open_ids.add(call.id)
    if open_ids and not awaiting:
        found.append(f"{len(open_ids)} tool calls at the end have no result")
    return found
