"""Learn a `Net` from lists of candidates of which some are right: listwise softmax, AdamW, numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.recall.bm25 import Floats
from langmem_plugin.recall.net import Net

_Singles = npt.NDArray[np.float32]
_Bools = npt.NDArray[np.bool_]

UNITS: Final = 16
NETS: Final = 3
"""So many nets from different beginnings are one in the end: their mean."""
EPOCHS: Final = 40
BATCH: Final = 128
RATE: Final = 0.01
DECAY: Final = 1.0


def train_net(lists: Sequence[Floats], right: Sequence[int], *, seed: int = 7) -> Net:
    """A net that ranks the first rows of each list above the others; the same for the same arguments.

    Args:
        lists: The candidates of one question each: rows of features, the right ones first.
        right: How many of each list are right.
        seed: Of the random beginnings.
    """
    every = np.concatenate(lists)
    mean, spread = every.mean(axis=0), every.std(axis=0)
    used = spread > 1e-9
    scale = np.where(used, 1.0 / np.where(used, spread, 1.0), 0.0)
    longest = max(map(len, lists))
    rows = np.zeros((len(lists), longest, every.shape[1]), np.float32)
    there = np.zeros((len(lists), longest), dtype=bool)
    wanted = np.zeros((len(lists), longest), np.float32)
    for place, (one, count) in enumerate(zip(lists, right, strict=True)):
        rows[place, : len(one)] = (one - mean) * scale
        there[place, : len(one)] = True
        wanted[place, :count] = 1.0 / count
    parts = [_trained(rows, there, wanted, np.random.default_rng([seed, number])) for number in range(NETS)]
    inner = np.concatenate([part[0] for part in parts], axis=1).astype(np.float64) * scale[:, None]
    shift = np.concatenate([part[1] for part in parts]).astype(np.float64) - mean @ inner
    outer = np.concatenate([part[2] for part in parts]).astype(np.float64) / NETS
    return Net(inner, shift, outer, 0.0)


def _trained(rows: _Singles, there: _Bools, wanted: _Singles, draw: np.random.Generator) -> list[_Singles]:
    """Inner weights, shifts and outer weights."""
    width = rows.shape[2]
    weights: list[_Singles] = [
        (draw.uniform(-1, 1, shape) / np.sqrt(fan)).astype(np.float32)
        for shape, fan in (((width, UNITS), width), ((UNITS,), width), ((UNITS,), UNITS))
    ]
    first = [np.zeros_like(weight) for weight in weights]
    second = [np.zeros_like(weight) for weight in weights]
    step = 0
    for epoch in range(EPOCHS):
        rate = RATE * (1 - epoch / EPOCHS)
        order = draw.permutation(len(rows))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            slopes = _slopes(weights, rows[some], there[some], wanted[some])
            step += 1
            first = [one + 0.1 * (slope - one) for one, slope in zip(first, slopes, strict=True)]
            second = [two + 0.001 * (slope * slope - two) for two, slope in zip(second, slopes, strict=True)]
            weights = [
                weight * (1 - rate * DECAY) - rate * (one / (1 - 0.9**step)) / (np.sqrt(two / (1 - 0.999**step)) + 1e-8)
                for weight, one, two in zip(weights, first, second, strict=True)
            ]
    return weights


def _slopes(weights: Sequence[_Singles], rows: _Singles, there: _Bools, wanted: _Singles) -> list[_Singles]:
    """How the mean cross entropy of the right ones among each list changes with each weight."""
    inner, shift, outer = weights
    units = np.tanh(rows @ inner + shift)
    logits = np.where(there, units @ outer, -np.inf)
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    error = (chance - wanted) / len(rows)
    back = error[:, :, None] * outer * (1 - units * units)
    return [
        np.tensordot(rows, back, axes=([0, 1], [0, 1])),
        back.sum(axis=(0, 1)),
        np.tensordot(error, units, axes=([0, 1], [0, 1])),
    ]
