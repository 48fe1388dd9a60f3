"""Asking and answering: one turn a question, kept only whole."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol

from langmem_plugin.chat.server import ChatServer
from langmem_plugin.context.request import ContextReport
from langmem_plugin.errors import LangmemPluginError, ServerFailed
from langmem_plugin.messages import Role
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 8.0


class Display(Protocol):
    """Where an answer appears while it arrives."""

    def piece(self, text: str) -> None:
        """The next piece of the answer."""
        ...

    def broken(self, why: ServerFailed, *, wait_s: float) -> None:
        """What was shown so far is void; the same question is asked again after `wait_s` seconds."""
        ...


class Talk:
    """A session that talks to a server.

    A question is durable before the server is asked, and its turn stays pending until
    the whole answer has come (guarantees G4 to G6): whatever fails, the same question can
    be asked again, by this process or the next one.
    """

    def __init__(
        self,
        session: Session,
        server: ChatServer,
        *,
        system: str = "",
        retries: int = 3,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.session = session
        self.system = system
        self.report: ContextReport | None = None
        """Of the last request."""
        self.failures = 0
        """Failed attempts so far."""
        self._server = server
        self._retries = max(0, retries)
        self._sleep = sleep

    def unanswered(self) -> str | None:
        """The question that waits for its answer; None if there is none."""
        turn = self._pending()
        if turn is None:
            return None
        return next((m.text for m in reversed(turn.messages) if m.role is Role.USER), None)

    def ask(self, text: str, display: Display) -> str:
        """The answer to what the user says; a question that was left unanswered is dropped.

        Raises:
            ServerFailed: After the last retry, or at once where a retry cannot help; the turn stays pending.
            BudgetTooSmall: The message does not fit; nothing is kept.
            KeyboardInterrupt: The user broke it off; nothing is kept.
        """
        self.drop()
        return self._answer(self.session.begin(text), display)

    def again(self, display: Display) -> str | None:
        """The answer to the question that waits; None if none does. Raises as `ask`."""
        turn = self._pending()
        return None if turn is None else self._answer(turn, display)

    def drop(self) -> None:
        """Forget the question that waits."""
        while (turn := self._pending()) is not None:
            turn.abort()

    def _pending(self) -> Turn | None:
        turn = self.session.resume()
        if turn is not None and turn.messages and turn.messages[-1].role is Role.ASSISTANT:
            turn.commit()  # a process died between the whole answer and the commit
            return self.session.resume()
        return turn

    def _answer(self, turn: Turn, display: Display) -> str:
        try:
            answer = self._with_retries(turn, display)
        except ServerFailed:
            raise
        except (KeyboardInterrupt, LangmemPluginError):
            turn.abort()
            raise
        turn.append(answer)
        turn.commit()
        return answer

    def _with_retries(self, turn: Turn, display: Display) -> str:
        attempt = 0
        while True:
            context = turn.context(system=self.system)
            self.report = context.report
            pieces: list[str] = []
            try:
                for piece in self._server.stream(context.messages):
                    pieces.append(piece)
                    display.piece(piece)
            except ServerFailed as error:
                self.failures += 1
                if not error.worth_retrying or attempt >= self._retries:
                    raise
                wait_s = self._wait(attempt) if error.after_s is None else error.after_s
                attempt += 1
                display.broken(error, wait_s=wait_s)
                self._sleep(wait_s)
            else:
                return "".join(pieces)

    @staticmethod
    def _wait(attempt: int) -> float:
        longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0**attempt)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that clients do not come back together
