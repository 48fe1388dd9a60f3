"""Weights of the need model, written by `python -m langmem_plugin.evaluation.fit_need`.

Fitted on LoCoMo-style questions against turns.
questions, held out: mean 0.98, 10/50/90 % 0.98/0.99/0.99, below 0.2: 0 %
turns, held out: mean 0.02, 10/50/90 % 0.00/0.00/0.03, below 0.2: 98 %
other talk, fitted: mean 0.04, 10/50/90 % 0.00/0.01/0.05, below 0.2: 97 %
"""

from __future__ import annotations

from typing import Final

NEED: Final[dict[str, float]] = {
    "question": 1.1755,
    "opens": 2.9026,
    "past": 0.5930,
    "memory": 3.0000,
    "small_talk": -1.3207,
    "sentences": -0.4630,
    "words": -0.4887,
    "about": 2.5882,
    "best": 2.2668,
    "rare": 2.1458,
    "bias": -5.9408,
}
