"""The application's own documents, made to fit their share of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from langmem_plugin.context import rendering
from langmem_plugin.context.cutting import cut_end
from langmem_plugin.context.request import Document

_LEAST = 24
"""A document that would be cut to fewer tokens is left out."""
_HEADING = 16
"""What a document has besides its text."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """The block as it is sent, "" if nothing fits, and what was cut."""

    text: str = ""
    cut: tuple[str, ...] = ()


def fit_documents(documents: Sequence[Document], *, room: int, count: Callable[[str], int]) -> Fitting:
    """The documents in the order given, as many as `room` tokens take; the last may be cut."""
    if not documents:
        return Fitting()
    shown: list[Document] = []
    cut: list[str] = []
    used = count(rendering.documents_block(()))
    for document in documents:
        tokens = count(document.text)
        if used + tokens + _HEADING > room:
            text = cut_end(document.text, max_tokens=room - used - _HEADING - 8, count=count)
            if (kept := count(text) if text else 0) > _LEAST:
                shown.append(replace(document, text=text))
                cut.append(f"document {len(shown)} cut from {tokens} to {kept} tokens")
            break
        shown.append(document)
        used += tokens + _HEADING
    if rest := len(documents) - len(shown):
        cut.append(f"{rest} documents left out, past the documents' {room} tokens")
    return Fitting(rendering.documents_block(shown) if shown else "", tuple(cut))
