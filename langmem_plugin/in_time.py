"""Another's code under a deadline, with a circuit breaker: a model, or an index.

It runs in a daemon thread, so that one that hangs holds up neither the request nor the
end of the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeAlias, TypeVar

from langmem_plugin.errors import ModelFailed

FAILURES: Final = 3
"""So many failures in a row open the breaker ..."""
PAUSE_S: Final = 30.0
"""... for so long; then one query tries again."""
AT_ONCE: Final = 4
"""Calls that may run at one time."""

T = TypeVar("T")
Late: TypeAlias = Callable[[], bool]
"""Whether nobody waits any more."""


class InTime(Generic[T]):
    """Calls another's code and gives what it answers in time; thread-safe."""

    def __init__(
        self,
        who: str,
        *,
        doing: str,
        otherwise: str,
        thread: str,
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Makes nothing yet.

        Args:
            who: Who is called, as notes name it: "the embedder".
            doing: Its work, as notes name it: "the embedding".
            otherwise: What comes instead, as notes say it.
            thread: The threads' name.
            at_once: Calls that may run at one time; one more is told that it is busy.
            clock: Seconds that only grow.
        """
        self._who = who
        self._doing = doing
        self._otherwise = otherwise
        self._thread = thread
        self._clock = clock
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(at_once)
        self._failures = 0
        self._open_until = 0.0

    def call(self, work: Callable[[Late], T | None], *, deadline_s: float) -> tuple[T | None, str]:
        """What the work gives, or None and why there is none. Never raises.

        Args:
            work: Runs in a thread of its own, to its end even if that is late. It may ask whether it is, and
                give up by giving None.
            deadline_s: Seconds to wait at most.
        """
        with self._lock:
            if self._clock() < self._open_until:
                return None, self._note(f"{self._who} failed {self._failures} times in a row and rests")
        if not self._slots.acquire(blocking=False):
            return None, self._note(f"{self._who} is busy")
        answer: list[T | BaseException | None] = []
        done, late = threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(work, late, answer, done), name=self._thread, daemon=True).start()
        if not done.wait(deadline_s):
            late.set()
            self._failed()
            return None, self._note(f"{self._doing} took longer than {deadline_s:.3g} s")
        found = answer[0]
        if isinstance(found, BaseException):
            return None, self.failure(found)
        return found, ""

    def failure(self, error: BaseException) -> str:
        """What a note says of an error of the model's; repeats no text."""
        why = type(error).__name__ + (f": {error.why}" if isinstance(error, ModelFailed) else "")
        return self._note(f"{self._who} failed ({why})")

    def _run(
        self,
        work: Callable[[Late], T | None],
        late: threading.Event,
        answer: list[T | BaseException | None],
        done: threading.Event,
    ) -> None:
        try:
            found = work(late.is_set)
        except Exception as error:  # noqa: BLE001 - another's code; a failing leg never fails a turn (G8)
            self._failed()
            answer.append(error)
        else:
            answer.append(found)
            if found is not None:
                with self._lock:
                    self._failures = 0
                    self._open_until = 0.0
        finally:
            self._slots.release()
            done.set()

    def _note(self, what: str) -> str:
        return f"{what}; {self._otherwise}"

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._open_until = self._clock() + PAUSE_S
