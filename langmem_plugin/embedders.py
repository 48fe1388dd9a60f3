"""Whatever turns text into vectors, as an `Embedder`.

```text
"chroma", "onnx"                    all-MiniLM-L6-v2 as Chroma ships it (ONNX, no torch)
"sentence-transformers/all-..."     a name on the Hugging Face hub, fetched at first use
"/models/minilm", Path(...)         a sentence-transformers folder, never fetched
SentenceTransformer(...)            a loaded one
LangChain Embeddings                by embed_documents and embed_query
LlamaIndex embedding                by get_text_embedding_batch and get_query_embedding
callable(list[str]) -> rows         a plain function
```

Nothing is imported, loaded or fetched before the first text is embedded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from langmem_plugin.errors import InvalidSetting, MissingExtra, ModelFailed
from langmem_plugin.local_models import (
    as_model_failed,
    callable_name,
    loaded_name,
    locate,
    no_progress_bars,
    speakable,
)
from langmem_plugin.models import Embedder

FloatRows = npt.NDArray[np.float32]
"""One row a text."""

_CHUNK = 8
"""Texts that a local model embeds before it looks whether a query waits."""


@runtime_checkable
class QueryEmbedder(Protocol):
    """An embedder that embeds a question otherwise than a passage; a declared power."""

    def embed_query(self, text: str) -> FloatRows:
        """The question's vector, of unit length, shape (dimensions,).

        Raises:
            ModelFailed: The model failed or answered numbers that are not finite.
        """
        ...


def embed_query(embedder: Embedder, text: str) -> FloatRows:
    """The question's vector, by the embedder's own way for questions if it has one.

    Raises:
        ModelFailed: The model failed or answered something unusable.
    """
    if isinstance(embedder, QueryEmbedder):
        return unit_rows([embedder.embed_query(text)], 1).reshape(-1)
    return unit_rows(embedder.embed([text]), 1).reshape(-1)


def unit_rows(raw: object, count: int) -> FloatRows:
    """The rows as float32 of unit length.

    Args:
        raw: Anything numpy reads as a table of numbers.
        count: How many rows there must be.

    Raises:
        ModelFailed: Not a table of that many rows, or a row that is not finite or all zero.
    """
    try:
        rows = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelFailed("embedder", "it answered something that is not a table of numbers") from error
    if rows.ndim != 2 or rows.shape[0] != count or rows.shape[1] == 0:
        raise ModelFailed("embedder", f"it answered shape {rows.shape} for {count} texts")
    if not np.isfinite(rows).all():
        raise ModelFailed("embedder", "it answered numbers that are not finite")
    # Scaled first, so that neither tiny nor huge numbers are lost in the square.
    largest = np.abs(rows).max(axis=1, keepdims=True)
    if not (largest > 0).all():
        raise ModelFailed("embedder", "it answered a vector of zeros")
    rows = rows / largest
    return cast(FloatRows, (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))


def as_embedder(obj: Embedder | str | object | None) -> Embedder | None:
    """The given thing as an `Embedder`; None stays None.

    An object that is an `Embedder` already comes back as it is. Nothing is loaded
    or fetched here: that happens with the first text.

    Args:
        obj: See the module's table.

    Raises:
        InvalidSetting: A folder that does not exist, or a thing that cannot embed.
        MissingExtra: sentence-transformers is needed and not installed.
    """
    if obj is None:
        return None
    if isinstance(obj, (str, os.PathLike)):
        return _by_name(obj)
    if callable(getattr(obj, "embed", None)) and isinstance(getattr(obj, "name", None), str):
        return cast(Embedder, obj)
    # Framework objects are often callable too, so a callable is the last guess.
    if callable(getattr(obj, "get_text_embedding_batch", None)) and callable(getattr(obj, "get_query_embedding", None)):
        return _llama_index(obj)
    if callable(getattr(obj, "embed_documents", None)) and callable(getattr(obj, "embed_query", None)):
        return _langchain(obj)
    if callable(getattr(obj, "encode", None)) and callable(getattr(obj, "tokenize", None)):
        return _LocalModel(loaded_name(obj), lambda: _encoder(obj))
    if callable(obj):
        return _Remote(callable_name(obj), obj)
    raise InvalidSetting(
        "embedder",
        type(obj).__name__,
        "give a model's name, a folder, a LangChain or LlamaIndex embedding, or a function of a list of texts",
    )


class _Remote:
    """Calls of somebody else's embedding, checked; as thread-safe as that one is."""

    def __init__(self, name: str, documents: Callable[[list[str]], object]) -> None:
        self.name = name
        self._documents = documents

    def embed(self, texts: Sequence[str]) -> FloatRows:
        """One row a text, each of unit length; shape (0, 0) for no text.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        clean = [speakable(text) for text in texts]
        with as_model_failed("embedder"):
            raw = self._documents(clean)
        return unit_rows(raw, len(clean))


class _RemoteWithQuery(_Remote):
    """The same, with a way of its own for questions."""

    def __init__(self, name: str, documents: Callable[[list[str]], object], query: Callable[[str], object]) -> None:
        super().__init__(name, documents)
        self._query = query

    def embed_query(self, text: str) -> FloatRows:
        """The question's vector, of unit length.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        with as_model_failed("embedder"):
            raw = self._query(speakable(text))
        return unit_rows([raw], 1).reshape(-1)


class _LocalModel:
    """A model in this process: loaded once, used by one thread at a time, questions first."""

    def __init__(
        self,
        name: str,
        load: Callable[[], tuple[Callable[[list[str]], object], Callable[[list[str]], object]]],
    ) -> None:
        self.name = name
        self._load = load
        self._loaded: tuple[Callable[[list[str]], object], Callable[[list[str]], object]] | None = None
        self._turn = _QueriesFirst()

    def embed(self, texts: Sequence[str]) -> FloatRows:
        """One row a text, each of unit length; shape (0, 0) for no text.

        A question that waits is served after at most eight of the texts.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        clean = [speakable(text) for text in texts]
        parts = []
        for start in range(0, len(clean), _CHUNK):
            chunk = clean[start : start + _CHUNK]
            with self._turn.for_text(), as_model_failed("embedder"):
                raw = self._model()[0](chunk)
            parts.append(unit_rows(raw, len(chunk)))
        return np.concatenate(parts)

    def embed_query(self, text: str) -> FloatRows:
        """The question's vector, of unit length; served before texts that wait.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        with self._turn.for_query(), as_model_failed("embedder"):
            raw = self._model()[1]([speakable(text)])
        return unit_rows(raw, 1).reshape(-1)

    def _model(self) -> tuple[Callable[[list[str]], object], Callable[[list[str]], object]]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded


class _QueriesFirst:
    """A lock that questions get before texts: a question has a deadline (G8)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self._queries = 0

    @contextmanager
    def for_text(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and not self._queries)
            self._busy = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def for_query(self) -> Iterator[None]:
        with self._changed:
            self._queries += 1
            try:
                self._changed.wait_for(lambda: not self._busy)
                self._busy = True
            finally:
                self._queries -= 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()


def _by_name(given: str | os.PathLike[str]) -> Embedder:
    if os.fspath(given) in ("chroma", "onnx"):
        return _LocalModel("chroma/all-MiniLM-L6-v2", _load_onnx)
    found = locate("embedder", given, organisation="sentence-transformers", example='"all-MiniLM-L6-v2", or "chroma"')
    return _LocalModel(found.name, lambda: _load_sentence_transformer(found.where, local=found.local))


def _load_sentence_transformer(
    where: str, *, local: bool
) -> tuple[Callable[[list[str]], object], Callable[[list[str]], object]]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("this embedder", "sentence-transformers", "sentence-transformers") from error
    with no_progress_bars():
        model = SentenceTransformer(where, local_files_only=local)
    return _encoder(model)


def _encoder(model: Any) -> tuple[Callable[[list[str]], object], Callable[[list[str]], object]]:
    """How a sentence-transformers model embeds passages and questions.

    Releases from 5 on have a method for each, for models trained with prompts.
    """
    documents = getattr(model, "encode_document", model.encode)
    queries = getattr(model, "encode_query", model.encode)
    return (
        lambda texts: documents(texts, show_progress_bar=False, convert_to_numpy=True),
        lambda texts: queries(texts, show_progress_bar=False, convert_to_numpy=True),
    )


def _load_onnx() -> tuple[Callable[[list[str]], object], Callable[[list[str]], object]]:
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2

    function = ONNXMiniLM_L6_V2()
    try:
        function(["ready"])  # fetches the model into Chroma's own cache if it is not there
    except Exception as error:  # any class of network, archive or runtime error
        raise ModelFailed(
            "embedder",
            f"Chroma's all-MiniLM-L6-v2 is not in {function.DOWNLOAD_PATH} and cannot be had ({type(error).__name__})",
        ) from error
    return function, function


def _langchain(obj: Any) -> Embedder:
    return _RemoteWithQuery(_described(obj), obj.embed_documents, obj.embed_query)


def _llama_index(obj: Any) -> Embedder:
    return _RemoteWithQuery(_described(obj), obj.get_text_embedding_batch, obj.get_query_embedding)


def _described(obj: Any) -> str:
    """The class, the model and the length asked for: what vectors must not be mixed across."""
    name = type(obj).__name__
    for field in ("model_name", "model", "model_id", "deployment"):
        value = getattr(obj, field, None)
        if isinstance(value, str) and value and value != "unknown":
            name = f"{name}/{value}"
            break
    dimensions = getattr(obj, "dimensions", None)
    return f"{name}:{dimensions}" if isinstance(dimensions, int) else name
