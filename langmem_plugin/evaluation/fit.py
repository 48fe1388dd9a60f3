"""Learn the weights of `langmem_plugin.recall` from conversations with known evidence.

    python -m langmem_plugin.evaluation.fit --data locomo.json --embedder MODEL [--write]

Two logistic regressions a case (with and without vectors): a rough one over every
message, and one over the candidates that it lets through. Each question weighs the
same. Reported figures are cross-validated by conversation: a conversation is always
ranked by weights that never saw it. `--write` refits on all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.embedding import CachedEmbedder
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.evaluation.loaders import Conversation, load
from langmem_plugin.models import Embedder
from langmem_plugin.recall import weights as rank_weights
from langmem_plugin.recall.features import DENSE, NEAR
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import Entry, SessionKey

Floats = npt.NDArray[np.float64]

CANDIDATES: Final = 150
NEGATIVES: Final = 3.0
"""Weight of all wrong candidates of a question together; the right ones weigh 1."""
RIDGE: Final = 10.0
SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Sample:
    """One question: features of every message, and which of them are evidence."""

    group: int
    category: str
    features: Floats
    evidence: npt.NDArray[np.bool_]


def index_of(
    conversations: Sequence[Conversation], embed: Callable[[Sequence[str]], npt.NDArray[np.float32]] | None
) -> ListIndex:
    """All conversations in memory, with vectors if there is an embedder."""
    index = ListIndex()
    for conversation in conversations:
        key = key_of(conversation)
        entries = [
            Entry(seq=seq, turn=turn.id, message=turn.message, tokens=0, created_at=turn.created_at)
            for seq, turn in enumerate(conversation.turns, start=1)
        ]
        index.add(key, entries)
        if embed is not None and entries:
            vectors = embed([embedded_text(entry.message) for entry in entries])
            index.set_vectors(key, np.arange(1, len(entries) + 1), vectors)
    return index


def key_of(conversation: Conversation) -> SessionKey:
    """The session that holds a conversation."""
    return SessionKey("evaluation", conversation.id)


def collect(conversations: Sequence[Conversation], index: ListIndex, embedder: Embedder | None) -> list[Sample]:
    """Features of every message for every question that has evidence."""
    recaller = Recaller(index, RecallConfig(deadline_s=60.0), vectors=index if embedder else None, embedder=embedder)
    samples: list[Sample] = []
    for group, conversation in enumerate(conversations):
        size = len(conversation.turns)
        seqs = {turn.id: seq for seq, turn in enumerate(conversation.turns, start=1)}
        for question in conversation.questions:
            right = [seqs[turn] - 1 for turn in question.evidence if turn in seqs]
            now = question.asked_at or conversation.turns[-1].created_at
            seen = recaller.look(key_of(conversation), question.text, now=now, candidates=size) if right else None
            if seen is None or len(seen.seqs) != size:
                continue
            evidence = np.zeros(size, dtype=bool)
            evidence[right] = True
            samples.append(Sample(group, question.category, seen.features, evidence))
    return samples


def fit_logistic(rows: Floats, labels: Floats, weights: Floats, *, ridge: float = RIDGE) -> tuple[Floats, float]:
    """Weighted ridge logistic regression by Newton's method: coefficients of the raw columns, and the bias."""
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    used = spread > 1e-9
    scaled = np.zeros_like(rows)
    scaled[:, used] = (rows[:, used] - mean[used]) / spread[used]
    design = np.concatenate([scaled, np.ones((len(rows), 1))], axis=1)
    penalty = np.diag([*[ridge] * rows.shape[1], 1e-6])
    found = np.zeros(design.shape[1])
    for _ in range(12):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ found, -30, 30)))
        slope = design.T @ (weights * (chance - labels)) + penalty @ found
        curve = (design * (weights * chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve, slope)
        found -= step
        if float(np.abs(step).max()) < 1e-5:
            break
    raw = np.zeros(rows.shape[1])
    raw[used] = found[:-1][used] / spread[used]
    return raw, float(found[-1] - raw @ mean)


def fit_step(
    samples: Sequence[Sample], columns: Sequence[int], candidates: Sequence[npt.NDArray[np.int64]]
) -> tuple[Floats, float]:
    """Fit one step: evidence against the other candidates of the same question."""
    rows, labels, weights = [], [], []
    for sample, chosen in zip(samples, candidates, strict=True):
        right = np.flatnonzero(sample.evidence)
        wrong = chosen[~sample.evidence[chosen]]
        if not len(wrong):
            continue
        rows.append(sample.features[np.concatenate([right, wrong])][:, list(columns)])
        labels.append(np.concatenate([np.ones(len(right)), np.zeros(len(wrong))]))
        weights.append(
            np.concatenate([np.full(len(right), 1 / len(right)), np.full(len(wrong), NEGATIVES / len(wrong))])
        )
    return fit_logistic(np.concatenate(rows), np.concatenate(labels), np.concatenate(weights))


FIRST: Final = tuple(range(len(DENSE)))
SECOND: Final = tuple(range(len(DENSE) + len(NEAR)))


def fit(samples: Sequence[Sample]) -> dict[str, tuple[Floats, float]]:
    """Both steps: "first" and "second" -> coefficients and bias."""
    draw = np.random.default_rng(SEED)
    wide = [draw.permutation(len(s.evidence))[:CANDIDATES] for s in samples]
    first = fit_step(samples, FIRST, wide)
    passed = [_top(s.features[:, list(FIRST)] @ first[0], CANDIDATES) for s in samples]
    first = fit_step(samples, FIRST, [np.union1d(a, b[:CANDIDATES]) for a, b in zip(passed, wide, strict=True)])
    passed = [_top(s.features[:, list(FIRST)] @ first[0], CANDIDATES) for s in samples]
    return {"first": first, "second": fit_step(samples, SECOND, passed)}


def rank(sample: Sample, models: dict[str, tuple[Floats, float]]) -> npt.NDArray[np.int64]:
    """Messages (from 0) as recall would rank them with these weights."""
    passed = _top(sample.features[:, list(FIRST)] @ models["first"][0], CANDIDATES)
    scores = sample.features[passed] @ models["second"][0]
    return passed[np.argsort(-scores, kind="stable")]


def _top(scores: Floats, count: int) -> npt.NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:count]


def cross_validate(
    samples: Sequence[Sample], *, fit: Callable[..., dict[str, tuple[Floats, float]]] = fit
) -> dict[str, float]:
    """any, all and frac at several k, each conversation ranked by weights fitted on the others; per cent."""
    sums: dict[str, list[float]] = {}
    for group in sorted({sample.group for sample in samples}):
        models = fit([sample for sample in samples if sample.group != group])
        for sample in samples:
            if sample.group != group:
                continue
            hits = sample.evidence[rank(sample, models)]
            total = sample.evidence.sum()
            for k in (5, 10, 20, 50, 100):
                share = float(hits[:k].sum() / total)
                sums.setdefault(f"any@{k}", []).append(float(share > 0))
                sums.setdefault(f"all@{k}", []).append(float(share == 1))
                sums.setdefault(f"frac@{k}", []).append(share)
                if k == 10:
                    sums.setdefault(f"frac@10/{sample.category}", []).append(share)
    return {name: round(100 * sum(values) / len(values), 1) for name, values in sums.items()}


GROUPS: Final = {
    "neighbours": ("prev", "next", "around", "coverage_2"),
    "question and answer": ("answers", "asks"),
    "speaker": ("speaker",),
    "time": ("when", "time"),
    "form of the text": ("substance", "specific", "self"),
    "sitting": ("sitting",),
    "vectors": ("meaning",),
}
"""What `--ablate` leaves out, by parts of the features' names."""


def without(samples: Sequence[Sample], parts: Sequence[str]) -> list[Sample]:
    """The samples as if some features did not exist."""
    gone = [place for place, name in enumerate(DENSE + NEAR) if any(part in name for part in parts)]
    found = []
    for sample in samples:
        features = sample.features.copy()
        features[:, gone] = 0.0
        found.append(replace(sample, features=features))
    return found


def ablation(samples: Sequence[Sample]) -> str:
    """A Markdown table of cross-validated figures without each group of features."""
    columns = ("any@10", "frac@10", "frac@20", "frac@50", "frac@10/1")
    lines = ["| without | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name, parts in {"(nothing)": (), **GROUPS}.items():
        figures = cross_validate(without(samples, parts))
        lines.append(f"| {name} | " + " | ".join(f"{figures.get(column, 0.0):.1f}" for column in columns) + " |")
        sys.stderr.write(f"without {name}\n")
    return "\n".join([*lines, ""])


def describe(models: dict[str, dict[str, tuple[Floats, float]]], note: str) -> str:
    """The text of `langmem_plugin/recall/weights.py`."""
    lines = [
        '"""Weights of the ranking models, written by `python -m langmem_plugin.evaluation.fit`.',
        "",
        note,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "WEIGHTS: Final[dict[str, dict[str, float]]] = {",
    ]
    names = {"first": DENSE, "second": DENSE + NEAR}
    for legs, steps in models.items():
        for step, (coefficients, bias) in steps.items():
            lines.append(f'    "{step}/{legs}": {{')
            for name, value in zip(names[step], coefficients.tolist(), strict=True):
                if value:
                    lines.append(f'        "{name}": {value:.4f},')
            lines += [f'        "bias": {bias:.4f},', "    },"]
    return "\n".join([*lines, "}", ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, report, and with `--write` replace the weights."""
    parser = argparse.ArgumentParser(prog="python -m langmem_plugin.evaluation.fit", description=__doc__)
    parser.add_argument("--data", required=True, help="LoCoMo, LongMemEval, BEAM or JSON Lines")
    parser.add_argument("--embedder", required=True, help="a sentence-transformers model or its folder")
    parser.add_argument("--cache", help="an .npz that keeps the embeddings between runs")
    parser.add_argument("--skip", default="5", help="question categories left out, comma separated")
    parser.add_argument("--ablate", action="store_true", help="also cross-validate without each group of features")
    parser.add_argument("--write", action="store_true", help="refit on everything and replace the weights")
    given = parser.parse_args(arguments)
    skip = set(given.skip.split(","))
    conversations = [
        replace(one, questions=tuple(q for q in one.questions if q.category not in skip)) for one in load(given.data)
    ]
    embedder = CachedEmbedder(given.embedder, cache=given.cache)
    index = index_of(conversations, embedder.embed)
    both, keyword = collect(conversations, index, embedder), collect(conversations, index, None)
    embedder.save()
    figures: dict[str, dict[str, float]] = {}
    for legs, samples in (("both", both), ("keyword", keyword)):
        figures[legs] = cross_validate(samples)
        sys.stdout.write(f"{legs}, {len(samples)} questions, cross-validated: {figures[legs]}\n")
    if given.ablate:
        sys.stdout.write(ablation(both))
    if given.write:
        note = (
            f"Fitted on {len(both)} questions of {len(conversations)} conversations of {Path(given.data).name}\n"
            f"({', '.join(one.id for one in conversations)}), embedder {Path(given.embedder).name}.\n"
            f"Cross-validated by conversation: {_shown(figures['both'])} with vectors,\n"
            f"{_shown(figures['keyword'])} without."
        )
        text = describe({"both": fit(both), "keyword": fit(keyword)}, note)
        Path(rank_weights.__file__).write_text(text, encoding="utf-8")
    return 0


def _shown(figures: dict[str, float]) -> str:
    return f"any@10 {figures['any@10']}, frac@10 {figures['frac@10']}"


if __name__ == "__main__":
    sys.exit(main())
