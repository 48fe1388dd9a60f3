"""Conversation memory for LlamaIndex's chat engines, agents and workflows."""

from __future__ import annotations

from langmem_plugin.errors import MissingExtra

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtra("the LlamaIndex adapter", "llama-index-core", "llama-index") from error

from llama_index.memory.langmem_plugin.async_chat_store import HybridAsyncChatStore
from llama_index.memory.langmem_plugin.base import HybridChatMemoryBuffer, TokenLimitExceeded
from llama_index.memory.langmem_plugin.chat_store import HybridChatStore
from llama_index.memory.langmem_plugin.constrained import with_constraints
from llama_index.memory.langmem_plugin.convert import from_core, to_core
from llama_index.memory.langmem_plugin.events import MemoryRequestEvent
from llama_index.memory.langmem_plugin.guarded import guarded
from llama_index.memory.langmem_plugin.memory_blocks import ConstraintsBlock, RecallBlock
from llama_index.memory.langmem_plugin.retriever import HybridMemoryRetriever
from llama_index.memory.langmem_plugin.verified import verified

__all__ = [
    "ConstraintsBlock",
    "HybridAsyncChatStore",
    "HybridChatMemoryBuffer",
    "HybridChatStore",
    "HybridMemoryRetriever",
    "MemoryRequestEvent",
    "RecallBlock",
    "TokenLimitExceeded",
    "from_core",
    "guarded",
    "to_core",
    "verified",
    "with_constraints",
]
