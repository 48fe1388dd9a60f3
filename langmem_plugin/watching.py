"""Who wants to know what becomes of constraints, and who measures: subscribers, and the one who confirms proposals."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeAlias, TypeVar

from langmem_plugin.records import Constraint, ConstraintEvent

_log = logging.getLogger(__name__)

_Told = TypeVar("_Told")

Watcher: TypeAlias = Callable[[ConstraintEvent], object]
"""Called in the thread that made the change, after it is durable; what it raises is logged by its class alone."""

Confirm: TypeAlias = Callable[[Constraint], bool | None]
"""Says of a proposed constraint: True, it holds; False, it is revoked; None, it stays proposed."""


class Subscribers(Generic[_Told]):
    """Who is told of one kind of thing; thread-safe."""

    def __init__(self, to: str) -> None:
        self._to = to
        self._lock = threading.Lock()
        self._subscribers: tuple[Callable[[_Told], object], ...] = ()

    def __bool__(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._subscribers)

    def add(self, subscriber: Callable[[_Told], object]) -> Callable[[], None]:
        """Tell it of everything later; gives a function that ends that, however often it is called."""
        with self._lock:
            self._subscribers += (subscriber,)

        def end() -> None:
            with self._lock:
                left = list(self._subscribers)
                if subscriber in left:
                    left.remove(subscriber)
                self._subscribers = tuple(left)

        return end

    def tell(self, events: Iterable[_Told]) -> None:
        """Tell every subscriber, in the order of the events."""
        for event in events:
            for subscriber in self._subscribers:
                try:
                    subscriber(event)
                except Exception as error:  # noqa: BLE001 - a subscriber's failure never fails a turn (G8)
                    _log.warning("a subscriber to %s failed: %s", self._to, type(error).__name__)


class Watchers(Subscribers[ConstraintEvent]):
    """Subscribers to the constraints of one memory; thread-safe."""

    def __init__(self, confirm: Confirm | None = None) -> None:
        super().__init__("constraints")
        self._confirm = confirm
        self.heard: Callable[[Sequence[ConstraintEvent]], None] | None = None
        """Told of the same events once the subscribers were."""

    def tell(self, events: Iterable[ConstraintEvent]) -> None:
        """Tell every subscriber, in the order of the events."""
        told = list(events)
        super().tell(told)
        if self.heard is not None and self:
            self.heard(told)

    @property
    def confirms(self) -> bool:
        """Whether anybody decides on proposals."""
        return self._confirm is not None

    def __bool__(self) -> bool:
        """Whether anybody wants to know."""
        return super().__bool__() or self.confirms

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
