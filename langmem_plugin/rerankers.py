"""Whatever judges a text by a question, as a `Reranker`.

```text
"cross-encoder/ms-marco-MiniLM-..."  a name on the Hugging Face hub, fetched at first use
"/models/cross-encoder", Path(...)   a folder of sentence-transformers, never fetched
CrossEncoder(...)                    a loaded one
LangChain BaseCrossEncoder           by score
callable(query, texts) -> figures    a plain function
```

Nothing is imported, loaded or fetched before the first question is judged.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

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
from langmem_plugin.models import Reranker

Figures: TypeAlias = npt.NDArray[np.float64]
_Judge: TypeAlias = Callable[[str, list[str]], object]


def as_reranker(obj: Reranker | str | object | None) -> Reranker | None:
    """The given thing as a `Reranker`; None stays None.

    Args:
        obj: See the module's table.

    Raises:
        InvalidSetting: A folder that does not exist, or a thing that cannot judge.
        MissingExtra: sentence-transformers is needed and not installed.
    """
    if obj is None:
        return None
    if isinstance(obj, (str, os.PathLike)):
        found = locate("reranker", obj, organisation="cross-encoder", example='"cross-encoder/ms-marco-MiniLM-L6-v2"')
        return _Judging(found.name, lambda: _load(found.where, local=found.local))
    if callable(getattr(obj, "scores", None)) and isinstance(getattr(obj, "name", None), str):
        return cast(Reranker, obj)
    if callable(getattr(obj, "predict", None)) and callable(getattr(obj, "rank", None)):
        return _Judging(loaded_name(obj), lambda: _by_pairs(obj))
    score: Any = getattr(obj, "score", None)
    if callable(score):
        return _Judging(callable_name(type(obj)), lambda: lambda query, texts: score([(query, text) for text in texts]))
    if callable(obj):
        judge: Any = obj
        return _Judging(callable_name(obj), lambda: judge)
    raise InvalidSetting(
        "reranker",
        type(obj).__name__,
        "give a cross-encoder's name, a folder, a CrossEncoder, or a function of a question and a list of texts",
    )


def checked(raw: object, count: int) -> Figures:
    """The figures as float64, shape (count,).

    Raises:
        ModelFailed: Not so many numbers, or some that are not finite.
    """
    try:
        found: Figures = np.asarray(raw, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelFailed("reranker", "it answered something that is not a list of numbers") from error
    if found.shape not in ((count,), (count, 1)):
        raise ModelFailed("reranker", f"it answered shape {found.shape} for {count} texts")
    if not np.isfinite(found).all():
        raise ModelFailed("reranker", "it answered numbers that are not finite")
    return found.reshape(count)


class _Judging:
    """A model that is loaded once and used by one thread at a time."""

    def __init__(self, name: str, load: Callable[[], _Judge]) -> None:
        self.name = name
        self._load = load
        self._judge: _Judge | None = None
        self._lock = threading.Lock()

    def scores(self, query: str, texts: Sequence[str]) -> Figures:
        """One figure a text, higher is better.

        Raises:
            ModelFailed: The model failed or answered something unusable.
        """
        if not texts:
            return np.zeros(0)
        clean = [speakable(text) for text in texts]
        with self._lock, as_model_failed("reranker"):
            self._judge = self._judge or self._load()
            raw = self._judge(speakable(query), clean)
        return checked(raw, len(clean))


def _load(where: str, *, local: bool) -> _Judge:
    try:
        from sentence_transformers import CrossEncoder
    except ImportError as error:
        raise MissingExtra("this reranker", "sentence-transformers", "sentence-transformers") from error
    with no_progress_bars():
        model = CrossEncoder(where, local_files_only=local)
    return _by_pairs(model)


def _by_pairs(model: Any) -> _Judge:
    return lambda query, texts: model.predict([(query, text) for text in texts], show_progress_bar=False)
