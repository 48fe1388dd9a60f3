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

import hashlib
import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from langmem_plugin.errors import InvalidSetting, LangmemPluginError, MissingExtra, ModelFailed
from langmem_plugin.models import Embedder

FloatRows = npt.NDArray[np.float32]
"""One row a text."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
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
        return _LocalModel(_loaded_name(obj), lambda: _encoder(obj))
    if callable(obj):
        return _Remote(_callable_name(obj), obj)
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
        clean = [_speakable(text) for text in texts]
        with _as_model_failed():
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
        with _as_model_failed():
            raw = self._query(_speakable(text))
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
        clean = [_speakable(text) for text in texts]
        parts = []
        for start in range(0, len(clean), _CHUNK):
            chunk = clean[start : start + _CHUNK]
            with self._turn.for_text(), _as_model_failed():
                raw = self._model()[0](chunk)
            parts.append(unit_rows(raw, len(chunk)))
        return np.concatenate(parts)

    def embed_query(self, text: str) -> FloatRows:
        """The question's vector, of unit length; served before texts that wait.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        with self._turn.for_query(), _as_model_failed():
            raw = self._model()[1]([_speakable(text)])
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


@contextmanager
def _as_model_failed() -> Iterator[None]:
    """Whatever another's model raises, as `ModelFailed`, the cause kept and no text repeated."""
    try:
        yield
    except LangmemPluginError:
        raise
    except Exception as error:  # the model is not ours: any class may come
        raise ModelFailed("embedder", f"it raised {type(error).__name__}") from error


def _speakable(text: str) -> str:
    """The text as tokenizers take it: without NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\x00", " ")


def _by_name(given: str | os.PathLike[str]) -> Embedder:
    text = os.fspath(given)
    if text in ("chroma", "onnx"):
        return _LocalModel("chroma/all-MiniLM-L6-v2", _load_onnx)
    folder = Path(text).expanduser()
    is_folder = "\x00" not in text and folder.is_dir()
    if not is_folder and (not isinstance(given, str) or not _HUB_NAME.fullmatch(text)):
        raise InvalidSetting(
            "embedder", text, 'there is no such folder; give one, a name such as "all-MiniLM-L6-v2", or "chroma"'
        )
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra(f"the embedder {text!r}", "sentence-transformers", "sentence-transformers")
    if is_folder:
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InvalidSetting("embedder", text, "the folder holds no sentence-transformers model")
        where = str(folder.resolve())
        return _LocalModel(_folder_name(folder.resolve()), lambda: _load_sentence_transformer(where, local=True))
    name = text if "/" in text else f"sentence-transformers/{text}"
    return _LocalModel(name, lambda: _load_sentence_transformer(name, local=False))


def _folder_name(folder: Path) -> str:
    """The folder's own name and a digest of what is in it, so that a moved model keeps its vectors."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".json", ".safetensors", ".bin", ".onnx") or not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size};".encode())
        with file.open("rb") as stream:  # ends are enough: weights differ everywhere once trained
            digest.update(stream.read(65_536))
            stream.seek(max(0, size - 65_536))
            digest.update(stream.read())
    return f"{folder.name}@{digest.hexdigest()[:12]}"


def _load_sentence_transformer(
    where: str, *, local: bool
) -> tuple[Callable[[list[str]], object], Callable[[list[str]], object]]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtra("this embedder", "sentence-transformers", "sentence-transformers") from error
    with _no_progress_bars():
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


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Loading draws a bar on standard error, whatever the caller prints there."""
    try:
        from transformers.utils import logging as transformers_logging
    except ImportError:
        yield
        return
    logging: Any = transformers_logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


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


def _loaded_name(model: Any) -> str:
    """The name that a loaded sentence-transformers model was loaded by."""
    card = getattr(getattr(model, "model_card_data", None), "base_model", None)
    inner = getattr(getattr(model, "_first_module", lambda: None)(), "auto_model", None)
    where = getattr(getattr(inner, "config", None), "_name_or_path", None) or card
    if not isinstance(where, str) or not where:
        return type(model).__name__
    folder = Path(where)
    return _folder_name(folder.resolve()) if folder.is_dir() else where


def _callable_name(function: Any) -> str:
    """Its `name` if it has one, else where it is defined."""
    name = getattr(function, "name", None)
    if callable(name):
        name = name()
    if isinstance(name, str) and name:
        return name
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}"
