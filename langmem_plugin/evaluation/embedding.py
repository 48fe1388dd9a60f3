"""A sentence-transformers model for measuring, with its vectors kept between runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from langmem_plugin.errors import MissingExtra


class CachedEmbedder:
    """Embeds each text once; `save` keeps the vectors in a file."""

    def __init__(self, model: str, *, cache: str | Path | None = None) -> None:
        self.name = model
        self._cache_file = Path(cache) if cache else None
        self._model: Any = None
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self._new = 0
        if self._cache_file and self._cache_file.exists():
            with np.load(self._cache_file, allow_pickle=False) as kept:
                self._known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One unit row a text."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        if missing:
            vectors = self._load().encode(missing, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
            self._known.update(zip(missing, np.asarray(vectors, dtype=np.float32), strict=True))
            self._new += len(missing)
        return np.stack([self._known[text] for text in texts])

    def save(self) -> None:
        """Write what is new to the cache file, if there is one."""
        if self._cache_file and self._new:
            texts = np.array(list(self._known))
            np.savez(self._cache_file, texts=texts, vectors=np.stack(list(self._known.values())))
            self._new = 0

    def _load(self) -> Any:
        if self._model is None:
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError as error:
                raise MissingExtra("the evaluation", "sentence-transformers", "sentence-transformers") from error
            self._model = SentenceTransformer(self.name, device="cpu")
        return self._model
