"""Binding statements in a user's message, found by rules: pure, no model, microseconds.

The language files say in which forms people bind an assistant; this module cuts the message,
drops what the user did not say (pasted text) or does not assert (questions, hypotheses,
reports), and returns spans of the user's own words (guarantee G2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from langmem_plugin.projections.constraints.clauses import Sentence, sentence_at
from langmem_plugin.projections.constraints.cues import (
    Heard,
    Possible,
    Sentences,
    amended_in,
    lower,
    possible_in,
    telling_words,
)
from langmem_plugin.projections.constraints.findings import NOTHING, Ended, Findings, Found, InForce
from langmem_plugin.projections.constraints.lifecycle import Ending, attributes, endings, without_manners
from langmem_plugin.projections.constraints.pasted import INLINE, Spoken, spoken
from langmem_plugin.projections.constraints.statements import sentences
from langmem_plugin.projections.constraints.vocabulary import Language, Rule, languages
from langmem_plugin.records import Constraint, ConstraintKind

__all__ = ["Ended", "Findings", "Found", "find_constraints"]

_QUOTED = re.compile(f"{INLINE}+")
_DEEP = 4_000
"""Text beyond this place that is not in the last paragraph may well be pasted: only proposed."""
_SHORTEST_QUOTE = 48
"""Characters of quotation inside a statement from which it is only proposed."""


@dataclass(frozen=True, slots=True)
class _Match:
    """A rule that fits, before its statement is cut out."""

    start: int
    end: int
    rule: Rule
    attribute: str


@dataclass(frozen=True, slots=True)
class _Statement:
    """A cut statement with what its rules know of it."""

    found: Found
    alone: bool


def find_constraints(text: str, *, active: Sequence[Constraint] | Callable[[], Sequence[Constraint]] = ()) -> Findings:
    """The constraints that a user's message states, and the earlier ones that it ends.

    One-off requests, questions, hypotheses and reported speech give none; pasted text gives
    none; what repeats an active constraint is not found again. In doubt nothing is ended.

    Args:
        text: The message, as sent.
        active: The constraints in force, for duplicates and endings, or what reads them: it is called
            at most once, and only if the text states something or may end something.

    Returns:
        Spans in the order of the text, and the endings; empty for most messages.

    Example:
        >>> message = "Never suggest peanuts. What can I cook tonight?"
        >>> [message[item.start : item.end] for item in find_constraints(message).found]
        ['Never suggest peanuts.']
    """
    low = lower(text)
    telling = telling_words(low)
    in_force = InForce(active)
    possible = possible_in(telling, text, ending=not in_force.none)
    if not possible.tells:
        return NOTHING
    said = spoken(text)
    if said.text is not text:
        low = lower(said.text)
        telling = telling_words(low)
    parts = Sentences(low, sentences(said.text))
    heard = possible.heard(parts, telling)
    statements = _by_sentence(said, parts, heard)
    keep = _doubted(text, said, _kept(said, parts, statements, possible, in_force))
    found: list[Found] = []
    if keep:
        known = {without_manners(item.text) for item in in_force()}
        for item in keep:
            normal = without_manners(text[item.start : item.end])
            if normal and normal not in known:
                known.add(normal)
                found.append(item)
    if in_force.none:
        return Findings(found=tuple(found)) if found else NOTHING
    return _with_endings(parts, found, in_force, possible, heard)


def _by_sentence(said: Spoken, parts: Sentences, heard: Heard) -> dict[int, list[_Statement]]:
    """By index of each sentence that makes any, its statements by the first language that has them."""
    found: dict[int, list[_Statement]] = {}
    for index in sorted(heard.rules):
        by_place = heard.rules[index]
        start, end = parts.spans[index]
        for place in sorted(by_place):
            sentence = sentence_at(said, parts.low, start, end, languages()[place])
            matches = _matches(sentence, by_place[place])
            if matches:
                found[index] = _cut(sentence, matches)
                break
    return found


def _with_endings(
    parts: Sentences,
    found: list[Found],
    active: InForce,
    possible: Possible,
    heard: Heard,
) -> Findings:
    """The findings with what they end; a permission that replaces a rule is itself a finding."""
    ended: dict[str, Found | None] = {}
    instead: list[Found] = []
    gone: set[Found] = set()
    spoken_in = possible.languages()
    amended = {
        language: indices
        for language, indices in amended_in(spoken_in, parts, heard).items()
        if _holds_value(active(), language)
    }
    always = [place for place, language in spoken_in.items() if not language.spaced]
    stating = _sentences_of(parts, found)
    indices: Iterable[int] = sorted({*stating, *heard.takes}.union(*amended.values()))
    for index in range(len(parts.spans)) if always else indices:  # some languages cannot tell
        start, end = parts.spans[index]
        inside = [item for item in stating.get(index, ()) if item not in gone]
        if any(item.proposed for item in inside):
            continue
        stated = [(item.start, item.end) for item in inside]
        takers = [spoken_in[place] for place in sorted({*always, *heard.takes.get(index, ())})]
        for ending in endings(parts.low, start, end, active, tuple(spoken_in.values()), stated, takers, list(amended)):
            if ending.constraint_id in ended:
                continue
            if ending.how == "revoked":
                gone.update(inside)
                ended[ending.constraint_id] = None
                continue
            if inside:
                by = inside[ending.by or 0]
            else:
                by = _permission(ending, start, end, active())
                instead.append(by)
            if by not in gone:
                ended[ending.constraint_id] = by
    result = sorted([item for item in [*found, *instead] if item not in gone], key=lambda item: item.start)
    if not result and not ended:
        return NOTHING
    return Findings(
        found=tuple(result),
        ended=tuple(
            Ended(
                constraint_id=id,
                how="revoked" if by is None else "superseded",
                by=None if by is None else result.index(by),
            )
            for id, by in ended.items()
            if by is None or by in result
        ),
    )


def _holds_value(active: Sequence[Constraint], language: Language) -> bool:
    """Whether any constraint in force holds a value that can be amended in this language."""
    return any(not language.value.keys().isdisjoint(attributes(item.text, language.code)) for item in active)


def _permission(ending: Ending, start: int, end: int, active: Sequence[Constraint]) -> Found:
    """The sentence that ends a rule, as what stands instead of it."""
    old = next(item for item in active if item.id == ending.constraint_id)
    start, end = ending.span or (start, end)
    kind = old.kind if ending.amends else ConstraintKind.PREFERENCE
    return Found(kind=kind, start=start, end=end, confidence=0.8)


def _sentences_of(parts: Sentences, found: Sequence[Found]) -> dict[int, list[Found]]:
    """By index of the sentences in which something was found, what that is."""
    stating: dict[int, list[Found]] = {}
    for item in found:
        index = max(0, parts.at(item.start))
        while index < len(parts.spans) and parts.spans[index][0] < item.end:
            if parts.spans[index][1] > item.start:
                stating.setdefault(index, []).append(item)
            index += 1
    return stating


def _kept(
    said: Spoken,
    parts: Sentences,
    by_sentence: Mapping[int, list[_Statement]],
    possible: Possible,
    active: InForce,
) -> list[Found]:
    """All statements; those that bind only when nothing is asked for, only then."""
    statements = [item for group in by_sentence.values() for item in group]
    if any(item.alone for item in statements):
        spoken_in = possible.languages(ending=bool(active())).values()
        asked = said.pasted or any(
            not by_sentence.get(index) and _is_task(parts.low, start, end, spoken_in)
            for index, (start, end) in enumerate(parts.spans)
        )
        if asked:
            statements = [item for item in statements if not item.alone]
    return [item.found for item in statements]


def _place(sentence: Sentence, rule: Rule) -> re.Match[str] | None:
    """Where the rule's words stand in the text from the sentence's clause on; at the start of a clause if it says so.

    The match is of a slice that ends with the sentence, and begins where the match says minus its start.
    """
    # Slices, not search(text, start, end): "^" would match at the start of the message alone.
    clause = sentence.cased if rule.cased else sentence.clause
    if not rule.at_start:
        return rule.pattern.search(clause)
    found = rule.pattern.match(clause)
    if found is not None or not sentence.leads or rule.pattern.search(clause) is None:
        return found
    text = sentence.said.text if rule.cased else sentence.low
    for lead in sentence.leads:
        found = rule.pattern.match(text[lead : sentence.end])
        if found is not None:
            return found
    return None


def _matches(sentence: Sentence, fitting: Sequence[Mapping[int, Rule]]) -> list[_Match]:
    """For each rule that fits, the first place where the user asserts what it says."""
    rules = fitting[0] if len(fitting) == 1 else {at: rule for some in fitting for at, rule in some.items()}
    matches: list[_Match] = []
    for at in sorted(rules):
        rule = rules[at]
        found = _place(sentence, rule)
        match = None if found is None else _match(sentence, rule, found)
        if match is not None:
            matches.append(match)
    return matches


def _match(sentence: Sentence, rule: Rule, found: re.Match[str]) -> _Match | None:
    """The rule's words where they stand, if the user asserts what they say."""
    low, end, language = sentence.low, sentence.end, sentence.language
    text = sentence.said.text if rule.cased else low
    offset = end - len(found.string)
    first, last = offset + found.start(), offset + found.end()
    attribute = (found.group(1) or "") if rule.attribute == "=1" else rule.attribute
    left = sentence.left(first)
    if rule.unless is not None and rule.unless.search(text[left:end]):
        return None
    if rule.needs is not None and not rule.needs.search(low[sentence.lead : end]):
        return None
    if rule.order:
        if language.one_off.search(low, sentence.start, end):
            return None
    elif language.inverted.search(low[max(left, first - 24) : first]):
        return None
    if not _asserted(sentence, first, last, left, order=rule.order):
        return None
    return _Match(first, last, rule, attribute)


def _asserted(sentence: Sentence, start: int, end: int, left: int, *, order: bool) -> bool:
    """Whether the user says it for certain and for themselves."""
    low, language = sentence.low, sentence.language
    if not order and language.unless.search(low[left:end]):
        return False
    before = low[sentence.start : start]
    if before and language.reported.search(before) and not language.authority.search(before):
        return False
    if language.reported_after.search(low, end, sentence.end):
        return False
    if low[sentence.end - 1] in "?？" and order and not language.request.search(low, sentence.start, sentence.end):
        return bool(language.tag.search(low, start, sentence.end))  # "you always answer in Dutch?" orders nothing
    if low[sentence.end - 1] in "?？" and not order:
        asked = [at for at in sentence.requests if at >= end]
        if not asked and not any(at < left for at in sentence.requests):
            return bool(language.tag.search(low, start, sentence.end))
        if any(at == left for at in sentence.requests) and not any(at <= start for at in sentence.resumes):
            return False
    return True


def _cut(sentence: Sentence, matches: list[_Match]) -> list[_Statement]:
    """One statement for each clause that has a match; matches of one clause make one."""
    matches.sort(key=lambda match: (match.start, match.rule.order_index))
    groups: list[tuple[int, list[_Match]]] = []
    for match in matches:
        if groups:
            last = groups[-1][1]
            joint = next((j for j in sentence.joints if last[0].start < j[0] and j[1] <= match.start), None)
            opener = joint is not None and match.rule.order and joint[0] - last[-1].end <= 1 and last[-1].rule.order
            if joint is not None and not opener and _apart(last, match):
                groups.append((joint[1], [match]))
            else:
                last.append(match)
        else:
            groups.append((-1, [match]))
    cut: list[_Statement] = []
    for place, (joint_at, group) in enumerate(groups):
        best = max(group, key=lambda match: (match.rule.confidence, -match.rule.order_index))
        first = min(match.start for match in group)
        last_end = max(match.end for match in group)
        start = sentence.left(first)
        if joint_at >= 0:
            start = max(joint_at, min(start, first))
        elif best.rule.order and start > first:
            start = first
        end = _end_of(sentence, best, start, last_end)
        if place + 1 < len(groups):
            next_at = groups[place + 1][0]
            before = next((j for j in sentence.joints if j[1] == next_at), (end, end))
            end = min(end, before[0])
        start, end = _trim(sentence.said.text, start, max(end, last_end))
        if end - start < 4:
            continue
        kind = best.rule.kind
        words = sentence.low[start:end]
        if kind is ConstraintKind.REQUIREMENT and best.rule.order and sentence.language.forbid.search(words[:60]):
            kind = _order_kind(words)
        found = Found(
            kind=kind,
            start=start,
            end=end,
            confidence=best.rule.confidence,
            proposed=_is_suspicious(words, sentence.language) and best.attribute not in _ADDRESSES,
        )
        cut.append(_Statement(_with_expiry(found, words, sentence.language), best.rule.alone))
    return cut


def _end_of(sentence: Sentence, match: _Match, start: int, last_end: int) -> int:
    """Where a statement ends: before the next request, unless that is the order itself."""
    end = sentence.right(last_end)
    needs = match.rule.needs
    if needs is None or needs.search(sentence.low[start : match.start]) or needs.search(sentence.low[match.end : end]):
        return end
    return sentence.end  # "From now on, tell me the price."


_LASTING = (ConstraintKind.FACT, ConstraintKind.GOAL)
_ADDRESSES = ("email", "e-mail", "email address", "e-mail address", "handle", "username", "phone", "phone number")
_ALWAYS = re.compile(r"^(?:please |you must )?always\b(?! avoid)")


def _is_suspicious(words: str, language: Language) -> bool:
    """Touches credentials, addresses, tools or other users; English terms count in every language."""
    return bool(languages()[0].suspicious.search(words) or language.suspicious.search(words))


def _order_kind(words: str) -> ConstraintKind:
    """A requirement that forbids is a prohibition; "always ... without fail" is not."""
    return ConstraintKind.REQUIREMENT if _ALWAYS.match(words) else ConstraintKind.PROHIBITION


def _apart(group: list[_Match], match: _Match) -> bool:
    """Whether two clauses state two things, each of which can end on its own."""
    kinds = {item.rule.kind for item in group}
    attributes = {item.attribute for item in group if item.attribute}
    if match.attribute and match.attribute not in attributes:
        return True
    if match.rule.kind in kinds and match.rule.kind is ConstraintKind.PREFERENCE:
        return False
    return match.rule.kind not in kinds


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and (text[start].isspace() or text[start] in ",;:-–—"):
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] in ",;:–—"):
        end -= 1
    return start, end


def _with_expiry(found: Found, words: str, language: Language) -> Found:
    """The statement with how long it says that it holds; facts and goals do not end by themselves."""
    if found.kind in _LASTING:
        return found
    for pattern, hours in language.temporary:
        said = pattern.search(words)
        if said is not None:
            day = next((place for place, name in enumerate(language.weekdays) if name in said.group()), None)
            lasts = timedelta(hours=hours) if hours else _given_time(said, language)
            return replace(found, expires_in=lasts, weekday=day if hours else None)
    return found


def _given_time(said: re.Match[str], language: Language) -> timedelta:
    """The time that a number and a unit say."""
    parts = [part for part in said.groups() if part]
    number = language.units.get(parts[0], None) if len(parts) > 1 else 1.0
    if number is None:
        number = float(parts[0]) if parts[0].isdecimal() else 1.0
    return timedelta(minutes=number * language.units.get(parts[-1], 1440))


def _is_task(low: str, start: int, end: int, spoken_in: Iterable[Language]) -> bool:
    """Whether a sentence asks for something to be done now."""
    if low[end - 1] in "?？":
        return True
    if end - start < 24:
        return False
    return not any(language.aside.match(low[start:end]) for language in spoken_in)


def _doubted(text: str, said: Spoken, found: list[Found]) -> list[Found]:
    """Findings that may not be the user's own free speech, marked as proposed."""
    tail = max(text.rfind("\n\n"), len(text) - 1_500)
    result: list[Found] = []
    for item in found:
        span = said.text[item.start : item.end]
        quoted = sum(len(quote) for quote in _QUOTED.findall(span)) if INLINE in span else 0
        doubtful = (
            said.doubtful
            or quoted >= _SHORTEST_QUOTE
            or (item.start > _DEEP and item.start < tail)
            or (said.whole_quote and item.kind in _ORDERS)
        )
        result.append(replace(item, proposed=True) if doubtful and not item.proposed else item)
    return result


_ORDERS = (ConstraintKind.REQUIREMENT, ConstraintKind.PROHIBITION)
