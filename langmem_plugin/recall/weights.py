"""Weights of the first step of ranking, written by `python -m langmem_plugin.evaluation.fit`.

Beside it lie `net_both.txt` and `net_keyword.txt`, the second step.
Fitted on 786 questions of 5 conversations of locomo
(conv-26, conv-41, conv-43, conv-47, conv-49), embedder model.
Cross-validated by conversation: any@10 91.0, frac@10 84.7 with vectors,
any@10 88.2, frac@10 81.8 without.
"""

from __future__ import annotations

from typing import Final

WEIGHTS: Final[dict[str, dict[str, float]]] = {
    "both": {
        "keyword": 1.1046,
        "keyword_square": 2.5309,
        "keyword_prev": 0.7992,
        "keyword_next": 0.3290,
        "keyword_prev2": 0.8590,
        "keyword_next2": -0.1899,
        "keyword_around": 0.0985,
        "coverage": 0.0258,
        "coverage_2": 2.3046,
        "meaning": 0.4062,
        "meaning_square": 0.0767,
        "meaning_prev": 0.0396,
        "meaning_next": 0.0492,
        "meaning_prev2": 0.1526,
        "meaning_next2": 0.2279,
        "meaning_around": -0.0059,
        "when": 1.9722,
        "bias": -3.8486,
    },
    "keyword": {
        "keyword": 1.3675,
        "keyword_square": 2.7160,
        "keyword_prev": 1.1464,
        "keyword_next": 0.5423,
        "keyword_prev2": 1.4670,
        "keyword_next2": 0.2358,
        "keyword_around": 0.1448,
        "coverage": 0.7623,
        "coverage_2": 2.2862,
        "when": 1.8005,
        "bias": -3.4455,
    },
}
