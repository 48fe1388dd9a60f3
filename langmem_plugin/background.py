"""What a memory does behind its conversations, put together from its models and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from langmem_plugin.config import MemoryConfig, SummaryConfig
from langmem_plugin.context.window import plan
from langmem_plugin.measures import Observers
from langmem_plugin.models import ChatModel, Embedder
from langmem_plugin.projections.consolidation import ConsolidationProjection
from langmem_plugin.projections.lane import Projection
from langmem_plugin.projections.refinement import Refined, RefinementProjection
from langmem_plugin.projections.summary import SummaryProjection
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vectors import VectorProjection
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.records import Entry, Head
from langmem_plugin.store.protocol import Store
from langmem_plugin.tokens import TokenCounter


def projections_of(
    store: Store,
    *,
    config: MemoryConfig,
    counter: TokenCounter,
    summarizer: ChatModel | None,
    embedder: Embedder | None,
    vectors: VectorIndex | None,
    extractor: ChatModel | None,
    clock: Callable[[], datetime],
    refined: Refined,
    told: Observers,
) -> tuple[Projection, ...]:
    """The projections that these models and settings ask for."""
    found: list[Projection] = []
    leaving = _Leaving(config)
    if config.summary.enabled:
        found.append(
            SummaryProjection(
                store,
                model=summarizer,
                plan=leaving.plan,
                high=leaving.high,
                counter=counter,
                config=_fitting(config),
                told=told,
                alone=store.alone,
            )
        )
    if vectors is not None and embedder is not None:
        found.append(VectorProjection(store, embedder, vectors, text=embedded_text))
    if extractor is not None and config.constraints.enabled:
        found.append(
            RefinementProjection(store, model=extractor, config=config.constraints, clock=clock, listener=refined)
        )
        if config.constraints.when_full == "consolidate":
            found.append(
                ConsolidationProjection(store, model=extractor, config=config, count=counter.count, clock=clock)
            )
    return tuple(found)


class _Leaving:
    """What should leave a session's window."""

    def __init__(self, config: MemoryConfig) -> None:
        self._config = config

    def plan(self, head: Head, entries: Sequence[Entry]) -> int:
        """The last of these entries that should leave; 0 for none."""
        return plan(entries, high=self.high(head), low=int(self._room(head) * self._config.window.low))

    def high(self, head: Head) -> int:
        """Tokens up to which nothing leaves."""
        return int(self._room(head) * self._config.window.high)

    def _room(self, head: Head) -> int:
        return head.history_tokens or self._config.budget.prompt


def worked_with(summarizer: ChatModel | None, embedder: Embedder | None, extractor: ChatModel | None) -> str:
    """What tells a worker that another one, with other models, has left work to do."""
    models = (("summary", summarizer), ("vectors", embedder), ("constraints", extractor))
    return " ".join(f"{what}={one.name}" for what, one in models if one is not None)


def _fitting(config: MemoryConfig) -> SummaryConfig:
    """The summary's settings, its length bounded by what the budget lets into a request."""
    most = max(32, min(config.summary.max_tokens, config.budget.tokens("summary")))
    return config.summary.model_copy(update={"max_tokens": most})
