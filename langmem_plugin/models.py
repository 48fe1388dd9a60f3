"""What we need from outside: a language model, an embedder, a cross-encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

EXTRACTION_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "title": "Constraints",
        "description": "What the user states that must hold from now on.",
        "type": "object",
        "properties": {
            "constraints": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "message": {"type": "integer"},
                        "quote": {"type": "string"},
                        "kind": {"enum": ["prohibition", "requirement", "preference", "fact", "goal"]},
                        "meaning": {"type": "string"},
                    },
                    "required": ["message", "quote", "kind", "meaning"],
                },
            },
            "meanings": {"type": "object", "additionalProperties": {"type": "string"}},
            "duplicates": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            "contradictions": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        },
        "required": ["constraints"],
    }
)
"""What an `extractor` is asked to answer, as a JSON schema, for models that can be held to one.

`dict(EXTRACTION_SCHEMA)` is what LangChain's `with_structured_output` takes. Whatever comes back is read with the same
suspicion.
"""


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
