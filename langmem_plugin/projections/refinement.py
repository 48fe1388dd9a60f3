"""A language model that looks, behind the conversation, for constraints that the rules missed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from langmem_plugin.chat_models import TimeLimited
from langmem_plugin.config import ConstraintsConfig
from langmem_plugin.errors import AnswerCutOff, ConstraintNotFound
from langmem_plugin.messages import Role
from langmem_plugin.models import ChatModel
from langmem_plugin.projections.constraints.findings import constraint_id
from langmem_plugin.projections.constraints.refine import SYSTEM, Answer, prompt_for, read_answer
from langmem_plugin.records import (
    Constraint,
    ConstraintChange,
    ConstraintEvent,
    ConstraintState,
    Entry,
    SessionKey,
)
from langmem_plugin.store.protocol import Store

_log = logging.getLogger(__name__)
_BATCH = 16
"""User messages that one call reads."""
_MOST_CHARS = 12_000
"""Characters of them; a single longer message is not read, for it is hardly speech."""
_ANSWER_TOKENS = 1_500
_TIMEOUT_S = 60.0


class Refined(Protocol):
    """Told what a model's look changed."""

    def __call__(self, key: SessionKey, events: list[ConstraintEvent]) -> None:
        """Called after the changes are durable."""
        ...


class RefinementProjection:
    """Reads the user's messages once, a few at a time; its place in the log is kept with what it finds."""

    name = "constraints"

    def __init__(
        self,
        store: Store,
        *,
        model: ChatModel,
        config: ConstraintsConfig,
        clock: Callable[[], datetime],
        listener: Refined,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self._store = store
        self._model = TimeLimited(model, timeout_s=timeout_s)
        self._config = config
        self._clock = clock
        self._listener = listener
        self._at_once: dict[SessionKey, int] = {}
        """User messages of one call, for sessions where an answer to more of them was cut off."""

    def advance(self, key: SessionKey) -> bool:
        """Read the next few messages; True if more wait.

        After an answer that was cut off fewer are read at a time; one that alone is too much is left out.

        Raises:
            ModelFailed: The model failed or took too long; the messages are read again later.
        """
        head = self._store.head(key)
        after = self._store.refined_upto(key)
        entries = self._store.entries(key, after=after, limit=_BATCH * 8)
        users = [entry for entry in entries if entry.message.role is Role.USER]
        more = len(entries) == _BATCH * 8
        if len(users) < self._config.refine_every and not more:
            return False
        at_once = self._at_once.get(key, _BATCH)
        chosen, upto = _chosen(users, entries, at_once)
        said = {entry.seq: entry.message.said for entry in chosen if len(entry.message.text) <= _MOST_CHARS}
        held = tuple(one for one in self._store.constraints(key) if one.state is ConstraintState.ACTIVE)
        if not any(text.strip() for text in said.values()):
            return self._store.save_refined(key, after=after, upto=upto, new=(), read_at=head.version) is None or more
        try:
            told = self._model.complete(SYSTEM, prompt_for(said, held), max_tokens=_ANSWER_TOKENS)
        except AnswerCutOff:
            if len(chosen) > 1:
                self._at_once[key] = len(chosen) // 2
                return True
            _log.info("extractor's answer to one message was cut off; the message is left out")
            told = "{}"
        if at_once < _BATCH:  # slowly back to more
            self._at_once[key] = at_once + 1
        else:
            self._at_once.pop(key, None)
        answer = read_answer(told, said, held)
        _log.debug("extractor's answer read", extra={"pointed": len(answer.pointed), "refused": dict(answer.refused)})
        kept = self._store.save_refined(
            key, after=after, upto=upto, new=self._new(key, chosen, answer, held), read_at=head.version
        )
        if kept is None:  # something was forgotten, or another reader was first: look again
            return True
        self._listener(key, [*self._told(key, kept), *self._tidied(key, answer, held)])
        return more or upto < head.last_seq

    def _new(
        self, key: SessionKey, entries: list[Entry], answer: Answer, held: tuple[Constraint, ...]
    ) -> list[Constraint]:
        by_seq = {entry.seq: entry for entry in entries}
        shares = self._config.scope == "owner" and self._store.shares_constraints(key)
        every = self._store.constraints(key)
        room = self._config.max_proposed - sum(one.state is ConstraintState.PROPOSED for one in every)
        active = len(held)
        new = []
        for found in answer.pointed:
            entry = by_seq[found.seq]
            text = entry.message.text[found.start : found.end]
            holds = (
                self._config.model_finds == "active"
                and not found.doubtful
                and len(text) <= self._config.max_chars
                and active < self._config.max_active
            )
            if not holds and room <= 0:
                continue
            active, room = (active + 1, room) if holds else (active, room - 1)
            new.append(
                Constraint(
                    id=constraint_id(key, entry.turn, entry.seq, found.start, found.end),
                    kind=found.kind,
                    text=text,
                    display=found.meaning,
                    state=ConstraintState.ACTIVE if holds else ConstraintState.PROPOSED,
                    scope="owner" if shares else "session",
                    source="model",
                    seq=entry.seq,
                    start=found.start,
                    end=found.end,
                    confidence=0.5,
                    created_version=0,
                    created_at=entry.created_at,
                )
            )
        return new

    def _tidied(self, key: SessionKey, answer: Answer, held: tuple[Constraint, ...]) -> list[ConstraintEvent]:
        """Display forms, duplicates that are ones, and contradictions, which are only told."""
        by_id = {one.id: one for one in held}
        events = []
        try:
            for id, meaning in answer.meanings.items():
                if by_id[id].source != "app" and not by_id[id].display:
                    self._store.mark_constraint(key, id, display=meaning)
            for earlier, later in answer.duplicates:
                if not by_id[later].pinned and by_id[later].source != "app":
                    ended = self._store.end_constraint(key, later, ConstraintState.SUPERSEDED, by=earlier)
                    events.append(self._event(key, "superseded", ended, by=earlier))
        except ConstraintNotFound:  # forgotten meanwhile
            return events
        events += [
            self._event(key, "contradicted", by_id[earlier], by=later) for earlier, later in answer.contradictions
        ]
        return events

    def _told(self, key: SessionKey, kept: tuple[Constraint, ...]) -> list[ConstraintEvent]:
        return [self._event(key, "stated" if one.state is ConstraintState.ACTIVE else "proposed", one) for one in kept]

    @staticmethod
    def _event(
        key: SessionKey, change: ConstraintChange, constraint: Constraint, *, by: str | None = None
    ) -> ConstraintEvent:
        return ConstraintEvent(change=change, constraint=constraint, owner=key.owner, session=key.session, by=by)


def _chosen(users: list[Entry], entries: list[Entry], most: int) -> tuple[list[Entry], int]:
    """The messages of one call, at most so many, and up to which entry the log is read after it."""
    chosen: list[Entry] = []
    size = 0
    for entry in users[:most]:
        length = len(entry.message.text)
        if chosen and size + length > _MOST_CHARS:
            break
        chosen.append(entry)
        size += length if length <= _MOST_CHARS else 0
    whole = len(chosen) == len(users)
    return chosen, entries[-1].seq if whole else chosen[-1].seq
