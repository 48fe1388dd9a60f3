"""LangChain: middleware for agents, a chat history, a runnable, a retriever and tools over one memory.

The history, the runnable, the retriever and the tools need langchain-core only; the
middleware needs langchain as well, the memory for chains langchain-classic; both are
imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langmem_plugin.errors import MissingExtra

try:
    import langchain_core  # noqa: F401
except ImportError as error:
    raise MissingExtra("the LangChain adapter", "langchain-core", "langchain") from error

from langchain_langmem_plugin.convert import from_core, to_core
from langchain_langmem_plugin.events import REQUEST_EVENT
from langchain_langmem_plugin.history import HybridChatMessageHistory
from langchain_langmem_plugin.moving_in import move_in
from langchain_langmem_plugin.retriever import HybridMemoryRetriever
from langchain_langmem_plugin.runnable import with_memory
from langchain_langmem_plugin.tools import memory_tools
from langchain_langmem_plugin.verifying import VerifyConstraints

if TYPE_CHECKING:
    from langchain_langmem_plugin.chain_memory import HybridChainMemory
    from langchain_langmem_plugin.middleware import HybridMemoryMiddleware

__all__ = [
    "REQUEST_EVENT",
    "HybridChainMemory",
    "HybridChatMessageHistory",
    "HybridMemoryMiddleware",
    "HybridMemoryRetriever",
    "VerifyConstraints",
    "from_core",
    "memory_tools",
    "move_in",
    "to_core",
    "with_memory",
]


def __getattr__(name: str) -> Any:
    if name == "HybridChainMemory":
        try:
            import langchain_classic  # noqa: F401
        except ImportError as error:
            raise MissingExtra(name, "langchain-classic", "langchain-classic") from error
        from langchain_langmem_plugin.chain_memory import HybridChainMemory

        return HybridChainMemory
    if name != "HybridMemoryMiddleware":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import langchain.agents.middleware  # noqa: F401
    except ImportError as error:
        raise MissingExtra("HybridMemoryMiddleware", "langchain", "langchain") from error
    from langchain_langmem_plugin.middleware import HybridMemoryMiddleware

    return HybridMemoryMiddleware
