"""Evidence found, as any, all and share, and tables of such figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Figures of one method, gathered question by question; shares in 0..1."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def found(self, name: str, evidence: AbstractSet[str], got: AbstractSet[str], *, category: str = "") -> None:
        """Count one question: "any NAME", "all NAME", "frac NAME", the latter also by category."""
        share = len(evidence & got) / len(evidence)
        self.add(f"any{name}", float(share > 0))
        self.add(f"all{name}", float(share == 1))
        self.add(f"frac{name}", share)
        if category:
            self.add(f"frac{name} category {category}", share)

    def add(self, name: str, value: float) -> None:
        """Count one figure."""
        self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """The mean of each figure, in the order of first appearance, categories last and sorted."""
        names = sorted(self.values, key=lambda name: (" category " in name, name if " category " in name else ""))
        return {name: sum(self.values[name]) / len(self.values[name]) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table."""

    method: str
    figures: dict[str, float]


def to_markdown(rows: Sequence[Row], columns: Iterable[str] | None = None) -> str:
    """A Markdown table: shares as per cent with one decimal, other figures as they are."""
    if not rows:
        return ""
    names = list(columns) if columns is not None else list(dict.fromkeys(n for row in rows for n in row.figures))
    lines = ["| method | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in rows:
        cells = [_cell(name, row.figures.get(name)) for name in names]
        lines.append(f"| {row.method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_json(rows: Sequence[Row]) -> str:
    """The same figures for programs, unrounded."""
    return json.dumps([{"method": row.method, **row.figures} for row in rows], indent=1) + "\n"


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    share = name.startswith(("any", "all", "frac", "reuse", "need", "small"))
    return f"{100 * value:.1f}" if share else f"{value:,.1f}".removesuffix(".0")
