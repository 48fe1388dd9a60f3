"""A summariser that is away for a whole conversation, and comes back: what is answered, what is lost, what it costs."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.evaluation.long import Fact, conversation
from langmem_plugin.evaluation.retention import summarised
from langmem_plugin.memory import Memory
from langmem_plugin.messages import assistant
from langmem_plugin.records import SessionKey, Summary
from langmem_plugin.session import Session

_KEY: Final = SessionKey("evaluation", "outage")
_PATIENCE_S: Final = 600.0
"""So long a summariser that is back may take: it rests between tries, longer after each that fails."""


class _Summarizer:
    """Fails until it is back; notes which threads called it."""

    name = "away"

    def __init__(self) -> None:
        self.back = False
        self.failed = 0
        self.answered = 0
        self.threads: list[int] = []

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        self.threads.append(threading.get_ident())
        if not self.back:
            self.failed += 1
            raise ConnectionError("no summariser")
        self.answered += 1
        return summarised(prompt)


def measure(
    *, turns: int = 1_000, budget: int = 2_000, progress: Callable[[str], object] = lambda _line: None
) -> dict[str, Any]:
    """Hold a conversation without the summariser, ask for all that left the window, then let it come back.

    Args:
        turns: Exchanges; every fourth one plants a fact.
        budget: Tokens of a request.
        progress: Called with a line now and then.

    Returns:
        `turns`, `answered` (requests that were built), `over_budget`, `calls_on_path` (of the summariser, in the
        thread that asks and adds), `failed_calls` (behind), `left_window` (messages that an extract stood for),
        `facts` (planted in them) and `found` (of those, in the request for their question), `caught_up_s` (after
        the return, until the model's summary reaches as far; None if it did not), `calls_afterwards`, and
        `found_afterwards`; `passed`.
    """
    summarizer = _Summarizer()
    config = MemoryConfig(budget=Budget(max_tokens=budget, completion=0))
    answered = over = 0
    planted: list[tuple[int, Fact]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Memory.open(f"sqlite:///{Path(folder) / 'm.db'}", config=config, summarizer=summarizer) as memory,
    ):
        session = memory.session(_KEY.session, owner=_KEY.owner)
        for place, (question, answer, fact) in enumerate(conversation(turns), start=1):
            context = session.context(question)
            answered += context.messages[-1].text.endswith(question)
            over += context.report.tokens_used > budget
            session.add(question, assistant(answer))
            if fact is not None:
                planted.append((2 * place - 1, fact))
            if place % 200 == 0:
                progress(f"{place:,} turns")
        memory.wait(timeout_s=30)
        extract = _shown(memory)
        left = 0 if extract is None else extract.upto_seq
        facts = [fact for seq, fact in planted if seq <= left]
        failed, found = summarizer.failed, _found(session, facts)
        progress("the summariser is back")
        summarizer.back = True
        began = time.monotonic()
        while time.monotonic() - began < _PATIENCE_S and not _caught_up(_shown(memory), left):
            memory.wait(timeout_s=1)
            time.sleep(0.1)
        caught_up = round(time.monotonic() - began, 1) if _caught_up(_shown(memory), left) else None
        afterwards = _found(session, facts)
    calls_on_path = summarizer.threads.count(threading.get_ident())
    return {
        "turns": turns,
        "answered": answered,
        "over_budget": over,
        "calls_on_path": calls_on_path,
        "failed_calls": failed,
        "left_window": left,
        "facts": len(facts),
        "found": found,
        "caught_up_s": caught_up,
        "calls_afterwards": summarizer.answered,
        "found_afterwards": afterwards,
        "passed": answered == turns
        and not over
        and not calls_on_path
        and left > 0
        and found == afterwards == len(facts)
        and caught_up is not None,
    }


def _shown(memory: Memory) -> Summary | None:
    return memory._store.summaries(_KEY)[1]  # noqa: SLF001 - what stands for the messages that left, and who wrote it


def _caught_up(shown: Summary | None, upto: int) -> bool:
    return shown is not None and shown.method == "model" and shown.upto_seq >= upto


def _found(session: Session, facts: list[Fact]) -> int:
    """Facts whose value stands in the request for their question."""
    return sum(any(fact.value in message.text for message in session.context(fact.question).messages) for fact in facts)


def to_markdown(found: dict[str, Any]) -> str:
    """The figures."""
    back = "never" if found["caught_up_s"] is None else f"{found['caught_up_s']:.1f} s"
    return "\n".join(
        [
            "| | |",
            "|---|---:|",
            f"| turns, the summariser away | {found['turns']:,} |",
            f"| requests built | {found['answered']:,} |",
            f"| over the budget | {found['over_budget']:,} |",
            f"| calls of the summariser in the thread that asks | {found['calls_on_path']:,} |",
            f"| calls behind, all failed | {found['failed_calls']:,} |",
            f"| messages that left the window | {found['left_window']:,} |",
            f"| facts in them, found when asked for | {found['found']:,} of {found['facts']:,} |",
            f"| back, it had caught up after | {back} |",
            f"| calls for that | {found['calls_afterwards']:,} |",
            f"| facts found afterwards | {found['found_afterwards']:,} of {found['facts']:,} |",
        ]
    )
