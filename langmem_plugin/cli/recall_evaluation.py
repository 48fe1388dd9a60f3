"""`langmem-plugin eval recall`: its arguments, and what runs it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from langmem_plugin.cli.evaluation import Evaluation, Outcome, numbers, progress


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
    parser.add_argument(
        "--reranker", metavar="NAME", help="a cross-encoder for the best finds: a folder, a model's name"
    )
    parser.add_argument("--cache", type=Path, metavar="FILE", help="an .npz that keeps the embeddings between runs")
    parser.add_argument("--baselines", action="store_true", help="also requests that other ways would fill")


def run(arguments: argparse.Namespace) -> Outcome:
    """The table in Markdown, and the figures as plain JSON."""
    from langmem_plugin.config import MemoryConfig, RecallConfig
    from langmem_plugin.evaluation import metrics, recall, requests, rivals
    from langmem_plugin.evaluation.embedding import CachedEmbedder
    from langmem_plugin.evaluation.loaders import load
    from langmem_plugin.memory import Memory
    from langmem_plugin.rerankers import as_reranker

    embedder, reranker = None, as_reranker(arguments.reranker)
    if arguments.embedder:
        embedder = CachedEmbedder(arguments.embedder, cache=arguments.cache, progress=progress)
    conversations = load(arguments.data)
    # On a slow machine the same is found: no question's embedding is late.
    config = MemoryConfig(recall=RecallConfig(deadline_s=60.0))
    if arguments.level == "turns":
        rows = recall.turn_level(conversations, embedder=embedder, reranker=reranker, progress=progress)
    else:
        rows = requests.evidence_level(
            conversations,
            lambda clock: Memory.open(embedder=embedder, reranker=reranker, clock=clock, config=config),
            budgets=arguments.budget,
            progress=progress,
        )
        if arguments.baselines:
            rows += rivals.rivals_level(conversations, embedder=embedder, budgets=arguments.budget, progress=progress)
    if embedder is not None:
        embedder.save()
    return metrics.to_markdown(rows).rstrip(), [{"method": row.method, **row.figures} for row in rows]


def add_latency_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be set for `eval latency`."""
    parser.add_argument(
        "--messages", type=numbers, default=(1_000, 10_000, 100_000), metavar="N,N", help="(1000,10000,100000)"
    )
    parser.add_argument("--others", type=int, default=100, metavar="N", help="sessions of other owners (100)")
    parser.add_argument("--each", type=int, default=1_000, metavar="N", help="messages of each of them (1000)")
    parser.add_argument("--rounds", type=int, default=100, metavar="N", help="questions timed at each length (100)")


def run_latency(arguments: argparse.Namespace) -> Outcome:
    """`eval latency`."""
    from langmem_plugin.evaluation import latency

    rows = latency.measure(
        arguments.messages,
        others=arguments.others,
        each=arguments.each,
        rounds=arguments.rounds,
        progress=progress,
    )
    return latency.to_markdown(rows), [asdict(row) for row in rows]


LATENCY = Evaluation(
    name="latency",
    help="how long recall takes without the embedding, by length of session and beside other people's data",
    add_arguments=add_latency_arguments,
    run=run_latency,
)
