"""Why a constraint binds or no longer does, and what became of a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from langmem_plugin.context.request_html import provenance, state_of
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.inspection.held import Held
from langmem_plugin.inspection.timeline import constraint_json
from langmem_plugin.records import Constraint, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of one constraint or message."""

    kind: Literal["constraint", "message"]
    title: str
    lines: tuple[str, ...]
    """One sentence each, in the order of what happened."""
    data: dict[str, Any]
    """The same facts as plain JSON."""


def explain(held: Held, name: str, *, window_from: int = 0) -> Explanation:
    """What is known of a constraint (by its id) or a message (by its number, or the framework's id).

    Args:
        held: The session.
        name: For example `c1f0a2b3c4`, `12` or `#12`.
        window_from: The oldest entry in the window now; 0 if the window is empty.

    Raises:
        InvalidSetting: The session has neither.
    """
    for constraint in held.constraints:
        if constraint.id == name:
            return _constraint(held, constraint)
    bare = name.removeprefix("#")
    if bare.isascii() and bare.isdecimal() and 0 < int(bare) <= len(held.entries):
        return _message(held, held.entries[int(bare) - 1], window_from)
    for entry in held.entries:
        if entry.message.id == name:
            return _message(held, entry, window_from)
    raise InvalidSetting(
        "why", name, f"give the id of a constraint of this session, or a message's number from 1 to {len(held.entries)}"
    )


def _constraint(held: Held, constraint: Constraint) -> Explanation:
    lines = [f"It comes from {provenance(constraint)}.", f"It is {state_of(constraint)}."]
    own = held.is_own(constraint)
    if constraint.seq is not None and own and constraint.seq <= len(held.entries):
        entry = held.entries[constraint.seq - 1]
        text = entry.message.text
        before, after = text[: constraint.start], text[constraint.end :]
        lines.append(f"In its message: {_end(before)}>>{constraint.text}<<{_beginning(after)}")
    elif constraint.seq is not None and not own:
        lines.append("It was said in another session of this owner.")
    by = next((one for one in held.constraints if one.id == constraint.superseded_by), None)
    if by is not None:
        said = f" (message #{by.seq})" if by.seq else ""
        lines.append(f"It gave way to {by.id}{said}: {by.text}")
    survived = 0
    if own:
        last = constraint.ended_version if constraint.ended_version is not None else held.head.version
        survived = sum(constraint.created_version <= one.created_version <= last for one in held.past.summaries)
        lines.append(f"{survived} compressions happened while it was in force; none of them reads or writes it.")
    data = {**constraint_json(constraint), "compressions_survived": survived}
    return Explanation(
        kind="constraint",
        title=f"{constraint.id} {constraint.kind.value}: {constraint.text}",
        lines=tuple(lines),
        data=data,
    )


def _message(held: Held, entry: Entry, window_from: int) -> Explanation:
    commit = held.commit_of(entry.seq)
    summary = held.summary_at(held.head.version)
    covered = summary is not None and entry.seq <= summary.upto_seq
    if covered and summary is not None:
        place = "summary"
        where = f"It left the window; the summary up to #{summary.upto_seq} stands for it, and it can be recalled."
    elif window_from and entry.seq >= window_from:
        place, where = "window", "It is in the window, word for word."
    else:
        place, where = "waiting", "It left the window and waits to be summarised; it can be recalled."
    stated = [one for one in held.constraints if one.seq == entry.seq and held.is_own(one)]
    recalled_by = [one.seq for one in held.entries if one.attachment is not None and entry.seq in one.attachment.seqs]
    version = commit.version if commit else 0
    when = f"{entry.created_at:%d %b %Y at %H:%M} UTC"
    kept = f"{entry.tokens} tokens, committed at version {version} (turn {entry.turn})"
    lines = [f"Said by the {entry.message.role.value} on {when}, {kept}.", where]
    lines += [f"It states {one.id} ({one.kind.value}, {state_of(one)}): {one.text}" for one in stated]
    if entry.attachment is not None:
        numbers = ", ".join(f"#{seq}" for seq in entry.attachment.seqs)
        lines.append(f"Recalled for it: {numbers} ({entry.attachment.tokens} tokens).")
    if recalled_by:
        lines.append(f"It was recalled for {', '.join(f'#{seq}' for seq in recalled_by)}.")
    data = {
        "seq": entry.seq,
        "turn": entry.turn,
        "role": entry.message.role.value,
        "text": entry.message.text,
        "tokens": entry.tokens,
        "version": version,
        "created_at": entry.created_at.isoformat(),
        "place": place,
        "constraints": [one.id for one in stated],
        "recalled": list(entry.attachment.seqs) if entry.attachment else [],
        "recalled_by": recalled_by,
    }
    return Explanation(
        kind="message",
        title=f"#{entry.seq} {entry.message.role.value}: {entry.message.text}",
        lines=tuple(lines),
        data=data,
    )


def _end(text: str, most: int = 60) -> str:
    return text if len(text) <= most else "…" + text[-most:]


def _beginning(text: str, most: int = 60) -> str:
    return text if len(text) <= most else text[:most] + "…"
