"""Writes docs/frameworks.md from the matrix that the tests run: `python tests/matrix/table.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parents[1] / "docs" / "frameworks.md"
VERSIONS = FOLDER / "versions.md"
"""What `make versions` found, as it wrote it."""

_HEAD = """\
# Frameworks

Every way into LangChain and LlamaIndex that we know, against every promise that a framework can break. Each ✓ is a test
that ran: `pytest tests/matrix`. This page is written by `python tests/matrix/table.py`, and a test compares the two.

Requests are recorded at the model, after the framework did to them what it does. What reaches the model as a
provider's payload (OpenAI, Anthropic, Gemini, through each framework's own package) is checked by
`tests/matrix/test_payloads.py`.
"""


def load_matrix() -> tuple[Any, list[Any]]:
    """The kit and every way, LangChain's first."""
    if "matrix_kit" not in sys.modules:
        spec = importlib.util.spec_from_file_location("matrix_kit", FOLDER / "kit.py")
        kit = importlib.util.module_from_spec(spec)
        sys.modules["matrix_kit"] = kit
        spec.loader.exec_module(kit)
    kit = sys.modules["matrix_kit"]
    rows = []
    for name in ("langchain_ways", "llama_index_ways"):
        rows += kit.load(FOLDER / f"{name}.py", f"matrix_{name}").WAYS
    return kit, rows


def render() -> str:
    """The page."""
    kit, rows = load_matrix()
    notes: dict[str, int] = {}

    def note(reason: str) -> int:
        return notes.setdefault(reason, len(notes) + 1)

    def cell(way: Any, column: str) -> str:
        if column in way.absent:
            return f"– [{note(way.absent[column])}](#notes)"
        if column in way.except_:
            return f"✗ [{note(way.except_[column])}](#notes)"
        if column == "budget" and way.extra:
            return f"✓ [{note(way.why_extra)}](#notes)"
        if column == "exactly once" and not way.history:
            return f"✓ [{note(way.why_no_history)}](#notes)"
        return "✓"

    lines = [_HEAD]
    for framework in ("LangChain", "LlamaIndex"):
        columns = list(kit.COLUMNS)
        lines += [f"\n## {framework}\n", f"| way in | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        lines += [
            f"| {way.name.replace('|', '&#124;')} | {' | '.join(cell(way, column) for column in columns)} |"
            for way in rows
            if way.framework == framework
        ]
    lines += ["\n## Columns\n"]
    lines += [f"- **{name}**: {check.__doc__}" for name, check in kit.COLUMNS.items()]
    lines += ["\n## Notes\n", *(f"{number}. {reason}" for reason, number in notes.items())]
    lines += ["", VERSIONS.read_text(encoding="utf-8").rstrip()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
