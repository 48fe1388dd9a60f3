"""What LangChain and LlamaIndex search a conversation with: real parts, with our embedder and no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from langmem_plugin.evaluation.loaders import Conversation
from langmem_plugin.evaluation.recall import Ranking
from langmem_plugin.messages import Message
from langmem_plugin.models import Embedder
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.tokens import TokenCounter

FOUND: Final = 100
"""Documents that each leg of the ensemble answers."""
_HISTORY: Final = 0.2
_NODE_TOKENS: Final = 110
"""An exchange within the vector block, with the tags that LlamaIndex puts around it."""


def ensemble(conversation: Conversation, embedder: Embedder) -> Ranking:
    """`EnsembleRetriever` at equal weights over BM25 on lower-cased words and an in-memory vector store.

    The keyword leg is what `BM25Retriever` is: rank_bm25's `BM25Okapi` on split words.
    """
    from langchain_classic.retrievers import EnsembleRetriever
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import InMemoryVectorStore
    from rank_bm25 import BM25Okapi

    class Vectors(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            found: list[list[float]] = embedder.embed(texts).tolist()
            return found

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    documents = [
        Document(embedded_text(turn.message) or " ", metadata={"place": place})
        for place, turn in enumerate(conversation.turns)
    ]
    scorer = BM25Okapi([document.page_content.lower().split() or [""] for document in documents])

    class Words(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
            return list(scorer.get_top_n(query.lower().split(), documents, n=FOUND))

    store = InMemoryVectorStore.from_documents(documents, Vectors())
    both = EnsembleRetriever(
        retrievers=[Words(), store.as_retriever(search_kwargs={"k": FOUND})], weights=[0.5, 0.5], id_key="place"
    )
    return lambda text, _now: [document.metadata["place"] for document in both.invoke(text)]


def memory_with_vectors(conversation: Conversation, embedder: Embedder, budget: int, counter: TokenCounter) -> Any:
    """LlamaIndex's `Memory`: a fifth of the budget for the newest turns, `VectorMemoryBlock` for the rest.

    As many nodes are found as fit on the average; each holds one exchange or turn, because
    the queue is flushed as early as it can be. The store keeps what it is given in a list.
    """
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.memory import Memory, VectorMemoryBlock

    from llama_index.memory.langmem_plugin.convert import from_core, to_core

    class Vectors(BaseEmbedding):  # type: ignore[misc, unused-ignore]
        def _get_text_embedding(self, text: str) -> list[float]:
            found: list[float] = embedder.embed([text])[0].tolist()
            return found

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embedding(query)

    block = VectorMemoryBlock(
        vector_store=_list_store(),
        embed_model=Vectors(model_name=embedder.name),
        similarity_top_k=max(1, int(budget * (1 - _HISTORY)) // _NODE_TOKENS),
        retrieval_context_window=2,
        priority=0,
    )
    memory = Memory.from_defaults(
        session_id=conversation.id,
        token_limit=budget,
        chat_history_token_ratio=_HISTORY,
        token_flush_size=1,
        memory_blocks=[block],
        tokenizer_fn=lambda text: [0] * counter.count(text),
    )
    for turn in conversation.turns:
        memory.put(from_core(turn.message))

    def fill(question: str, _now: object) -> list[Message]:
        found = memory.get(input=question)
        return [to_core(one) for one in [*found, ChatMessage(role="user", content=question)]]

    return fill


def _list_store() -> Any:
    """A vector store of LlamaIndex's kind that keeps its nodes in a list and searches them exactly."""
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores.types import BasePydanticVectorStore, VectorStoreQuery, VectorStoreQueryResult
    from pydantic import Field

    class Kept(BasePydanticVectorStore):  # type: ignore[misc, unused-ignore]
        stores_text: bool = True
        nodes: list[Any] = Field(default_factory=list)

        @property
        def client(self) -> Any:
            return None

        def add(self, nodes: Sequence[BaseNode], **_: Any) -> list[str]:
            self.nodes.extend(nodes)
            return [node.node_id for node in nodes]

        def delete(self, ref_doc_id: str, **_: Any) -> None:
            self.nodes = [node for node in self.nodes if node.ref_doc_id != ref_doc_id]

        def query(self, query: VectorStoreQuery, **_: Any) -> VectorStoreQueryResult:
            if not self.nodes:
                return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
            near = np.array([node.embedding for node in self.nodes]) @ np.array(query.query_embedding)
            best = np.argsort(-near, kind="stable")[: query.similarity_top_k]
            nodes = [self.nodes[place] for place in best]
            return VectorStoreQueryResult(
                nodes=nodes, similarities=near[best].tolist(), ids=[node.node_id for node in nodes]
            )

    return Kept()
