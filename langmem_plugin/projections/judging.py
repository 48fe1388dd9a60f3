"""A language model's opinion of a summary: do sampled messages still stand in it? Off unless asked for."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from langmem_plugin.errors import ModelFailed
from langmem_plugin.models import ChatModel

_JSON = re.compile(r"\{.*\}", re.DOTALL)
_ANSWER_TOKENS = 400
_MOST_CHARS = 1_200
"""Of each sampled message; a judge that reads all of a long one costs as much as the summary."""
_LEAST_WORDS = 4
"""Shorter messages say too little to look for."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge said."""

    score: float
    """0..1"""
    missing: str


def judge(model: ChatModel, prompt: str, notes: str, messages: Sequence[str], *, sample: int) -> Judged | None:
    """Have a model say how much of some messages the notes still hold.

    Args:
        model: Who judges.
        prompt: With the fields `notes` and `messages`.
        notes: What is judged.
        messages: What was read; the same messages give the same sample.
        sample: How many of them are looked at.

    Returns:
        None if there is nothing to look at, or the answer cannot be read: then nobody judged.

    Raises:
        ModelFailed: The model does not answer.
    """
    worth = [message[:_MOST_CHARS] for message in messages if len(message.split()) >= _LEAST_WORDS]
    if not worth:
        return None
    chosen = random.Random("\n".join(worth)).sample(worth, min(sample, len(worth)))  # noqa: S311 - guards nothing
    listed = "\n".join(f"{place}. {message}" for place, message in enumerate(chosen, start=1))
    return _read(model.complete("", prompt.format(notes=notes, messages=listed), max_tokens=_ANSWER_TOKENS))


def asked_in_vain(score: float, least: float) -> ModelFailed:
    """What is raised when a second summary is judged too thin as well."""
    return ModelFailed("summariser", f"its summary was judged {score:.2f}, not {least:.2f}")


def _read(answer: str) -> Judged | None:
    found = _JSON.search(answer)
    try:
        said = json.loads(found[0]) if found is not None else None
        score = float(said["score"]) if isinstance(said, dict) else -1.0
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(said, dict) or not 0.0 <= score <= 1.0:
        return None
    missing = said.get("missing", "")
    parts = missing if isinstance(missing, list) else [missing]
    return Judged(score, "; ".join(str(part) for part in parts if part)[:2_000])
