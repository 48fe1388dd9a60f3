"""How much of what was said a summary still holds; no model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from langmem_plugin.context.facts import Fact, Holdings, facts_of
from langmem_plugin.context.sentences import sentences, spoken
from langmem_plugin.messages import Message


def retention(source: Sequence[Message], summary: str, constraints: Sequence[str] = ()) -> float:
    """The share of the source's facts that the summary or the constraints still hold.

    Facts are the distinct names, numbers, dates, decisions and negations that rules find;
    each counts once. Compare summaries of one source with it, not summaries of different ones.

    Returns:
        0..1; 1.0 for a source without facts.
    """
    wanted = source_facts(source)
    return 1.0 - len(missing_facts(wanted, summary, constraints)) / len(wanted) if wanted else 1.0


def missing_facts(wanted: Sequence[Fact], summary: str, constraints: Sequence[str] = ()) -> list[Fact]:
    """Those of the facts that neither the summary nor the constraints hold, in order."""
    held = Holdings([sentence for text in (summary, *constraints) for sentence in sentences(text)])
    return [fact for fact in wanted if not held.hold(fact)]


def named(found: Sequence[Fact], *, limit: int = 40) -> str:
    """The facts in words, for a model that is to add them; at most `limit`."""
    words = (f"{fact.kind.value} {' '.join(sorted(fact.terms))}" for fact in found[:limit])
    return "; ".join(words)


def source_facts(source: Sequence[Message]) -> list[Fact]:
    """The distinct facts of the messages, in order."""
    said = [sentence for message in source for sentence in sentences(spoken(message))]
    return list(dict.fromkeys(chain.from_iterable(facts_of(said))))
