"""A conversation's own past, for LlamaIndex's query engines and tools."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.records import Hit
from langmem_plugin.session import Session
from llama_index.memory.langmem_plugin.base import HybridChatMemoryBuffer


class HybridMemoryRetriever(BaseRetriever):  # type: ignore[misc, unused-ignore]
    """Finds what was said earlier in one session, by keyword and by meaning.

    Args:
        source: A buffer or a session of this package.
        similarity_top_k: How many messages are given at most.
        only: Which messages may be found: by time, role, tool or metadata.
    """

    def __init__(
        self,
        source: HybridChatMemoryBuffer | Session,
        *,
        similarity_top_k: int = 10,
        only: RecallFilter | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._source = source  # an in-memory session ends with its last buffer
        self._session = source.session if isinstance(source, HybridChatMemoryBuffer) else source
        self._top_k = similarity_top_k
        self._only = only

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return [self._node(hit) for hit in self._found(query_bundle.query_str)]

    def _found(self, query: str) -> list[Hit]:
        return self._session.recall(query, k=self._top_k, only=self._only)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _node(self, hit: Hit) -> NodeWithScore:
        entry = hit.entry
        node = TextNode(
            id_=f"{self._session.owner}/{self._session.id}/{entry.seq}",
            text=entry.message.text,
            metadata={
                "role": entry.message.role.value,
                "said_at": entry.created_at.isoformat(),
                "seq": entry.seq,
                "why": hit.why,
            },
            excluded_llm_metadata_keys=["seq", "why"],
            excluded_embed_metadata_keys=["role", "said_at", "seq", "why"],
        )
        return NodeWithScore(node=node, score=hit.score)
