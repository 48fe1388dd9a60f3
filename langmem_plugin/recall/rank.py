"""From features to one score: two small logistic models, with and without the vector leg."""

from __future__ import annotations

from typing import Final

import numpy as np

from langmem_plugin.recall.bm25 import Floats
from langmem_plugin.recall.features import DENSE, NEAR, Dense
from langmem_plugin.recall.weights import WEIGHTS


def _vector(legs: str) -> tuple[Floats, float]:
    weights = WEIGHTS[f"second/{legs}"]
    return np.array([weights.get(name, 0.0) for name in DENSE + NEAR]), weights["bias"]


_SECOND: Final = {legs: _vector(legs) for legs in ("both", "keyword")}


def first_scores(first: Dense) -> Floats:
    """A rough score of every message, by seq; only the order matters."""
    return first.rough(WEIGHTS["first/both" if first.meaning else "first/keyword"])


def second_scores(features: Floats, *, meaning: bool) -> Floats:
    """Scores 0..1 of some messages: how likely each holds what the query asks for.

    Args:
        features: One row a message, as `features.near` gives them.
        meaning: Whether the vector leg answered.
    """
    weights, bias = _SECOND["both" if meaning else "keyword"]
    logits: Floats = features @ weights + bias
    scores: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
    return scores
