"""The two things we need from outside: a language model and an embedder."""

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
