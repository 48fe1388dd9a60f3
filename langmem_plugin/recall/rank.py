"""What the two steps of ranking make of the features."""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np

from langmem_plugin.recall.bm25 import Floats
from langmem_plugin.recall.features import DENSE, NEAR, Dense
from langmem_plugin.recall.net import Net
from langmem_plugin.recall.weights import WEIGHTS


def first_scores(first: Dense) -> Floats:
    """A rough score of every message, by seq; only the order matters."""
    return first.rough(WEIGHTS["both" if first.meaning else "keyword"])


def second_scores(features: Floats, *, meaning: bool) -> Floats:
    """Scores 0..1 of some messages: how likely each holds what the query asks for.

    Args:
        features: One row a message, as `features.near` gives them.
        meaning: Whether the vector leg answered.
    """
    logits = net_of("both" if meaning else "keyword").logits(features)
    scores: Floats = 1.0 / (1.0 + np.exp(-np.clip(logits, -30, 30)))
    return scores


@cache
def net_of(legs: str) -> Net:
    """The net for `both` legs, or for the `keyword` leg alone; read once."""
    return Net.read(resources.files(__package__).joinpath(f"net_{legs}.txt").read_text(encoding="utf-8"), DENSE + NEAR)
