"""Learn the weights of `langmem_plugin.recall` from conversations with known evidence.

    python -m langmem_plugin.evaluation.fit --data locomo.json --embedder MODEL [--write]

Two steps a case (with and without vectors): a logistic regression over every message,
and a small net over the candidates that it lets through, trained to rank each
question's list and then put on one scale. Each question weighs the same. Reported
figures are cross-validated by conversation: a conversation is always ranked by weights
that never saw it. `--write` refits on all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.embedding import CachedEmbedder
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.evaluation.loaders import Conversation, load
from langmem_plugin.evaluation.train_net import train_net
from langmem_plugin.models import Embedder
from langmem_plugin.recall import weights as rank_weights
from langmem_plugin.recall.features import DENSE, NEAR
from langmem_plugin.recall.indexed import embedded_text
from langmem_plugin.recall.net import Net
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


@dataclass(frozen=True, slots=True)
class Models:
    """Both steps of ranking."""

    rough: Floats
    """Coefficients of `DENSE`."""
    bias: float
    net: Net


def _lists(
    samples: Sequence[Sample], candidates: Sequence[npt.NDArray[np.int64]], columns: int
) -> tuple[list[Floats], list[int]]:
    """Of each question: the rows of its evidence, then those of the other candidates; and how many are evidence."""
    lists, right = [], []
    for sample, chosen in zip(samples, candidates, strict=True):
        wrong = chosen[~sample.evidence[chosen]]
        if len(wrong):
            evidence = np.flatnonzero(sample.evidence)
            lists.append(sample.features[np.concatenate([evidence, wrong])][:, :columns])
            right.append(len(evidence))
    return lists, right


def _labelled(lists: Sequence[Floats], right: Sequence[int]) -> tuple[Floats, Floats]:
    """Labels and weights of the rows of all lists, one after the other."""
    wrong = [len(one) - count for one, count in zip(lists, right, strict=True)]
    pairs = list(zip(right, wrong, strict=True))
    labels = [np.concatenate([np.ones(good), np.zeros(bad)]) for good, bad in pairs]
    weights = [np.concatenate([np.full(good, 1 / good), np.full(bad, NEGATIVES / bad)]) for good, bad in pairs]
    return np.concatenate(labels), np.concatenate(weights)


def fit_rough(samples: Sequence[Sample], candidates: Sequence[npt.NDArray[np.int64]]) -> tuple[Floats, float]:
    """The first step: evidence against the other candidates of the same question."""
    lists, right = _lists(samples, candidates, len(DENSE))
    return fit_logistic(np.concatenate(lists), *_labelled(lists, right))


def fit_net(samples: Sequence[Sample], candidates: Sequence[npt.NDArray[np.int64]]) -> Net:
    """The second step, whose logits are on one scale for all questions."""
    lists, right = _lists(samples, candidates, len(DENSE + NEAR))
    net = train_net(lists, right, seed=SEED)
    logits = net.logits(np.concatenate(lists))
    (scale,), bias = fit_logistic(logits[:, None], *_labelled(lists, right), ridge=0.01)
    return Net(net.inner, net.shift, net.outer * scale, bias)


def fit(samples: Sequence[Sample]) -> Models:
    """Both steps."""
    draw = np.random.default_rng(SEED)
    wide = [draw.permutation(len(s.evidence))[:CANDIDATES] for s in samples]
    rough = fit_rough(samples, wide)
    passed = [_passed(s, rough[0]) for s in samples]
    rough = fit_rough(samples, [np.union1d(a, b) for a, b in zip(passed, wide, strict=True)])
    return Models(*rough, fit_net(samples, [_passed(s, rough[0]) for s in samples]))


def rank(sample: Sample, models: Models) -> npt.NDArray[np.int64]:
    """Messages (from 0) as recall would rank them with these weights."""
    passed = _passed(sample, models.rough)
    return passed[np.argsort(-models.net.logits(sample.features[passed]), kind="stable")]


def _passed(sample: Sample, rough: Floats) -> npt.NDArray[np.int64]:
    return np.argsort(-(sample.features[:, : len(DENSE)] @ rough), kind="stable")[:CANDIDATES]


def cross_validate(samples: Sequence[Sample]) -> dict[str, float]:
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
    "vectors": ("meaning", "window"),
    "what three messages say together": ("window",),
    "place in the session": ("place",),
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


def describe(models: Mapping[str, Models], note: str) -> str:
    """The text of `langmem_plugin/recall/weights.py`."""
    lines = [
        '"""Weights of the first step of ranking, written by `python -m langmem_plugin.evaluation.fit`.',
        "",
        "Beside it lie `net_both.txt` and `net_keyword.txt`, the second step.",
        note,
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "WEIGHTS: Final[dict[str, dict[str, float]]] = {",
    ]
    for legs, both in models.items():
        lines.append(f'    "{legs}": {{')
        lines += [
            f'        "{name}": {value:.4f},' for name, value in zip(DENSE, both.rough.tolist(), strict=True) if value
        ]
        lines += [f'        "bias": {both.bias:.4f},', "    },"]
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
        models = {"both": fit(both), "keyword": fit(keyword)}
        beside = Path(rank_weights.__file__)
        beside.write_text(describe(models, note), encoding="utf-8")
        for legs, model in models.items():
            beside.with_name(f"net_{legs}.txt").write_text(model.net.written(DENSE + NEAR), encoding="utf-8")
    return 0


def _shown(figures: dict[str, float]) -> str:
    return f"any@10 {figures['any@10']}, frac@10 {figures['frac@10']}"


if __name__ == "__main__":
    sys.exit(main())
