"""Learn when a message asks for the past: the weights of `langmem_plugin.recall.need`.

    python -m langmem_plugin.evaluation.fit_need --data locomo.json [--talk beam/] --embedder MODEL [--write]

Questions with evidence are what asks for the past; the turns of the conversations
themselves, each asked at its own place, are what mostly does not. `--talk` adds
conversations of another kind to the latter. Plain requests to remember ("what did I
tell you ...") hardly occur in the data; their weight is set by hand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from langmem_plugin.config import RecallConfig
from langmem_plugin.evaluation.embedding import CachedEmbedder
from langmem_plugin.evaluation.fit import Floats, fit_logistic, index_of, key_of
from langmem_plugin.evaluation.index import ListIndex
from langmem_plugin.evaluation.loaders import Conversation, load
from langmem_plugin.messages import Role
from langmem_plugin.models import Embedder
from langmem_plugin.recall import need_weights
from langmem_plugin.recall.need import FEATURES
from langmem_plugin.recall.rank import second_scores
from langmem_plugin.recall.recaller import Recaller, need_features

MEMORY: Final = 3.0
"""Weight of plain requests to remember, set by hand."""
_WARM_UP: Final = 20
_EVERY: Final = 3


def rows_of(
    conversations: Iterable[Conversation], index: ListIndex, embedder: Embedder | None, *, questions: bool
) -> tuple[Floats, list[int]]:
    """Features of the questions (or of the users' turns, asked where they stand), and their conversation's number."""
    recaller = Recaller(index, RecallConfig(deadline_s=60.0), vectors=index if embedder else None, embedder=embedder)
    rows: list[list[float]] = []
    groups: list[int] = []
    for group, conversation in enumerate(conversations):
        key, last = key_of(conversation), conversation.turns[-1].created_at
        if questions:
            asked: list[tuple[str, int | None, datetime]] = [
                (q.text, None, q.asked_at or last) for q in conversation.questions if q.evidence
            ]
        else:
            places = range(_WARM_UP, len(conversation.turns), _EVERY)
            turns = [(conversation.turns[place], place + 1) for place in places]
            asked = [(t.message.text, seq, t.created_at) for t, seq in turns if t.message.role is Role.USER]
        for text, before, now in asked:
            if (seen := recaller.look(key, text, before=before, now=now)) is not None:
                values = need_features(text, seen, second_scores(seen.features, meaning=seen.dense.meaning))
                rows.append([values[name] for name in FEATURES])
                groups.append(group)
    return np.array(rows).reshape(-1, len(FEATURES)), groups


def fit(asking: Floats, talking: Floats) -> tuple[Floats, float]:
    """Coefficients and bias; both kinds weigh the same."""
    rows = np.concatenate([asking, talking])
    labels = np.concatenate([np.ones(len(asking)), np.zeros(len(talking))])
    weights = np.where(labels > 0, 500 / max(1, len(asking)), 500 / max(1, len(talking)))
    fixed = FEATURES.index("memory")
    rows[:, fixed] = 0.0
    coefficients, bias = fit_logistic(rows, labels, weights)
    coefficients[fixed] = MEMORY
    return coefficients, bias


def shares(model: tuple[Floats, float], rows: Floats) -> Floats:
    """Need of each row."""
    needs: Floats = 1.0 / (1.0 + np.exp(-(rows @ model[0] + model[1])))
    return needs


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, report by held-out conversation, and with `--write` replace the weights."""
    parser = argparse.ArgumentParser(prog="python -m langmem_plugin.evaluation.fit_need", description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--talk", help="more conversations whose turns mostly do not ask for the past")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--cache")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args(arguments)
    data, talk = load(given.data), load(given.talk) if given.talk else []
    embedder = CachedEmbedder(given.embedder, cache=given.cache)
    index = index_of(data, embedder.embed)
    asked = [rows_of(data, index, leg, questions=True) for leg in (embedder, None)]
    said = [rows_of(data, index, leg, questions=False) for leg in (embedder, None)]
    other = rows_of(talk, index_of(talk, None), None, questions=False)[0]
    embedder.save()
    asking, talking = (np.concatenate([rows for rows, _ in both]) for both in (asked, said))
    asking_groups, talking_groups = (np.array([g for _, groups in both for g in groups]) for both in (asked, said))
    held_asking, held_talking = [], []
    for group in range(len(data)):
        model = fit(asking[asking_groups != group], np.concatenate([talking[talking_groups != group], other]))
        held_asking.append(shares(model, asking[asking_groups == group]))
        held_talking.append(shares(model, talking[talking_groups == group]))
    model = fit(asking, np.concatenate([talking, other]))
    report = []
    for name, needs in (
        ("questions, held out", np.concatenate(held_asking)),
        ("turns, held out", np.concatenate(held_talking)),
        ("other talk, fitted", shares(model, other)),
    ):
        if len(needs):
            low, middle, high = np.percentile(needs, [10, 50, 90])
            report.append(
                f"{name}: mean {needs.mean():.2f}, 10/50/90 % {low:.2f}/{middle:.2f}/{high:.2f}, "
                f"below 0.2: {100 * (needs < 0.2).mean():.0f} %"
            )
    sys.stdout.write("\n".join([*report, ""]))
    if given.write:
        Path(need_weights.__file__).write_text(describe(model, "\n".join(report)), encoding="utf-8")
    return 0


def describe(model: tuple[Floats, float], note: str) -> str:
    """The text of `langmem_plugin/recall/need_weights.py`."""
    weights = "".join(f'    "{n}": {v:.4f},\n' for n, v in zip(FEATURES, model[0].tolist(), strict=True))
    return (
        '"""Weights of the need model, written by `python -m langmem_plugin.evaluation.fit_need`.\n\n'
        f'Fitted on LoCoMo-style questions against turns.\n{note}\n"""\n\n'
        "from __future__ import annotations\n\nfrom typing import Final\n\n"
        f'NEED: Final[dict[str, float]] = {{\n{weights}    "bias": {model[1]:.4f},\n}}\n'
    )


if __name__ == "__main__":
    sys.exit(main())
