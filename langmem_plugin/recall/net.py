"""The ranker: features of a message -> how likely it holds what the query asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from langmem_plugin.recall.bm25 import Floats


@dataclass(frozen=True, slots=True)
class Net:
    """One layer of tanh units and a linear one: small enough to be read, and for a few hundred rows at no cost."""

    inner: Floats
    """One row a feature, one column a unit."""
    shift: Floats
    """Of each unit."""
    outer: Floats
    """What each unit adds."""
    bias: float

    def logits(self, rows: Floats) -> Floats:
        """One figure a row; above 0 the message is more likely right than not.

        Args:
            rows: One row a message, one column a feature.
        """
        found: Floats = np.tanh(rows @ self.inner + self.shift) @ self.outer + self.bias
        return found

    @classmethod
    def read(cls, text: str, names: Sequence[str]) -> Self:
        """From lines of a name and numbers: each feature, then `shift`, `outer` and `bias`.

        Args:
            text: What `written` gave.
            names: The features in the order of the columns; one without a line counts nothing.
        """
        lines = {parts[0]: [float(part) for part in parts[1:]] for line in text.splitlines() if (parts := line.split())}
        none = [0.0] * len(lines["shift"])
        return cls(
            np.array([lines.get(name, none) for name in names]),
            np.array(lines["shift"]),
            np.array(lines["outer"]),
            lines["bias"][0],
        )

    def written(self, names: Sequence[str]) -> str:
        """The net as text, four digits a number."""
        rows = [*zip(names, self.inner.tolist(), strict=True), ("shift", self.shift.tolist())]
        rows += [("outer", self.outer.tolist()), ("bias", [self.bias])]
        return "".join(f"{name} {' '.join(f'{value:.4g}' for value in row)}\n" for name, row in rows if any(row))
