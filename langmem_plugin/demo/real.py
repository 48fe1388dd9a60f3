"""A real model for the questions, as each framework has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langmem_plugin.errors import MissingExtra

if TYPE_CHECKING:
    from langmem_plugin.demo.run import RealModel

_TIMEOUT_S = 120.0
_RETRIES = 2


def langchain_model(model: RealModel) -> Any:
    """The model through langchain-openai.

    Raises:
        MissingExtra: langchain-openai is not installed.
    """
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingExtra("a real model in the demonstration", "langchain-openai", "demo") from error
    return ChatOpenAI(
        model=model.name,
        base_url=model.base_url,
        api_key=model.api_key,  # type: ignore[arg-type, unused-ignore]
        timeout=_TIMEOUT_S,
        max_retries=_RETRIES,
    )


def llama_index_model(model: RealModel) -> Any:
    """The model through LlamaIndex's own package if it is installed, else through langchain-openai."""
    try:
        from llama_index.llms.openai_like import OpenAILike
    except ImportError:
        return _Borrowed(langchain_model(model))
    return OpenAILike(
        model=model.name,
        api_base=model.base_url or "https://api.openai.com/v1",
        api_key=model.api_key,
        is_chat_model=True,
        timeout=_TIMEOUT_S,
        max_retries=_RETRIES,
    )


class _Borrowed:
    """LangChain's client where LlamaIndex's is not installed; only what the player asks for."""

    def __init__(self, chat: Any) -> None:
        self._chat = chat

    def chat(self, messages: Any) -> Any:
        from llama_index.core.base.llms.types import ChatMessage, ChatResponse

        said = self._chat.invoke([(message.role.value, message.content or "") for message in messages])
        return ChatResponse(message=ChatMessage(role="assistant", content=str(said.text)))
