"""What happens to a message on its way into the log; no model is called (guarantee G8)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import Message, Role, Text
from langmem_plugin.projections.constraints import find_constraints
from langmem_plugin.recall.indexed import message_terms
from langmem_plugin.records import Attachment, Constraint, ConstraintState, Entry, SessionKey
from langmem_plugin.store.protocol import EndedConstraint, NewConstraint, Staged, TurnWrite

_NO_ENTRIES = 2**31 - 1
"""Reading a session after this number reads none of its log."""


def stage(engine: Engine, said: Sequence[Message]) -> tuple[Staged, ...]:
    """Count the messages and check what no store could keep.

    Raises:
        InvalidMessage: One is too long.
    """
    now = engine.clock()
    limit = engine.config.max_message_chars
    staged = []
    for message in said:
        size = sum(len(block.text) for block in message.blocks if isinstance(block, Text))
        if size > limit:
            raise InvalidMessage(
                f"a {message.role} message has {size} characters, the limit is {limit}",
                "split it, or raise max_message_chars",
            )
        staged.append(
            Staged(
                message=message,
                tokens=engine.counter.count_message(message),
                counter=engine.counter.name,
                created_at=now,
            )
        )
    return tuple(staged)


def commit(
    engine: Engine,
    key: SessionKey,
    turn_id: str,
    staged: tuple[Staged, ...],
    *,
    attachment: Attachment | None = None,
    attached_to: int = 0,
    history_tokens: int = 0,
    begun: bool = False,
) -> int:
    """Derive what follows from the turn and write it all at once; gives the version."""
    found, ended = _scan(engine, key, turn_id, staged)
    write = TurnWrite(
        staged=staged,
        terms=tuple(message_terms(one.message, language=engine.config.recall.language) for one in staged),
        attachment=attachment,
        attached_to=attached_to,
        history_tokens=history_tokens,
        constraints=found,
        ended=ended,
        begun=begun,
    )
    head = engine.store.commit(key, turn_id, write, now=engine.clock())
    if head.first_seq:
        engine.recaller.saw(key, [_entry(one, turn_id, head.first_seq + n) for n, one in enumerate(staged)])
    engine.note(key)
    return head.version


def _entry(staged: Staged, turn_id: str, seq: int) -> Entry:
    return Entry(
        seq=seq, turn=turn_id, message=staged.message, tokens=staged.tokens, created_at=staged.created_at,
        counter=staged.counter,
    )  # fmt: skip


def _scan(
    engine: Engine, key: SessionKey, turn_id: str, staged: Sequence[Staged]
) -> tuple[tuple[NewConstraint, ...], tuple[EndedConstraint, ...]]:
    """Constraints that the user's own messages state or end; nobody else's words can (DESIGN: source gating)."""
    settings = engine.config.constraints
    if not settings.enabled or not any(one.message.role is Role.USER for one in staged):
        return (), ()
    active = list(engine.store.snapshot(key, after=_NO_ENTRIES, now=engine.clock()).constraints)
    new: list[NewConstraint] = []
    ended: list[EndedConstraint] = []
    for position, one in enumerate(staged):
        if one.message.role is not Role.USER:
            continue
        text = one.message.text
        findings = find_constraints(text, active=active)
        ids = []
        for found in findings.found:
            seed = "\0".join((*map(str, (key.owner, key.session, turn_id, position, found.start, found.end)),))
            constraint_id = "c" + hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()[:10]
            ids.append(constraint_id)
            full = len(active) >= settings.max_active
            state = ConstraintState.PROPOSED if found.proposed or full else ConstraintState.ACTIVE
            new.append(
                NewConstraint(
                    id=constraint_id,
                    kind=found.kind,
                    state=state,
                    scope=settings.scope,
                    text=text[found.start : found.end],
                    position=position,
                    start=found.start,
                    end=found.end,
                    confidence=found.confidence,
                    expires_in=found.expires_in,
                )
            )
        for end in findings.ended:
            by = None if end.by is None else ids[end.by]
            ended.append(EndedConstraint(id=end.constraint_id, state=ConstraintState(end.how), superseded_by=by))
            active = [c for c in active if c.id != end.constraint_id]
        active += [
            Constraint(
                id=n.id,
                kind=n.kind,
                text=n.text,
                source="rule",
                created_version=0,
                created_at=one.created_at,
            )
            for n in new
            if n.position == position and n.state is ConstraintState.ACTIVE
        ]
    return tuple(new), tuple(ended)
