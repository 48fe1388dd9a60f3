"""What we need from outside: a language model, an embedder, a cross-encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


@runtime_checkable
class ChatModel(Protocol):
    """Answers a prompt; used behind the conversation only, never on the hot path (G8)."""

    @property
    def name(self) -> str:
        """The model's name, recorded with what it writes."""
        ...

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        """The model's answer as text.

        Raises:
            ModelFailed: The model failed or answered nothing.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """The model's name; vectors of different names are never mixed."""
        ...

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """One row a text, each of unit length, shape (len(texts), dimensions).

        Raises:
            ModelFailed: The model failed or answered rows that are not finite.
        """
        ...


@runtime_checkable
class Reranker(Protocol):
    """Reads a question and a text together and says how well the text answers: a cross-encoder."""

    @property
    def name(self) -> str:
        """The model's name; scores of different names are never mixed."""
        ...

    def scores(self, query: str, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """One figure a text, higher is better, on any scale; shape (len(texts),).

        Raises:
            ModelFailed: The model failed or answered figures that are not finite.
        """
        ...
