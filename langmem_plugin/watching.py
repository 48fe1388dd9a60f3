"""Who wants to know what becomes of constraints: subscribers, and the one who confirms proposals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import TypeAlias

from langmem_plugin.records import Constraint, ConstraintEvent

_log = logging.getLogger(__name__)

Watcher: TypeAlias = Callable[[ConstraintEvent], object]
"""Called in the thread that made the change, after it is durable; what it raises is logged by its class alone."""

Confirm: TypeAlias = Callable[[Constraint], bool | None]
"""Says of a proposed constraint: True, it holds; False, it is revoked; None, it stays proposed."""


class Watchers:
    """Subscribers of one memory; thread-safe."""

    def __init__(self, confirm: Confirm | None = None) -> None:
        self._confirm = confirm
        self._lock = threading.Lock()
        self._watchers: tuple[Watcher, ...] = ()

    @property
    def confirms(self) -> bool:
        """Whether anybody decides on proposals."""
        return self._confirm is not None

    def __bool__(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._watchers) or self.confirms

    def add(self, watcher: Watcher) -> Callable[[], None]:
        """Tell it of every later event; gives a function that ends that, however often it is called."""
        with self._lock:
            self._watchers += (watcher,)

        def end() -> None:
            with self._lock:
                left = list(self._watchers)
                if watcher in left:
                    left.remove(watcher)
                self._watchers = tuple(left)

        return end

    def tell(self, events: Iterable[ConstraintEvent]) -> None:
        """Tell every subscriber, in the order of the events."""
        for event in events:
            for watcher in self._watchers:
                try:
                    watcher(event)
                except Exception as error:  # noqa: BLE001 - a subscriber's failure never fails a turn (G8)
                    _log.warning("a subscriber to constraints failed: %s", type(error).__name__)

    def decide(self, constraint: Constraint) -> bool | None:
        """What the one who confirms says; None if there is nobody, or on failure."""
        if self._confirm is None:
            return None
        try:
            answer = self._confirm(constraint)
        except Exception as error:  # noqa: BLE001 - see `tell`; an unanswered proposal stays one
            _log.warning("the confirmation of a constraint failed: %s", type(error).__name__)
            return None
        return answer if isinstance(answer, bool) else None
