"""The vectors of a session, embedded behind the conversation and kept in the log's database."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from langmem_plugin.embedders import unit_rows
from langmem_plugin.errors import ModelFailed
from langmem_plugin.messages import Message
from langmem_plugin.models import Embedder
from langmem_plugin.projections.embedded_lately import EmbeddedLately
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vector_table import Vectors, VectorTable
from langmem_plugin.records import SessionKey

MAX_CHARS = 8_000
"""So much of a text is embedded: about the 8,191 tokens that hosted models take at most."""


class VectorProjection:
    """Takes a session's vectors to the head of its log, one batch a call."""

    name = "vectors"
    grace_s = 30.0
    """How long a batch under way may hold up the end: it runs in native code."""

    def __init__(
        self,
        table: VectorTable,
        embedder: Embedder,
        index: VectorIndex,
        *,
        text: Callable[[Message], str],
        batch: int = 8,
    ) -> None:
        """Nothing is embedded yet.

        Args:
            table: Where the vectors are kept.
            embedder: What makes them.
            index: What searches them.
            text: What is embedded of a message; "" if it gets no vector.
            batch: Entries of one call of `advance`.
        """
        self._table = table
        self._embedder = embedder
        self._index = index
        self._text = text
        self._batch = batch
        self._lately = EmbeddedLately()

    def advance(self, key: SessionKey) -> bool:
        """Embed the next batch of entries, store the vectors, then put them into the index.

        Stored before indexed: what a crash takes from the index is put back from the
        store. A repeated call changes nothing. A text that the model alone cannot
        embed is marked and passed over, so that those behind it are not held up.

        Returns:
            Whether there is more to do.

        Raises:
            ModelFailed: The embedder does not answer; nothing of this batch is lost.
        """
        model = self._embedder.name
        entries = self._table.unembedded(key, model, limit=self._batch)
        texts = {entry.seq: text for entry in entries if (text := self._text(entry.message).strip()[:MAX_CHARS])}
        skipped = [entry.seq for entry in entries if entry.seq not in texts]
        if texts:
            rows = self._lately.rows(key.owner, model, list(texts.values()), self._embed)
            skipped += [seq for seq, row in zip(texts, rows, strict=True) if row is None]
            seqs = [seq for seq, row in zip(texts, rows, strict=True) if row is not None]
            kept = [row for row in rows if row is not None]
            if seqs:
                self._table.save_vectors(key, model, seqs, np.stack(kept))
                self._index.add(key, seqs)
        if skipped:
            self._table.skip_vectors(key, model, sorted(skipped))
        return len(entries) == self._batch

    def forget(self) -> None:
        """Let go of vectors made lately."""
        self._lately.forget()

    def _embed(self, texts: Sequence[str]) -> list[Vectors | None]:
        try:
            return list(unit_rows(self._embedder.embed(texts), len(texts)))
        except ModelFailed:
            if len(texts) == 1:
                raise
            self._probe()
        rows: list[Vectors | None] = []
        for text in texts:
            try:
                rows.append(unit_rows(self._embedder.embed([text]), 1).reshape(-1))
            except ModelFailed:  # the one text that spoils a batch is looked for
                self._probe()
                rows.append(None)
        return rows

    def _probe(self) -> None:
        """Tell a model that is out of reach (raises) from a text that it cannot take."""
        unit_rows(self._embedder.embed(["hello"]), 1)
