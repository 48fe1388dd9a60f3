"""Weights of the need model, written by `python -m langmem_plugin.evaluation.fit_need`.

Fitted on LoCoMo-style questions against turns.
questions, held out: mean 0.97, 10/50/90 % 0.96/0.98/0.99, below 0.2: 0 %
turns, held out: mean 0.02, 10/50/90 % 0.00/0.00/0.05, below 0.2: 99 %
other talk, fitted: mean 0.06, 10/50/90 % 0.00/0.01/0.11, below 0.2: 93 %
"""

from __future__ import annotations

from typing import Final

NEED: Final[dict[str, float]] = {
    "question": 1.6154,
    "opens": 3.5997,
    "past": 0.6634,
    "memory": 3.0000,
    "small_talk": -1.4164,
    "sentences": -0.5709,
    "words": -0.6878,
    "best": 3.4137,
    "rare": 2.6604,
    "bias": -6.3349,
}
