"""Weights of the ranking models, written by `langmem_plugin.evaluation.fit`."""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, dict[str, float]]] = {
    "first/both": {
        "keyword": 3.0,
        "meaning": 0.7,
        "keyword_prev": 0.6,
        "keyword_next": 0.6,
        "meaning_prev": 0.2,
        "meaning_next": 0.2,
        "bias": -4.0,
    },
    "first/keyword": {"keyword": 3.0, "keyword_prev": 0.6, "keyword_next": 0.6, "bias": -3.0},
    "second/both": {
        "keyword": 3.0,
        "meaning": 0.7,
        "keyword_prev": 0.6,
        "keyword_next": 0.6,
        "meaning_prev": 0.2,
        "meaning_next": 0.2,
        "speaker": 0.7,
        "bias": -4.0,
    },
    "second/keyword": {"keyword": 3.0, "keyword_prev": 0.6, "keyword_next": 0.6, "speaker": 0.7, "bias": -3.0},
}

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
