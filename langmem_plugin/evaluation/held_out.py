"""Evidence in requests, each conversation ranked by weights that never saw it.

    python -m langmem_plugin.evaluation.held_out --data locomo/ --embedder MODEL [--budget 1000,2000,4000]

`eval recall` measures the shipped weights, which were fitted on all conversations of
the development half; this fits them anew without the conversation that is asked about.
The weights of need (`fit_need`) are the shipped ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

from langmem_plugin.config import MemoryConfig, RecallConfig
from langmem_plugin.evaluation.embedding import CachedEmbedder
from langmem_plugin.evaluation.fit import collect, fit, index_of
from langmem_plugin.evaluation.loaders import load
from langmem_plugin.evaluation.metrics import Row, to_markdown
from langmem_plugin.evaluation.recall import asked
from langmem_plugin.evaluation.requests import evidence_level
from langmem_plugin.memory import Memory
from langmem_plugin.recall import rank
from langmem_plugin.recall.features import DENSE
from langmem_plugin.recall.weights import WEIGHTS


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and measure, conversation by conversation."""
    parser = argparse.ArgumentParser(prog="python -m langmem_plugin.evaluation.held_out", description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--cache", help="an .npz that keeps the embeddings between runs")
    parser.add_argument("--budget", default="1000,2000,4000", help="tokens, between commas")
    given = parser.parse_args(arguments)
    budgets = [int(part) for part in given.budget.split(",")]
    embedder = CachedEmbedder(given.embedder, cache=given.cache)
    conversations = [
        replace(one, questions=tuple(q for q in one.questions if q.category != "5")) for one in load(given.data)
    ]
    samples = collect(conversations, index_of(conversations, embedder.embed), embedder)
    config = MemoryConfig(recall=RecallConfig(deadline_s=60.0))
    parts: list[tuple[int, list[Row]]] = []
    for group, conversation in enumerate(conversations):
        models = fit([sample for sample in samples if sample.group != group])
        rough = dict(zip(DENSE, models.rough.tolist(), strict=True))
        with patch.dict(WEIGHTS, {"both": rough}), patch.object(rank, "net_of", lambda _, net=models.net: net):
            rows = evidence_level(
                [conversation],
                lambda clock: Memory.open(embedder=embedder, clock=clock, config=config),
                budgets=budgets,
                progress=lambda line: print(line, file=sys.stderr),
            )
        parts.append((sum(1 for _ in asked([conversation])), rows))
    embedder.save()
    total = sum(count for count, _ in parts)
    means = [
        Row(
            method=rows[0].method,
            figures={
                name: sum(count * row.figures[name] for (count, _), row in zip(parts, rows, strict=True)) / total
                for name in ("any", "all", "frac", "tokens", "over budget")
            },
        )
        for rows in zip(*(rows for _, rows in parts), strict=True)
    ]
    sys.stdout.write(to_markdown(means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
