"""Texts that LlamaIndex's prompt templates must leave as they are."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage, TextBlock


class LiteralText(TextBlock):  # type: ignore[misc, unused-ignore]
    """A text in which `{query_str}` is text.

    The engines with a retriever put memory into a prompt template. Without this, a user
    who once wrote `{context_str}` would find the retrieved documents in his old message.
    """

    @property
    def templatable_attributes(self) -> list[str]:
        """None: nothing in this text is a placeholder."""
        return []

    def format_vars(self, **_kwargs: Any) -> LiteralText:
        """The same text, whatever the template's variables are."""
        return self


def literal(message: ChatMessage) -> ChatMessage:
    """The message with its texts protected from template formatting, word for word."""
    message.blocks = [LiteralText(text=block.text) if type(block) is TextBlock else block for block in message.blocks]
    return message
