"""`langmem-plugin eval recall`: its arguments, and what runs it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be set beside the conversations and budgets."""
    parser.add_argument(
        "--embedder", metavar="NAME", help='recall by meaning, too: "chroma", a folder, a model\'s name'
    )
    parser.add_argument(
        "--level",
        choices=("requests", "turns"),
        default="requests",
        help="evidence within requests of a budget, or in the first turns found, beside baselines (requests)",
    )
    parser.add_argument("--cache", type=Path, metavar="FILE", help="an .npz that keeps the embeddings between runs")
    parser.add_argument("--baselines", action="store_true", help="also requests that other ways would fill")


def run(arguments: argparse.Namespace, progress: Callable[[str], None]) -> tuple[str, Any]:
    """The table in Markdown, and the figures as plain JSON."""
    from langmem_plugin.config import MemoryConfig, RecallConfig
    from langmem_plugin.evaluation import metrics, recall, requests, rivals
    from langmem_plugin.evaluation.embedding import CachedEmbedder
    from langmem_plugin.evaluation.loaders import load
    from langmem_plugin.memory import Memory

    embedder = None
    if arguments.embedder:
        embedder = CachedEmbedder(arguments.embedder, cache=arguments.cache, progress=progress)
    conversations = load(arguments.data)
    # On a slow machine the same is found: no question's embedding is late.
    config = MemoryConfig(recall=RecallConfig(deadline_s=60.0))
    if arguments.level == "turns":
        rows = recall.turn_level(conversations, embedder=embedder, progress=progress)
    else:
        rows = requests.evidence_level(
            conversations,
            lambda clock: Memory.open(embedder=embedder, clock=clock, config=config),
            budgets=arguments.budget,
            progress=progress,
        )
        if arguments.baselines:
            rows += rivals.rivals_level(conversations, embedder=embedder, budgets=arguments.budget, progress=progress)
    if embedder is not None:
        embedder.save()
    return metrics.to_markdown(rows).rstrip(), [{"method": row.method, **row.figures} for row in rows]
