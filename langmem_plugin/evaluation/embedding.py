"""An embedder for measuring, with its vectors kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.embedders import as_embedder, embed_query
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.models import Embedder

_BATCH: Final = 64
_QUESTION: Final = "\x01"
"""Stands before a text that was embedded as a question: some models tell the two apart."""


class CachedEmbedder:
    """Embeds each text once; `save` keeps the vectors in a file, under the model's name."""

    def __init__(
        self,
        model: Embedder | str | object,
        *,
        cache: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Reads what an earlier run with the same model kept.

        Args:
            model: Whatever `Memory.open` takes as an embedder.
            cache: An .npz file, made by `save`; what another model kept in it is left unread.
            progress: Called with a line now and then while texts are embedded.

        Raises:
            InvalidSetting: No model is given.
        """
        embedder = as_embedder(model)
        if embedder is None:
            raise InvalidSetting("embedder", model, "name a model")
        self.name = embedder.name
        self._embedder = embedder
        self._progress = progress
        self._cache_file = Path(cache) if cache else None
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self._new = 0
        if self._cache_file and self._cache_file.exists():
            with np.load(self._cache_file, allow_pickle=False) as kept:
                if str(kept["model"]) == self.name:
                    self._known = dict(zip(kept["texts"].tolist(), kept["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One unit row a text."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            self._known.update(zip(batch, self._embedder.embed(batch), strict=True))
            self._new += len(batch)
            if self._progress and len(missing) > _BATCH:
                self._progress(f"{start + len(batch)} of {len(missing)} texts embedded")
        return np.stack([self._known[text] for text in texts])

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """The question's vector."""
        if (known := self._known.get(_QUESTION + text)) is None:
            known = self._known[_QUESTION + text] = embed_query(self._embedder, text)
            self._new += 1
        return known

    def save(self) -> None:
        """Write what is new to the cache file, if there is one."""
        if self._cache_file and self._new:
            rows = np.stack(list(self._known.values()))
            np.savez(self._cache_file, texts=np.array(list(self._known)), vectors=rows, model=self.name)
            self._new = 0
