"""The language files, read once: rules, guards and word lists (docs/constraints.md has the format)."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from langmem_plugin.records import ConstraintKind

_PART = re.compile(r"\{([A-Za-z_]\w*)\}")
_BOUND = ("search", "match", "finditer", "sub", "pattern")


class Regex:
    """A pattern of a language file, compiled when it is first asked for anything.

    A process whose first message speaks one language in a few forms compiles those and not the
    hundreds of others. From then on `search` and the rest are the compiled pattern's own.
    """

    __slots__ = ("_compiler", "_source", *_BOUND)

    search: Callable[..., re.Match[str] | None]
    match: Callable[..., re.Match[str] | None]
    finditer: Callable[..., Iterator[re.Match[str]]]
    sub: Callable[..., str]
    pattern: str
    """The expression with its parts put in."""

    def __init__(self, source: str, compiler: _Compiler | None = None) -> None:
        self._source = source
        self._compiler = compiler

    def __getattr__(self, name: str) -> Any:
        """What is asked for first: compiles the pattern and keeps its methods (idempotent, so threads may race)."""
        if name not in _BOUND:
            raise AttributeError(name)
        source = self._source if self._compiler is None else self._compiler.fill(self._source)
        compiled = re.compile(source)
        for bound in _BOUND:
            setattr(self, bound, getattr(compiled, bound))
        return getattr(compiled, name)


NEVER = Regex(r"(?!)")
"""Matches nothing; stands for a guard that a language does not have."""


Cue = tuple[str, tuple[frozenset[str], ...]]
"""A word, and sets of words one of each of which must stand in the same sentence."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rule:
    """One form in which a binding statement is made."""

    kind: ConstraintKind
    pattern: Regex
    confidence: float
    attribute: str
    """What the statement sets ("home", "budget"); "" if nothing in particular; "=1" if the first group names it."""
    at_start: bool
    """Only at the beginning of a sentence or of its request."""
    order: bool
    """Tells the assistant what to do, so a one-off marker or a question makes it no constraint."""
    alone: bool
    """Binding only where the message asks for nothing else."""
    cased: bool
    """Matched against the text as written, not in lower case."""
    cues: tuple[Cue, ...]
    """One of them must stand in the sentence, with what it asks for beside it."""
    needs: Regex | None
    unless: Regex | None
    order_index: int
    """Place in the file; ties go to the earlier rule."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TakingBack:
    """One form in which an earlier statement is taken back or replaced."""

    words: tuple[str, ...]
    """Text without any of which it cannot match; empty if not listed."""
    pattern: Regex
    """Its group `topic` says what."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Language:
    """One language file."""

    code: str
    spaced: bool
    """Words stand between spaces; False for Chinese and Japanese."""
    stemmer: str
    rules: Mapping[str, tuple[Rule, ...]]
    """By the word of a cue: a rule is tried only where one of its cues stands in the sentence."""
    all_rules: tuple[Rule, ...]
    """In the order of the file."""
    cues: frozenset[str]
    """The words of all cues."""
    unless: Regex
    """Before or within the match, these make the statement no assertion of the user's own."""
    reported: Regex
    reported_after: Regex
    """The same, after the match, where the verb comes last."""
    authority: Regex
    """Whose reported orders bind the user: a doctor, a landlord."""
    inverted: Regex
    """Right before the match: a question or a relative clause."""
    forbid: Regex
    """Turns an order into a prohibition."""
    aside: Regex
    """How a sentence begins that asks for nothing."""
    one_off: Regex
    temporary: tuple[tuple[Regex, float], ...]
    units: Mapping[str, float]
    weekdays: tuple[str, ...]
    """From Monday on; empty if not listed."""
    request: Regex
    resume: Regex
    joint: Regex
    lead: Regex
    tag: Regex
    suspicious: Regex
    revoke: tuple[TakingBack, ...]
    replace: tuple[TakingBack, ...]
    endings: tuple[Cue, ...]
    """Cues without any of which no `revoke` or `replace` pattern can match; empty if not listed."""
    amend: Regex
    amending: tuple[Cue, ...] = ()
    """Cues without any of which `amend` cannot match; empty if not listed."""
    value: Mapping[str, Regex] = field(default_factory=dict)
    single: frozenset[str] = frozenset()
    """Attributes that hold one value at a time."""
    same: Mapping[str, str] = field(default_factory=dict)
    """Attributes that go by several names."""
    changed: Regex = NEVER
    """Says that a value is another one than before."""
    idle: Regex = NEVER
    """Words around a value that do not say what it is for."""
    manners: Regex = NEVER
    """Words without which a statement is the same."""
    scoped: Regex = NEVER
    """After a value: what it is for."""
    negative: Regex = NEVER
    stop_words: frozenset[str] = frozenset()


_READING = threading.Lock()
_READ: list[tuple[Language, ...]] = []
"""All of them, once they are read."""


class _Compiler:
    """Fills `{part}` names in patterns."""

    def __init__(self, parts: Mapping[str, str]) -> None:
        self._parts = dict(parts)

    def fill(self, pattern: str) -> str:
        """The pattern with every known part put in; parts may name other parts."""
        for _ in range(4):
            filled = _PART.sub(lambda found: self._parts.get(found.group(1), found.group(0)), pattern)
            if filled == pattern:
                break
            pattern = filled
        return pattern

    def regex(self, pattern: str | None) -> Regex:
        """To be compiled when it is used; `NEVER` where the file gives none."""
        return Regex(pattern, self) if pattern else NEVER


def _names(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


def _cues(
    items: Iterable[str | Mapping[str, Any]], sets: Mapping[str, frozenset[str]], also: Sequence[str] = ()
) -> tuple[Cue, ...]:
    """The cues of a list: words, or groups of words with the sets they ask for besides those that all ask for."""
    found: list[Cue] = []
    for item in items:
        words, names = ((item,), also) if isinstance(item, str) else (item["words"], [*_names(item["also"]), *also])
        beside = tuple(sets[name] for name in names)
        found += [(word.lower().replace("’", "'"), beside) for word in words]
    return tuple(found)


def _rules(data: Mapping[str, Any], sets: Mapping[str, frozenset[str]], compiler: _Compiler) -> tuple[Rule, ...]:
    rules: list[Rule] = []
    needs: Mapping[str, str] = data.get("needs", {})
    for index, item in enumerate(data["rules"]):
        rule = Rule(
            kind=ConstraintKind(item["kind"]),
            pattern=compiler.regex(item["pattern"]),
            confidence=float(item.get("confidence", 0.8)),
            attribute=item.get("attribute", ""),
            at_start=item.get("where", "any") == "start",
            order=bool(item.get("order", False)),
            alone=bool(item.get("alone", False)),
            cased=bool(item.get("case", False)),
            needs=compiler.regex(needs[item["needs"]]) if item.get("needs") else None,
            unless=compiler.regex(item["unless"]) if item.get("unless") else None,
            order_index=index,
            cues=_cues(item["cues"], sets, _names(item.get("also", ()))),
        )
        rules.append(rule)
    return tuple(rules)


def _by_cue(rules: tuple[Rule, ...]) -> dict[str, tuple[Rule, ...]]:
    by_cue: dict[str, list[Rule]] = {}
    for rule in rules:
        for cue in dict.fromkeys(word for word, _ in rule.cues):
            by_cue.setdefault(cue, []).append(rule)
    return {cue: tuple(found) for cue, found in by_cue.items()}


def _taking_back(item: str | Mapping[str, Any], compiler: _Compiler) -> TakingBack:
    if isinstance(item, str):
        return TakingBack(words=(), pattern=compiler.regex(item))
    return TakingBack(words=tuple(item["words"]), pattern=compiler.regex(item["pattern"]))


def _language(data: Mapping[str, Any]) -> Language:
    compiler = _Compiler(data.get("parts", {}))
    unless: Mapping[str, str] = data.get("unless", {})
    assertions = [unless[name] for name in ("hypothetical", "hedge") if unless.get(name)]
    sets = {name: frozenset(words) for name, words in data.get("sets", {}).items()}
    rules = _rules(data, sets, compiler)
    return Language(
        code=data["language"],
        spaced=bool(data.get("spaced", True)),
        stemmer=data.get("stemmer", ""),
        rules=(by_cue := _by_cue(rules)),
        all_rules=rules,
        cues=frozenset(by_cue),
        unless=compiler.regex("|".join(f"(?:{part})" for part in assertions)),
        reported=compiler.regex(unless.get("reported")),
        reported_after=compiler.regex(unless.get("reported_after")),
        authority=compiler.regex(data.get("authority")),
        inverted=compiler.regex(unless.get("inverted")),
        forbid=compiler.regex(data.get("forbid")),
        aside=compiler.regex(data.get("aside")),
        one_off=compiler.regex(data.get("one_off")),
        temporary=tuple((compiler.regex(pattern), float(hours)) for pattern, hours in data.get("temporary", ())),
        units={name: float(minutes) for name, minutes in data.get("units", {}).items()},
        weekdays=tuple(data.get("weekdays", ())),
        request=compiler.regex(data.get("request")),
        resume=compiler.regex(data.get("resume")),
        joint=compiler.regex(data.get("joint")),
        lead=compiler.regex(data.get("lead")),
        tag=compiler.regex(data.get("tag")),
        suspicious=compiler.regex(data.get("suspicious")),
        revoke=tuple(_taking_back(item, compiler) for item in data.get("revoke", ())),
        replace=tuple(_taking_back(item, compiler) for item in data.get("replace", ())),
        endings=_cues(data.get("endings", ()), sets),
        amend=compiler.regex(data.get("amend")),
        amending=_cues(data.get("amending", ()), sets),
        value={name: compiler.regex(pattern) for name, pattern in data.get("value", {}).items()},
        single=frozenset(data.get("single", ())),
        same=dict(data.get("same", {})),
        changed=compiler.regex(data.get("changed")),
        idle=compiler.regex(data.get("idle")),
        manners=compiler.regex(data.get("manners")),
        scoped=compiler.regex(data.get("scoped")),
        negative=compiler.regex(data.get("negative")),
        stop_words=frozenset(data.get("stop_words", ())),
    )


def languages() -> tuple[Language, ...]:
    """Every language file that ships with the package, English first, then by code; read once, by one thread."""
    if not _READ:
        with _READING:
            if not _READ:
                _READ.append(_read())
    return _READ[0]


def _read() -> tuple[Language, ...]:
    folder = resources.files("langmem_plugin.projections.constraints") / "languages"
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".json")),
        key=lambda file: (file.name != "en.json", file.name),
    )
    return tuple(_language(json.loads(file.read_text(encoding="utf-8"))) for file in files)
