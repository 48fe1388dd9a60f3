"""Which open turn an agent's run goes on with."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from langchain_langmem_plugin.recording import last_asked, same_words
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn

_KEPT = 1_024
_LOCKS = 64
_DEAD_AFTER_S = 600.0
"""A run that has not called its model for so long is taken for dead, unless its state says otherwise."""

_Key: TypeAlias = tuple[str, str, str]


class OpenTurns:
    """The turns that runs of this process have open: so that each run finds its own.

    Bounded; what falls out is found in the store again. Keeping the turn object keeps
    what was recalled for it (guarantee G13).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks = [threading.RLock() for _ in range(_LOCKS)]
        self._kept: OrderedDict[_Key, Turn] = OrderedDict()
        self._running: OrderedDict[_Key, float] = OrderedDict()

    def lock(self, session: Session) -> threading.RLock:
        """One run at a time writes to a session."""
        return self._locks[hash((session.owner, session.id)) % _LOCKS]

    def of_run(self, session: Session, known: Message | None, new: Sequence[Message]) -> Turn | None:
        """The open turn of a run; None if it opens one.

        Args:
            session: The run's session.
            known: The newest message of the run's state that the memory has.
            new: What the memory has not.
        """
        if known is not None:
            holds = session.begin(known)  # an id that is known gives the turn that holds it
            if holds.state == "pending":
                return self._same(holds)
        turn = session.resume()
        if turn is None:
            return None
        asked = new[0] if new and new[0].role is Role.USER else None
        retried = asked is not None and any(same_words(asked, earlier) for earlier in last_asked(turn.messages))
        # A turn that a run left behind is gone on with, so that its question is not lost; another run's is not.
        return self._same(turn) if retried or not self._is_running(turn) else None

    def running(self, turn: Turn) -> None:
        """A run is about to call its model."""
        with self._lock:
            key = _key(turn)
            self._kept[key] = turn
            self._running[key] = time.monotonic()
            for kept in (self._kept, self._running):
                kept.move_to_end(key)
                if len(kept) > _KEPT:
                    kept.popitem(last=False)

    def failed(self, turn: Turn) -> None:
        """The run failed and left the turn open."""
        with self._lock:
            self._running.pop(_key(turn), None)

    def closed(self, turn: Turn) -> None:
        """The turn is closed."""
        with self._lock:
            self._running.pop(_key(turn), None)
            self._kept.pop(_key(turn), None)

    def _same(self, turn: Turn) -> Turn:
        with self._lock:
            kept = self._kept.get(_key(turn))
        return kept if kept is not None and kept.state == "pending" and kept.messages == turn.messages else turn

    def _is_running(self, turn: Turn) -> bool:
        with self._lock:
            since = self._running.get(_key(turn))
        return since is not None and time.monotonic() - since < _DEAD_AFTER_S


def _key(turn: Turn) -> _Key:
    return turn.session.owner, turn.session.id, turn.id
