"""Weights of the need model, written by `python -m langmem_plugin.evaluation.fit_need`.

Fitted on LoCoMo-style questions against turns.
questions, held out: mean 0.98, 10/50/90 % 0.97/0.98/0.99, below 0.2: 0 %
turns, held out: mean 0.02, 10/50/90 % 0.00/0.00/0.06, below 0.2: 98 %
other talk, fitted: mean 0.05, 10/50/90 % 0.00/0.01/0.08, below 0.2: 94 %
"""

from __future__ import annotations

from typing import Final

NEED: Final[dict[str, float]] = {
    "question": 1.6388,
    "opens": 3.4639,
    "past": 0.6653,
    "memory": 3.0000,
    "small_talk": -1.4870,
    "sentences": -0.5949,
    "words": -0.6102,
    "best": 3.5720,
    "rare": 2.0420,
    "bias": -5.9481,
}
