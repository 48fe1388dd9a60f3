"""Vectors made lately: what is said word for word again is not embedded again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from langmem_plugin.projections.vector_table import Vectors

MOST: Final = 2_048
"""Vectors that are kept; the least recently used leave."""


class EmbeddedLately:
    """By owner, model and a hash of the text: nothing is shared between owners (G7), no text is held. Thread-safe."""

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, Vectors] = OrderedDict()

    def rows(
        self, owner: str, model: str, texts: Sequence[str], make: Callable[[Sequence[str]], Sequence[Vectors | None]]
    ) -> list[Vectors | None]:
        """A vector for each text, in order; None where `make` gives none.

        Args:
            owner: Whose texts.
            model: The embedder's name.
            texts: What is to be embedded.
            make: Embeds the texts that are not known, each once; what it raises is raised here.
        """
        names = [
            hashlib.sha256(f"{owner}\x00{model}\x00{text}".encode(errors="surrogatepass")).digest() for text in texts
        ]
        with self._lock:
            known = {name: self._kept[name] for name in names if name in self._kept}
            for name in known:
                self._kept.move_to_end(name)
        missing = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
        made: dict[bytes, Vectors | None] = dict(known)
        if missing:
            made.update(zip(missing, make(list(missing.values())), strict=True))
            with self._lock:
                for name in missing:
                    if (row := made[name]) is not None:
                        self._kept[name] = np.array(row, dtype=np.float32)
                while len(self._kept) > self._most:
                    self._kept.popitem(last=False)
        return [made[name] for name in names]

    def forget(self) -> None:
        """Let go of everything: a vector tells of what was said (G11)."""
        with self._lock:
            self._kept.clear()
