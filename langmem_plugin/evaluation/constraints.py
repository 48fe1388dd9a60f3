"""Measuring the constraint rules: recall, polarity and false constraints on public data and a labelled set.

`evaluate(folder)` reads what it finds of PrefEval, BEAM and LoCoMo under a folder (the layout
is in docs/constraints.md) and of a labelled set; parts that are absent are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from langmem_plugin.evaluation import rule_cost
from langmem_plugin.evaluation.rule_cost import RuleCost
from langmem_plugin.projections.constraints import Found, find_constraints
from langmem_plugin.projections.constraints.lifecycle import content_words
from langmem_plugin.records import ConstraintKind

_NEGATION = re.compile(
    r"\b(?:not|never|no|n't|don't|doesn't|can't|cannot|won't|isn't|aren't|avoid\w*|dislike\w*|aversion|averse|hate|"
    r"detest|despise|loathe|refuse|disdain|fear|phobia|allerg\w+|against|opposed|lack|without|stand|uncomfortable|"
    r"only|exclusively|prefer|too|boring|tedious|tiring|unengaging|difficult|distracting|struggle)\b|n't\b"
)
_OVERLAP = 0.5
"""Share of content words, of the stated instruction or of the span, that both hold if they are one."""
_STATING = re.compile(
    r"\b(?:prefer|preference|always|never|from now on|"
    r"deadline|budget|my (?:name|goal|target|aim)|goal of|goal to|goal is|"
    r"i'm [A-Z]|allerg)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How many statements were caught."""

    name: str
    caught: int
    total: int
    polarity_right: int | None = None
    """Of those caught; None where not measured."""
    missed: tuple[str, ...] = ()

    @property
    def recall(self) -> float:
        """0..1; 1 where there was nothing to catch."""
        return self.caught / self.total if self.total else 1.0

    @property
    def polarity(self) -> float | None:
        """Of those caught, the share whose negations and kind are intact."""
        if self.polarity_right is None:
            return None
        return self.polarity_right / self.caught if self.caught else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseConstraints:
    """Messages that state nothing binding and yielded an active constraint all the same."""

    name: str
    messages: int
    fired: int
    kinds: dict[str, int]
    examples: tuple[str, ...] = ()

    @property
    def rate(self) -> float:
        """Messages that fired, 0..1."""
        return self.fired / self.messages if self.messages else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Precision and recall on a labelled set, for one kind or for all."""

    name: str
    right: int
    found: int
    labelled: int

    @property
    def precision(self) -> float:
        """0..1; 1 where nothing was found."""
        return self.right / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """0..1; 1 where nothing was labelled."""
        return self.right / self.labelled if self.labelled else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that was measured; empty parts were not found in the folder."""

    recalls: tuple[Recall, ...] = ()
    false: tuple[FalseConstraints, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    """The development part of the labelled set."""
    held_out: tuple[Labelled, ...] = ()
    """Its test part."""
    second: tuple[Labelled, ...] = ()
    """A second labelled set, written before the rules were tried on it."""
    sorts: tuple[FalseConstraints, ...] = ()
    """Of the second set, the messages that state nothing, by sort."""
    third: tuple[Labelled, ...] = ()
    """A third labelled set, written before the rules of its day were tried on it."""
    third_sorts: tuple[FalseConstraints, ...] = ()
    """Of the third set, the messages that state nothing, by sort."""
    cost: RuleCost | None = None
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the rates."""
        return {
            "recalls": [asdict(item) | {"recall": item.recall, "polarity": item.polarity} for item in self.recalls],
            "false": [asdict(item) | {"rate": item.rate} for item in self.false],
            "labelled": [asdict(item) | {"precision": item.precision, "recall": item.recall} for item in self.labelled],
            "held_out": [asdict(item) | {"precision": item.precision, "recall": item.recall} for item in self.held_out],
            "second": [asdict(item) | {"precision": item.precision, "recall": item.recall} for item in self.second],
            "sorts": [asdict(item) | {"rate": item.rate} for item in self.sorts],
            "third": [asdict(item) | {"precision": item.precision, "recall": item.recall} for item in self.third],
            "third_sorts": [asdict(item) | {"rate": item.rate} for item in self.third_sorts],
            "cost": None if self.cost is None else asdict(self.cost),
            "notes": list(self.notes),
        }


def evaluate(folder: Path, *, labelled: Path | Sequence[Path] = (), judged: Path | None = None) -> Report:
    """Measure the rules on the data in a folder.

    Args:
        folder: Holds any of prefeval/, beam/ and locomo/.
        labelled: A JSON-lines file, or several, of {text, lang, about, split, labels}; `split` is
            "dev", "test" or, for the second set, "blind", for the third, "fresh".
        judged: JSON lines of {digest, verdict}: what a person said of a finding in BEAM's turns, "stated" if the user
            really states it; the digest is `digest_of` of its words.

    Returns:
        What could be measured; notes say what was absent.
    """
    recalls: list[Recall] = []
    false: list[FalseConstraints] = []
    notes: list[str] = []
    if (folder / "prefeval").is_dir():
        recalls.append(prefeval_recall(folder / "prefeval"))
        false.append(_false("PrefEval distractors", _distractors(folder / "prefeval")))
    else:
        notes.append("prefeval/ is absent")
    if (folder / "beam" / "instructions.json").is_file():
        recalls += beam_recall(folder / "beam")
        turns = list(_beam_turns(folder / "beam"))
        false.append(_false("BEAM, turns with no stating word", (text for text, states in turns if not states)))
        false.append(_false("BEAM, all turns not listed as sources", (text for text, _ in turns)))
        if judged is not None:
            stated = {line["digest"] for line in read_labelled(judged) if line["verdict"] == "stated"}
            others = "the same, without what was judged to be stated there"
            false.append(_false(others, (text for text, _ in turns), stated))
    else:
        notes.append("beam/instructions.json is absent")
    if (folder / "locomo").is_dir():
        false.append(_false("LoCoMo, every turn as a user's", _locomo_turns(folder / "locomo")))
    else:
        notes.append("locomo/ is absent")
    files = (labelled,) if isinstance(labelled, Path) else labelled
    notes += [f"{path} is absent" for path in files if not path.is_file()]
    lines = [line for path in files if path.is_file() for line in read_labelled(path)]
    speech = [*_distractors(folder / "prefeval")] if (folder / "prefeval").is_dir() else []
    speech += _locomo_turns(folder / "locomo") if (folder / "locomo").is_dir() else ()
    return Report(
        recalls=tuple(recalls),
        false=tuple(false),
        labelled=_scores_of(lines, "dev"),
        held_out=_scores_of(lines, "test"),
        second=_scores_of(lines, "blind"),
        sorts=tuple(_by_sort([line for line in lines if line["split"] == "blind"])),
        third=_scores_of(lines, "fresh"),
        third_sorts=tuple(_by_sort([line for line in lines if line["split"] == "fresh"])),
        cost=rule_cost.measure(speech) if speech else None,
        notes=tuple(notes),
    )


def to_markdown(report: Report) -> str:
    """The report as tables."""
    lines: list[str] = []
    if report.recalls:
        lines += ["| stated | messages | caught | recall | polarity right |", "|---|---:|---:|---:|---:|"]
        for item in report.recalls:
            polarity = "" if item.polarity is None else f"{item.polarity:.3f}"
            lines.append(f"| {item.name} | {item.total} | {item.caught} | {item.recall:.3f} | {polarity} |")
        lines.append("")
    if report.false:
        kinds = [kind.value for kind in ConstraintKind]
        lines += [
            "| states nothing | messages | fired | in 100 | " + " | ".join(kinds) + " |",
            "|---|---:|---:|---:|" + "---:|" * len(kinds),
        ]
        for count in report.false:
            numbers = " | ".join(str(count.kinds.get(kind, 0)) for kind in kinds)
            lines.append(f"| {count.name} | {count.messages} | {count.fired} | {100 * count.rate:.2f} | {numbers} |")
        lines.append("")
    for part, scores in (
        ("labelled set, development part", report.labelled),
        ("labelled set, test part", report.held_out),
        ("second labelled set", report.second),
        ("third labelled set", report.third),
    ):
        if not scores:
            continue
        lines += [f"| {part} | labelled | found | precision | recall |", "|---|---:|---:|---:|---:|"]
        for score in scores:
            lines.append(
                f"| {score.name} | {score.labelled} | {score.found} | {score.precision:.3f} | {score.recall:.3f} |"
            )
        lines.append("")
    lines += _sorts_table("second", report.sorts) + _sorts_table("third", report.third_sorts)
    if report.cost is not None:
        lines += rule_cost.to_markdown(report.cost).splitlines()
        lines.append("")
    lines += [f"* {note}" for note in report.notes]
    return "\n".join(lines).rstrip() + "\n"


def _sorts_table(part: str, sorts: Sequence[FalseConstraints]) -> list[str]:
    """The messages of a set that state nothing; no lines if there are none."""
    if not sorts:
        return []
    rows = [f"| {count.name} | {count.messages} | {count.fired} |" for count in sorts]
    return [f"| {part} set, states nothing | messages | fired |", "|---|---:|---:|", *rows, ""]


def _scores_of(lines: Sequence[dict[str, Any]], split: str) -> tuple[Labelled, ...]:
    chosen = [line for line in lines if line["split"] == split]
    return tuple(labelled_scores(chosen)) if chosen else ()


def _by_sort(lines: Sequence[dict[str, Any]]) -> Iterator[FalseConstraints]:
    """The messages without a label, by what they are about."""
    sorts = dict.fromkeys(line["about"] for line in lines if not line["labels"])
    for sort in sorts:
        yield _false(sort, (line["text"] for line in lines if line["about"] == sort and not line["labels"]))


def _active(text: str) -> list[Found]:
    return [item for item in find_constraints(text).found if not item.proposed]


def prefeval_recall(folder: Path) -> Recall:
    """PrefEval's explicit preferences, each sent as a message of its own.

    Polarity is right when no negating or limiting word of the statement was lost from the
    spans, and nothing disliked became a requirement.
    """
    caught = right = total = 0
    missed: list[str] = []
    for path in sorted(folder.glob("explicit_*.json")):
        for item in json.loads(path.read_text(encoding="utf-8")):
            text = item["preference"]
            total += 1
            found = _active(text)
            if not found:
                missed.append(text)
                continue
            caught += 1
            spans = " ".join(text[one.start : one.end] for one in found).lower()
            words = _NEGATION.findall(text.lower().split(". ")[0])
            kept = _NEGATION.findall(spans)
            right += len(kept) >= len(words) and all(one.kind is not ConstraintKind.REQUIREMENT for one in found)
    return Recall(name="PrefEval explicit", caught=caught, total=total, polarity_right=right, missed=tuple(missed))


def _holds(text: str, statement: str) -> bool:
    """Whether an active finding of the message is the statement, by its content words."""
    wanted = content_words(statement, "en")
    for one in _active(text):
        given = content_words(text[one.start : one.end], "en")
        shared = len(wanted & given)
        near = shared >= _OVERLAP * len(wanted) or (shared > 1 and shared >= _OVERLAP * len(given))
        if near and one.kind is not ConstraintKind.FACT:
            return True
    return False


def beam_recall(folder: Path) -> Iterator[Recall]:
    """BEAM's instructions and preferences: found in one of the messages that state them."""
    chats: dict[str, dict[int, str]] = {}
    groups: dict[str, list[bool]] = {}
    missed: dict[str, list[str]] = {}
    for item in json.loads((folder / "instructions.json").read_text(encoding="utf-8")):
        chat = str(item["chat"])
        if chat not in chats:
            messages = json.loads((folder / f"{item['tier']}_{chat}.json").read_text(encoding="utf-8"))
            chats[chat] = {m["id"]: m["content"] for m in messages if m["role"] == "user"}
        sources = [chats[chat].get(id, "") for id in {*item["source_ids"], *item["verbatim_ids"]}]
        caught = any(_holds(text, item["text"]) for text in sources)
        groups.setdefault(item["kind"], []).append(caught)
        if not caught:
            missed.setdefault(item["kind"], []).append(item["text"])
    for kind, hits in sorted(groups.items()):
        yield Recall(name=f"BEAM {kind}", caught=sum(hits), total=len(hits), missed=tuple(missed.get(kind, ())))


def _distractors(folder: Path) -> Iterator[str]:
    for conversation in json.loads((folder / "distractor_conversations.json").read_text(encoding="utf-8")):
        for message in conversation:
            if message["role"] == "user":
                yield message["content"]


def _locomo_turns(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.json")):
        for item in json.loads(path.read_text(encoding="utf-8")):
            for key, session in item["conversation"].items():
                if re.fullmatch(r"session_\d+", key):
                    for turn in session:
                        yield turn["text"]


def _beam_turns(folder: Path) -> Iterator[tuple[str, bool]]:
    """User turns that the benchmark does not list as a source, and whether a stating word is in them."""
    sources: dict[str, set[int]] = {}
    for item in json.loads((folder / "instructions.json").read_text(encoding="utf-8")):
        sources.setdefault(str(item["chat"]), set()).update(item["source_ids"], item["verbatim_ids"])
    for path in sorted(folder.glob("*_*.json")):
        chat = path.stem.rsplit("_", 1)[1]
        for message in json.loads(path.read_text(encoding="utf-8")):
            if message["role"] == "user" and message["id"] not in sources.get(chat, ()):
                yield message["content"], bool(_STATING.search(message["content"]))


def digest_of(words: str) -> str:
    """What stands for the words of a finding where they are not to be copied."""
    return hashlib.sha256(" ".join(words.split()).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _false(name: str, texts: Iterable[str], stated: Collection[str] = ()) -> FalseConstraints:
    kinds: Counter[str] = Counter()
    examples: list[str] = []
    messages = fired = 0
    for text in texts:
        messages += 1
        found = [one for one in _active(text) if digest_of(text[one.start : one.end]) not in stated]
        if found:
            fired += 1
            kinds.update({item.kind.value for item in found})
            examples += [f"{item.kind.value}: {text[item.start : item.end]}" for item in found]
    return FalseConstraints(name=name, messages=messages, fired=fired, kinds=dict(kinds), examples=tuple(examples))


def read_labelled(path: Path) -> list[dict[str, Any]]:
    """The lines of a labelled set: {text, lang, split, labels: [{kind, span}], ...}."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _overlaps(found: Found, label: dict[str, str], text: str) -> bool:
    """Whether a finding is the labelled statement: it holds the span, or the better part of it."""
    start = text.index(label["span"])
    end = start + len(label["span"])
    shared = min(found.end, end) - max(found.start, start)
    return shared >= 0.6 * (end - start)


def labelled_scores(lines: Sequence[dict[str, Any]]) -> list[Labelled]:
    """Precision and recall for each kind and for all; a finding of another kind is wrong for both."""
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    labelled: Counter[str] = Counter()
    for line in lines:
        text = line["text"]
        active = _active(text)
        labels = list(line["labels"])
        labelled.update(label["kind"] for label in labels)
        found.update(item.kind.value for item in active)
        for item in active:
            match = next((lb for lb in labels if lb["kind"] == item.kind.value and _overlaps(item, lb, text)), None)
            if match is not None:
                labels.remove(match)
                right[item.kind.value] += 1
    scores = [
        Labelled(name=kind.value, right=right[kind.value], found=found[kind.value], labelled=labelled[kind.value])
        for kind in ConstraintKind
    ]
    return [Labelled(name="all", right=right.total(), found=found.total(), labelled=labelled.total()), *scores]
