"""A retriever over what was said in a session."""

from __future__ import annotations

import asyncio
from typing import Annotated

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field

from langmem_plugin.memory import Memory
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.records import Hit


class HybridMemoryRetriever(BaseRetriever):
    """Finds earlier messages of one session by keyword and by meaning.

    `invoke(question)` gives at most `k` documents, best first; `invoke(question, k=3)`
    asks for another number. A document's metadata has `seq` (place in the session),
    `role`, `date` (ISO 8601, UTC), `score` (0..1, higher is nearer) and `why`.

    Example:
        >>> from langmem_plugin import Memory
        >>> with Memory.open() as memory:
        ...     version = memory.session("trip", owner="ann").add("My flight is LH 454.")
        ...     retriever = HybridMemoryRetriever(memory=memory, owner="ann", session_id="trip", k=1)
        ...     retriever.invoke("Which flight?")[0].page_content
        'My flight is LH 454.'
    """

    memory: Annotated[Memory, Field(exclude=True, repr=False)]
    owner: str
    session_id: str
    k: Annotated[int, Field(gt=0)] = 5
    """How many documents at most."""
    only: Annotated[RecallFilter | None, Field(exclude=True)] = None
    """Which messages may be found: by time, role, tool or metadata."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return self._find(query, k)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        return await asyncio.to_thread(self._find, query, k)

    def _find(self, query: str, k: int | None) -> list[Document]:
        session = self.memory.session(self.session_id, owner=self.owner)
        return [_document(hit) for hit in session.recall(query, k=k or self.k, only=self.only)]


def _document(hit: Hit) -> Document:
    entry = hit.entry
    return Document(
        id=str(entry.seq),
        page_content=entry.message.text,
        metadata={
            "seq": entry.seq,
            "role": entry.message.role.value,
            "date": entry.created_at.isoformat(),
            "score": hit.score,
            "why": hit.why,
        },
    )
