"""Whether a runnable has a LangGraph graph anywhere in it: what runs a graph again may run its tools again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 32


def holds_graph(runnable: Any, depth: int = 0) -> bool:
    """True for a graph, and for a sequence, binding, parallel, branch or fallback that holds one.

    A graph that a function calls by itself is not seen.
    """
    if type(runnable).__module__.partition(".")[0] == "langgraph":
        return True
    return depth < _DEEPEST and any(holds_graph(part, depth + 1) for part in _parts(runnable))


def _parts(runnable: Any) -> Iterator[Any]:
    for name in ("steps", "steps__", "bound", "runnable", "default", "fallbacks", "branches", "mapper"):
        part = getattr(runnable, name, None)
        if isinstance(part, Mapping):
            yield from part.values()
        elif isinstance(part, (list, tuple)):
            for one in part:
                yield from one if isinstance(one, tuple) else (one,)
        elif part is not None and callable(getattr(part, "invoke", None)):
            yield part
