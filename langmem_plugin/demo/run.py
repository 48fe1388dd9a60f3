"""Sets the stage for the replay, runs it and prints it."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmem_plugin.config import Budget, MemoryConfig, RecallConfig
from langmem_plugin.demo import script
from langmem_plugin.demo.desk import Desk
from langmem_plugin.demo.embedder import find_embedder
from langmem_plugin.demo.player import Player
from langmem_plugin.demo.replay import Clock, Replay, Step
from langmem_plugin.demo.screen import Screen
from langmem_plugin.demo.script import Day
from langmem_plugin.display import Console, console
from langmem_plugin.errors import InvalidSetting, StoreUnavailable
from langmem_plugin.memory import Memory

SYSTEM = "You are a travel assistant. Answer briefly, from what you know of this conversation."
SESSION, OWNER = "portugal", "nadia"
BUDGET = 2_000
_LEAST = 700
"""Tokens beside the tools below which constraints and a turn's tool results do not fit."""
_ROUND = 25
"""The table has a row each so many turns, and one for the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealModel:
    """A model that answers the questions, on an OpenAI-style server."""

    name: str
    base_url: str | None = None
    """OpenAI's own if None."""
    api_key: str = "none"


def run(
    *,
    budget: int = BUDGET,
    folder: Path | None = None,
    model: RealModel | None = None,
    days: Sequence[Day] | None = None,
    out: Console | None = None,
) -> list[Step]:
    """Replay the conversation and print it; gives every exchange as it went.

    Args:
        budget: Tokens of a request, tools included.
        folder: Where the memory stays; a new temporary one if not given.
        model: Answers the questions; the stand-in if not given.
        days: The script; the one that comes with the package if not given.
        out: Where it prints.

    Raises:
        InvalidSetting: The folder holds a memory already, or the budget is too small to try.
        MissingExtra: A framework is not installed.
        StoreUnavailable: The folder cannot be written.
    """
    vocabulary_offline()
    from langmem_plugin.demo.langchain_side import LangChainSide
    from langmem_plugin.demo.llama_index_side import LlamaIndexSide

    days = tuple(days if days is not None else script.shipped())
    place = _folder(folder)
    limits = Budget(max_tokens=budget, completion=0)
    embedder, about = find_embedder()
    clock, desk, player = Clock(days[0].begins), Desk(days), Player()
    with Memory.open(
        f"sqlite:///{place / 'memory.db'}",
        # A busy machine shall not change what is shown, so the query's embedding may take its time.
        config=MemoryConfig(budget=limits, recall=RecallConfig(deadline_s=10.0)),
        embedder=embedder,
        clock=clock,
    ) as memory:
        chat, llm = _real(model)
        stage: dict[str, Any] = {
            "player": player,
            "desk": desk,
            "system": SYSTEM,
            "session_id": SESSION,
            "owner": OWNER,
            "budget": limits,
        }
        least = memory.counter.count_tools(desk.schemas) + _LEAST
        if budget < least:
            raise InvalidSetting("--budget", budget, f"tools and constraints need their room: give at least {least}")
        sides = (LangChainSide(memory, real=chat, **stage), LlamaIndexSide(memory, real=llm, **stage))
        screen = Screen(out or console(), budget=limits.prompt)
        screen.opening(
            days=days,
            counter=memory.counter.name,
            embedder=about,
            model=model.name if model else "a stand-in that only quotes its request",
            folder=str(place),
        )
        began = time.monotonic()
        replay = Replay(
            days=days,
            memory=memory,
            clock=clock,
            player=player,
            sides=sides,
            system=SYSTEM,
            session_id=SESSION,
            owner=OWNER,
            budget=limits,
        )
        steps = _show(replay, screen)
        seconds = time.monotonic() - began
        screen.closing(steps, marks=[*range(_ROUND, len(steps), _ROUND), len(steps)])
        screen.farewell(place, temporary=folder is None, session=SESSION, owner=OWNER, seconds=seconds)
        return steps


def _show(replay: Replay, screen: Screen) -> list[Step]:
    steps: list[Step] = []
    last = max((e.number for day in replay.days for e in day.exchanges if e.is_question), default=0)
    try:
        for step in replay.run(screen.day_begins, screen.day_ends):
            steps.append(step)
            if step.exchange.is_question:
                whole = step.exchange.number in (50, 100, last)
                screen.mark(step, said=_turns(replay)) if whole else screen.question(step)
    finally:
        screen.end_line()
    return steps


def _turns(replay: Replay) -> dict[int, int]:
    """From a log entry's number to its turn's, counted from 1."""
    session = replay.memory.session(replay.session_id, owner=replay.owner)
    numbers: dict[str, int] = {}
    return {entry.seq: numbers.setdefault(entry.turn, len(numbers) + 1) for entry in session.history()}


def _folder(folder: Path | None) -> Path:
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="langmem-plugin-demo-"))
    folder = folder.expanduser().resolve()
    if (folder / "memory.db").exists():
        raise InvalidSetting("--folder", str(folder), "it holds a memory already; give a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(str(folder), "the folder cannot be made", "give one that can be written") from error
    return folder


def _real(model: RealModel | None) -> tuple[Any, Any]:
    """The model as LangChain and as LlamaIndex have it; None for the stand-in."""
    if model is None:
        return None, None
    from langmem_plugin.demo.real import langchain_model, llama_index_model

    return langchain_model(model), llama_index_model(model)


def vocabulary_offline() -> None:
    """Count with the vocabulary that comes with LlamaIndex, so that nothing is fetched."""
    found = importlib.util.find_spec("llama_index")
    for place in (found.submodule_search_locations if found else None) or ():
        carried = Path(place) / "core" / "_static" / "tiktoken_cache"
        if carried.is_dir():
            os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(carried))
