"""The rolling summary: what stands for the turns that leave the window."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from langmem_plugin.chat_models import ROLE, TimeLimited
from langmem_plugin.config import SummaryConfig
from langmem_plugin.context.extract import extract
from langmem_plugin.errors import ModelFailed
from langmem_plugin.measures import Observers, SummaryKept
from langmem_plugin.messages import user
from langmem_plugin.models import ChatModel
from langmem_plugin.projections.answers import cut_at_sentence, fault_of, tidy
from langmem_plugin.projections.chunks import Chunk, Chunks
from langmem_plugin.projections.judging import asked_in_vain, judge
from langmem_plugin.projections.lane import Later
from langmem_plugin.projections.periods import (
    HEADING_TOKENS,
    PERIODS,
    Period,
    day,
    next_merge,
    periods_of,
    without_headings,
    written,
)
from langmem_plugin.projections.quality import missing_facts, named, retention, source_facts
from langmem_plugin.projections.standing import Standing
from langmem_plugin.projections.summarised import SummaryStore, TextCounter
from langmem_plugin.records import Entry, Head, SessionKey, Summary

_SAVE_EVERY_CHUNKS = 16
"""Past so many calls without a commit, a long way is committed in part: each commit moves the window's start."""
_MAX_UNFINISHED = 256
"""Sessions whose half-done summaries are held in memory; the rest begin again."""
_ELSEWHERE_S = 1.0
"""A session that another process was found at is looked at again after so long."""
_WORDS_PER_TOKEN = 0.6
_FEW_FACTS = 8
"""Text with fewer facts than this says nothing about a summary's quality."""
_FULL = 0.5
"""From this part of their room on, the notes go on by period."""
_LEAST_PERIOD = 24
"""With fewer tokens for a period, all notes are rewritten for each chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfinished:
    """A model's way through leaving entries, between two calls."""

    basis: Summary | None
    """What the store held when it began; if that changes, it begins again."""
    target: int
    text: str
    """The notes so far, the basis's at first."""
    upto: int
    """The last entry read whole."""
    offset: int = 0
    """Characters already read of the entry after it."""
    judged: float | None = None
    """The lowest score of its parts."""
    erased: int = 0
    """The head's; if something is forgotten meanwhile, it begins again."""


class SummaryProjection:
    """Keeps the summary of each session up with what should leave its window.

    With a model, the new summary is made from the last *model* summary and everything
    since, chunk by chunk: one call of `advance` is one chunk. Each leaving token is read
    once, and the notes so far are an input of every call. While the model fails,
    `stand_in` lets a deterministic extract cover the turns; the model's next success
    starts from its own last summary and replaces the extract.
    """

    name = "summary"

    def __init__(
        self,
        store: SummaryStore,
        *,
        model: ChatModel | None,
        plan: Callable[[Head, Sequence[Entry]], int],
        counter: TextCounter,
        config: SummaryConfig,
        high: Callable[[Head], int] | None = None,
        timeout_s: float = 120.0,
        told: Observers | None = None,
        alone: Callable[[SessionKey], AbstractContextManager[bool]] | None = None,
    ) -> None:
        """Prepare; nothing is read or called here.

        Args:
            store: The log and the summaries.
            model: Writes the summaries; without one they are extracts.
            plan: Given where the session stands and the entries after the summary shown, the
                `seq` of the last one that should leave the window (the end of a turn); 0 for none.
            counter: Counts as the answering model does.
            config: Limits.
            high: Tokens of entries without a summary up to which `plan` gives 0 for a
                session of this head; so the same entries need not be read for each turn.
            timeout_s: A model that has not answered by then has failed.
            told: Who is told of each summary that is kept.
            alone: Gives True inside where no other process works on that session, so that
                of several processes on one database one reads what leaves, or asks its model.
        """
        self._store = store
        self._model = None if model is None else TimeLimited(model, timeout_s=timeout_s)
        self._plan = plan
        self._count = counter.count
        self._config = config
        self._chunks = Chunks(store, counter.count, config.chunk_tokens)
        self._prompts = config.prompts
        self._told = told
        self._unfinished: OrderedDict[SessionKey, _Unfinished] = OrderedDict()
        self._lock = threading.Lock()
        self._alone = alone or (lambda _key: nullcontext(True))
        self._standing = Standing(high or (lambda _head: -1))

    def spares(self, key: SessionKey, head: Head) -> bool:
        """See `Spares.spares`."""
        return self._standing.fits(key, head)

    def advance(self, key: SessionKey) -> bool | Later:
        """Do one unit of work: one call of the model, or one extract.

        Returns:
            True if there is more to do; later, if another process is at it.

        Raises:
            ModelFailed: The model failed or answered what cannot be a summary; nothing
                was changed, and the same call may be made again.
        """
        if self._settled(key):
            return False
        with self._alone(key) as alone:
            if alone:
                return self._cover(key) if self._model is None else self._read_on(key, self._model)
        return Later(_ELSEWHERE_S)

    def _settled(self, key: SessionKey) -> bool:
        """Whether a short look says that nothing is due."""
        found = self._store.uncovered(key)
        if found is None or not self._config.enabled:
            self._forget(key)
            return True
        stood_in = self._model is not None and found.by_model is False  # its extract may still have to be replaced
        return not stood_in and self._standing.saw(key, found)

    def _read_on(self, key: SessionKey, model: ChatModel) -> bool:
        """One call of the model; True if there may be more to do."""
        head = self._store.head(key)
        if head is None:
            return False
        of_model, shown = self._store.summaries(key)
        upto = of_model.upto_seq if of_model else 0
        way = self._unfinished.get(key)
        if way is None or way.basis != of_model or way.erased != head.erased:
            target, _ = self._planned(key, head, shown)
            if target <= upto:
                self._forget(key)
                return False
            way = _Unfinished(
                basis=of_model,
                target=self._within_reach(key, upto, target),
                text=of_model.text if of_model else "",
                upto=upto,
                erased=head.erased,
            )
        chunk = self._chunks.next(key, way.upto, way.offset, way.target)
        text, judged = self._with_chunk(key, model, way, chunk)
        judged = min((one for one in (way.judged, judged) if one is not None), default=None)
        way = replace(way, text=text, upto=chunk.upto, offset=chunk.offset, judged=judged)
        if way.upto < way.target:
            self._remember(key, way)
            return True
        self._forget(key)
        return self._save(
            key,
            head,
            method="model",
            text=text,
            upto=way.target,
            leaving=self._store.entries(key, after=upto, upto=way.target),
            shown=shown,
            basis=of_model,
            judged=judged,
        )

    def forget(self, key: SessionKey) -> None:
        """Let go of what is half done of a session (guarantee G11)."""
        self._forget(key)
        self._standing.forget(key)

    def stand_in(self, key: SessionKey) -> None:
        """Cover what should leave the window by an extract, without the model."""
        if self._settled(key):
            return
        with self._alone(key) as alone:
            if alone:
                self._cover(key)

    def _cover(self, key: SessionKey) -> bool:
        """Save an extract where one is due; True if there may be more to do."""
        head = self._store.head(key)
        if head is None:
            return False
        _, shown = self._store.summaries(key)
        upto = shown.upto_seq if shown else 0
        target, uncovered = self._planned(key, head, shown)
        if target <= upto:
            return False
        leaving = [entry for entry in uncovered if entry.seq <= target]
        text = extract(
            [entry.message for entry in leaving],
            count=self._count,
            max_tokens=self._config.max_tokens,
            previous=shown.text if shown else "",
            dates=[entry.created_at for entry in leaving],
        )
        text = text or f"({len(leaving)} earlier messages without text)"
        return self._save(
            key, head, method="extract", text=text, upto=target, leaving=leaving, shown=shown, basis=shown
        )

    def _planned(self, key: SessionKey, head: Head, shown: Summary | None) -> tuple[int, list[Entry]]:
        """Up to where the summary shown should reach, at the least to where it does, and what it does not cover."""
        upto = shown.upto_seq if shown else 0
        entries = self._store.entries(key, after=upto)
        return max(upto, self._plan(head, entries) if entries else 0), entries

    def _within_reach(self, key: SessionKey, upto: int, target: int) -> int:
        """The target, or the end of a turn nearer by, if the way there is long."""
        reach = _SAVE_EVERY_CHUNKS * self._config.chunk_tokens
        tokens = 0
        entries = self._store.entries(key, after=upto, upto=target)
        for entry, following in pairwise(entries):
            tokens += entry.tokens
            if tokens >= reach and following.turn != entry.turn:
                return entry.seq
        return target

    def _with_chunk(
        self, key: SessionKey, model: ChatModel, way: _Unfinished, chunk: Chunk
    ) -> tuple[str, float | None]:
        """The notes with what the chunk adds: rewritten as a whole, or by period once they fill their room."""
        periods = periods_of(way.text)
        source, most = self._count(chunk.text), self._config.max_tokens
        room = most // PERIODS - HEADING_TOKENS
        full = bool(periods) or self._count(way.text) >= _FULL * most
        if not self._config.by_period or not full or room < _LEAST_PERIOD:
            limit = min(most, self._count(way.text) + source)  # no summary is longer than what it summarises
            asked = self._prompts.update.format(
                summary=way.text or "(none yet)", conversation=chunk.text, words=_words(limit)
            )
            return self._good(key, model, asked, limit=limit, chunk=chunk)
        if not periods:
            first = self._store.entries(key, limit=1)
            since = day(first[0].created_at) if first else chunk.since
            periods = [Period(first=1, last=way.upto, since=since, until=chunk.since, text=way.text)]
        limit = min(room, source)
        asked = self._prompts.period.format(summary=way.text, conversation=chunk.text, words=_words(limit))
        notes, judged = self._good(key, model, asked, limit=limit, chunk=chunk)
        last = chunk.upto + (chunk.offset > 0)
        begins = min(periods[-1].last + 1, last)
        periods.append(Period(first=begins, last=last, since=chunk.since, until=chunk.until, text=notes))
        return self._merged(model, periods, room=room), judged

    def _merged(self, model: ChatModel, periods: list[Period], *, room: int) -> str:
        """The periods within the summary's room: a long one shortened, then two made one, until they fit."""
        while self._count(text := written(periods)) > self._config.max_tokens:
            tokens = [self._count(period.text) for period in periods]
            longest = max(range(len(periods)), key=lambda place: tokens[place])
            if tokens[longest] > room:
                old = periods[longest]
                short, fewer = self._shortened(model, old.text, tokens[longest], room)
                if fewer > room:
                    short = cut_at_sentence(short, count=self._count, max_tokens=room)
                periods[longest] = replace(old, text=short)
            elif len(periods) > 1:
                place = next_merge(periods)
                earlier, later = periods[place : place + 2]
                asked = self._prompts.merge.format(earlier=earlier, later=later, words=_words(room))
                both = self._written(model, asked, limit=room, source=tokens[place] + tokens[place + 1])
                periods[place : place + 2] = [earlier.joined(later, both)]
            else:
                return cut_at_sentence(text, count=self._count, max_tokens=self._config.max_tokens)
        return text

    def _written(self, model: ChatModel, prompt: str, *, limit: int, source: int) -> str:
        text, tokens = self._ask(model, prompt, source_tokens=max(source, self._config.max_tokens))
        if tokens > limit:
            text, tokens = self._shortened(model, text, tokens, limit)
        if tokens > limit:
            text = cut_at_sentence(text, count=self._count, max_tokens=limit)
        if not text:
            raise ModelFailed(ROLE, f"its answer cannot be cut to {limit} tokens")
        return text

    def _good(
        self, key: SessionKey, model: ChatModel, asked: str, *, limit: int, chunk: Chunk
    ) -> tuple[str, float | None]:
        """The model's notes, or a second try at them that lacks less, and how they were judged.

        Raises:
            ModelFailed: Both lack too much of what was read.
        """
        source = self._count(asked)
        text = self._written(model, asked, limit=limit, source=source)
        lacking, judged = self._lacking(key, model, text, chunk)
        if not lacking:
            return text, judged
        prompt = self._prompts.missing.format(prompt=asked, draft=text, missing=lacking, words=_words(limit))
        again, _ = self._ask(model, prompt, source_tokens=max(source, self._config.max_tokens))
        again = cut_at_sentence(again, count=self._count, max_tokens=limit)
        lacking, judged = self._lacking(key, model, again, chunk)
        if not lacking:
            return again, judged
        if judged is not None and judged < self._config.min_judged:
            raise asked_in_vain(judged, self._config.min_judged)
        raise ModelFailed(ROLE, f"its summary holds less than {self._config.min_quality:.0%} of the facts it read")

    def _lacking(self, key: SessionKey, model: ChatModel, text: str, chunk: Chunk) -> tuple[str, float | None]:
        """What notes lack too much of, in words, "" if they will do; and the judge's score."""
        config, lacking = self._config, []
        wanted = source_facts([user(chunk.text)]) if config.min_quality else []
        if len(wanted) >= _FEW_FACTS:
            constraints = [constraint.text for constraint in self._store.active_constraints(key)]
            missing = missing_facts(wanted, text, constraints)
            if 1 - len(missing) / len(wanted) < config.min_quality:
                lacking.append(named(missing))
        judged = (
            judge(model, self._prompts.judge, text, chunk.messages, sample=config.judged) if config.judged else None
        )
        if judged is not None and judged.score < config.min_judged:
            lacking.append(judged.missing or "much of what was said")
        return "; ".join(lacking), judged.score if judged is not None else None

    def _shortened(self, model: ChatModel, text: str, tokens: int, limit: int) -> tuple[str, int]:
        """The text as the model shortened it; as it was if that went wrong, because it can still be cut."""
        draft = cut_at_sentence(text, count=self._count, max_tokens=self._config.chunk_tokens + limit)
        prompt = self._prompts.shorten.format(summary=draft, words=_words(limit), tokens=tokens, limit=limit)
        try:
            shorter, fewer = self._ask(model, prompt, source_tokens=tokens)
        except ModelFailed:
            return text, tokens
        return (shorter, fewer) if fewer < tokens else (text, tokens)

    def _ask(self, model: ChatModel, prompt: str, *, source_tokens: int) -> tuple[str, int]:
        # Room beyond the limit shows an answer that is too long, instead of one that is cut off.
        cap = 2 * self._config.max_tokens
        text = without_headings(tidy(model.complete(self._prompts.system, prompt, max_tokens=cap)))
        tokens = self._count(text)
        if fault := fault_of(text, tokens=tokens, source_tokens=source_tokens, cap=cap):
            raise ModelFailed(ROLE, fault)
        return text, tokens

    def _save(
        self,
        key: SessionKey,
        head: Head,
        *,
        method: Literal["model", "extract"],
        text: str,
        upto: int,
        leaving: Sequence[Entry],
        shown: Summary | None,
        basis: Summary | None,
        judged: float | None = None,
    ) -> bool:
        """Keep a summary; True if there may be more to do."""
        constraints = [constraint.text for constraint in self._store.active_constraints(key)]
        model = self._model if method == "model" else None
        summary = Summary(
            text=text,
            upto_seq=upto,
            tokens=self._count(text),
            method=method,
            model=model.name if model else "",
            prompt_version=self._prompts.version if model else "",
            quality=retention([entry.message for entry in leaving], text, constraints),
            judged=judged,
            created_version=head.version,
        )
        saved = self._store.save_summary(key, summary, expected=shown)
        if saved and self._told:
            read = sum(entry.tokens for entry in leaving) + (basis.tokens if basis is not None else 0)
            kept = SummaryKept(
                key=key, method=method, read_tokens=read, tokens=summary.tokens, retention=summary.quality
            )
            self._told.tell([kept])
        # Refused because another writer was there first: look again. Refused for any other reason: leave it.
        return saved or self._store.summaries(key)[1] != shown

    def _remember(self, key: SessionKey, way: _Unfinished) -> None:
        with self._lock:
            self._unfinished[key] = way
            self._unfinished.move_to_end(key)
            while len(self._unfinished) > _MAX_UNFINISHED:
                self._unfinished.popitem(last=False)

    def _forget(self, key: SessionKey) -> None:
        with self._lock:
            self._unfinished.pop(key, None)


def _words(tokens: int) -> int:
    return max(10, int(tokens * _WORDS_PER_TOKEN))
