"""From features to one score: two small logistic models, with and without the vector leg."""

from __future__ import annotations

from typing import Final

import numpy as np

from langmem_plugin.recall.bm25 import Floats
from langmem_plugin.recall.features import DENSE, NEAR, Dense
from langmem_plugin.recall.weights import WEIGHTS

_NAMES: Final = {"first": DENSE, "second": DENSE + NEAR}


def _vector(step: str, legs: str) -> tuple[Floats, float]:
    weights = WEIGHTS[f"{step}/{legs}"]
    return np.array([weights.get(name, 0.0) for name in _NAMES[step]]), weights["bias"]


_MODELS: Final = {(step, legs): _vector(step, legs) for step in _NAMES for legs in ("both", "keyword")}


def first_scores(first: Dense) -> Floats:
    """A rough score of every message, by seq; only the order matters."""
    weights, bias = _MODELS["first", "both" if first.meaning else "keyword"]
    return weights @ first.rows + bias


def second_scores(features: Floats, *, meaning: bool) -> Floats:
    """Scores 0..1 of some messages: how likely each holds what the query asks for.

    Args:
        features: One row a message, as `features.near` gives them.
        meaning: Whether the vector leg answered.
    """
    weights, bias = _MODELS["second", "both" if meaning else "keyword"]
    logits: Floats = features @ weights + bias
    scores: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
    return scores
