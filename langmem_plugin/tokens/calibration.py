"""What providers report, against what was counted: a correction that only ever makes counts larger."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

_SMALL = 256
"""Requests of fewer tokens teach what a provider adds once; larger ones what it adds everywhere."""
_STEP = 0.01
"""The ratio is rounded up to a multiple of this, so that it seldom moves (guarantee G13)."""
_MOST = 3.0
"""A report beyond this many times the count is of something else, such as several requests at once."""
_MOST_EXTRA = 1_024


@dataclass(frozen=True, slots=True)
class Correction:
    """From counted to reported tokens: `ratio * counted + extra`."""

    ratio: float = 1.0
    extra: int = 0
    seen: int = 0
    """Requests that taught it."""

    def tokens(self, counted: int) -> int:
        """What the provider may count at most for what was counted here."""
        return math.ceil(self.ratio * counted - 1e-9) + self.extra

    def fitting(self, tokens: int) -> int:
        """The largest count that the provider sees as at most `tokens`."""
        return max(0, math.floor((tokens - self.extra) / self.ratio + 1e-9))


class Calibration:
    """Corrections by model; thread-safe.

    A request like one that was reported is never counted as less than the provider said.

    Example:
        >>> calibration = Calibration()
        >>> correction = calibration.observe(counted=1_000, reported=1_100, model="m")
        >>> calibration.fitting(1_100)
        1000
    """

    def __init__(self, known: Mapping[str, Correction] | None = None) -> None:
        """Begin with what was learned before, by model."""
        self._lock = threading.Lock()
        self._by_model: dict[str, Correction] = dict(known or {})

    def observe(self, *, counted: int, reported: int, model: str = "") -> Correction | None:
        """Learn from one request; a provider that counted less teaches nothing.

        Args:
            counted: Tokens of the request by this package's counter.
            reported: Tokens by the provider's report.
            model: Whose report it is.

        Returns:
            The model's correction if this made it larger.
        """
        if counted <= 0 or reported <= 0:
            return None
        with self._lock:
            known = self._by_model.get(model, Correction())
            ratio, extra = known.ratio, known.extra
            if reported > known.tokens(counted):
                if counted < _SMALL:
                    extra = min(_MOST_EXTRA, extra + reported - known.tokens(counted))
                elif reported <= _MOST * counted:
                    ratio = max(ratio, math.ceil((reported - extra) / counted / _STEP - 1e-9) * _STEP)
            learned = self._by_model[model] = Correction(ratio, extra, known.seen + 1)
            return learned if (ratio, extra) != (known.ratio, known.extra) else None

    def fitting(self, tokens: int) -> int:
        """The largest count that every model seen so far counts as at most `tokens`."""
        with self._lock:
            return min((one.fitting(tokens) for one in self._by_model.values()), default=tokens)

    def corrections(self) -> Mapping[str, Correction]:
        """What was learned, by model."""
        with self._lock:
            return dict(self._by_model)
