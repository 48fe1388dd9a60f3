"""Weights of the need model, written by `python -m langmem_plugin.evaluation.fit_need`."""

from __future__ import annotations

from typing import Final

NEED: Final[dict[str, float]] = {
    "question": 1.0,
    "opens": 2.0,
    "past": 1.0,
    "memory": 4.0,
    "small_talk": -2.0,
    "sentences": -1.5,
    "words": -0.5,
    "best": 2.0,
    "coverage": 1.0,
    "rare": 0.0,
    "bias": -4.0,
}
