"""A chat history for `RunnableWithMessageHistory` and everything else that takes one.

LangChain deprecates its history classes (removal in langchain-core 2.0) in favour of
middleware; new code should use `HybridMemoryMiddleware` or `with_memory`. This class
works with and without the base class and never warns.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, get_buffer_string
from langchain_core.runnables.config import var_child_runnable_config

from langchain_langmem_plugin.convert import from_core_all, to_core_all
from langchain_langmem_plugin.recording import record, without_echo
from langchain_langmem_plugin.system import one_system
from langmem_plugin.config import Budget
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Role
from langmem_plugin.session import Session

if TYPE_CHECKING:
    from langchain_core.chat_history import BaseChatMessageHistory as _Base
else:
    try:
        from langchain_core.chat_history import BaseChatMessageHistory as _Base
    except ImportError:
        _Base = object


class HybridChatMessageHistory(_Base):
    """A session of the memory as a LangChain chat history.

    `messages` is the memory's view within the budget: a system message with the
    constraints if there are any, the summary of what left the window, and the window.
    While everything fits and nothing binds, that is the plain list of what was added.
    A history is read before the question is known, so nothing is recalled for it:
    `with_memory` does that. The budget must leave room for what the chain adds (its
    prompt and the question); `Budget(completion=...)` can reserve it.

    One call of `add_messages` is one turn. A user message alone stays pending until an
    answer comes. Messages with an id that is known add nothing.

    Under `RunnableWithMessageHistory` let the factory make a new object a call; that is
    cheap. One object for all calls of a session works too while they come one after the
    other; runs on it at the same time would cut each other's messages off.

    Args:
        session_id: The session.
        memory: The memory; without one, a memory of its own that lives as long as the object.
        owner: Whose conversation it is; needed with a memory.
        budget: Limits of `messages` in tokens; the memory's own if not given.
        system: A system prompt to stand before the constraints.
        messages: Added at once, for a history that begins with something.

    Raises:
        InvalidSetting: A memory without an owner.

    Example:
        >>> history = HybridChatMessageHistory("trip")
        >>> history.add_user_message("Hello")
        >>> history.add_ai_message("Hi!")
        >>> print(history)
        Human: Hello
        AI: Hi!
    """

    def __init__(
        self,
        session_id: str = "default",
        *,
        memory: Memory | None = None,
        owner: str | None = None,
        budget: Budget | None = None,
        system: str = "",
        messages: Sequence[BaseMessage] = (),
    ) -> None:
        if memory is None:
            memory = Memory.open("sqlite://")
            weakref.finalize(self, memory.close)
            owner = owner or "default"
        if owner is None:
            raise InvalidSetting("owner", None, "say whose conversation it is, for example the user's id")
        self.session: Session = memory.session(session_id, owner=owner)
        self._memory = memory
        self._budget = budget
        self._system = system
        self._loaded: list[BaseMessage] | None = None
        if messages:
            self.add_messages(messages)

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]
        """The memory's view: constraints if any, summary if any, window, and a turn that is open."""
        return self._view()

    async def aget_messages(self) -> list[BaseMessage]:
        """The same as `messages`, read in a thread."""
        return await asyncio.to_thread(self._view)

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add one turn, or what continues the open one; ids that are known add nothing.

        Raises:
            InvalidMessage: A message cannot be kept; nothing of its turn is.
        """
        self._add(messages)

    async def aadd_messages(self, messages: Sequence[BaseMessage]) -> None:
        """The same as `add_messages`, written in a thread."""
        await asyncio.to_thread(self._add, messages)

    def add_message(self, message: BaseMessage) -> None:
        """Add one message."""
        self.add_messages([message])

    def add_user_message(self, message: HumanMessage | str) -> None:
        """Add what the user says; it opens a turn."""
        self.add_messages([HumanMessage(message) if isinstance(message, str) else message])

    def add_ai_message(self, message: AIMessage | str) -> None:
        """Add an answer; it commits the turn, unless it calls tools."""
        self.add_messages([AIMessage(message) if isinstance(message, str) else message])

    def clear(self) -> None:
        """Forget the session: log, summary, constraints of the session, keyword index, vectors."""
        open_turn = self.session.resume()
        if open_turn is not None:
            open_turn.abort()
        self.session.clear()
        self._loaded = None

    async def aclear(self) -> None:
        """The same as `clear`, in a thread."""
        await asyncio.to_thread(self.clear)

    def __eq__(self, other: object) -> bool:
        if not hasattr(other, "messages"):
            return NotImplemented
        return bool(self.messages == other.messages)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return get_buffer_string(self.messages)

    def __repr__(self) -> str:
        return f"HybridChatMessageHistory({self.session.id!r}, owner={self.session.owner!r})"

    def _add(self, messages: Sequence[BaseMessage]) -> None:
        said = to_core_all(messages)
        shown = self._loaded if self._in_run() else None
        if shown:
            # A graph returns its whole state: what it was shown comes back between the new messages.
            said = without_echo(said, to_core_all(shown))
        known = self.session.known([message.id for message in said if message.id])
        record(self.session, [message for message in said if message.id not in known], finish=True)

    def _view(self) -> list[BaseMessage]:
        if not self._in_run():
            return self._read()
        loaded = self._loaded
        return self._load() if loaded is None else _Loaded(loaded, again=self._load)

    def _load(self) -> list[BaseMessage]:
        self._loaded = view = self._read()
        return list(view)

    def _read(self) -> list[BaseMessage]:
        context = self.session.context(system=self._system, budget=self._budget)
        open_turn = self.session.resume()
        pending = open_turn.messages if open_turn else ()
        report = context.report
        if not (report.summarised or report.waiting or report.cut):
            log = [entry.message for entry in self.session.history()]
            if any(message.role is Role.SYSTEM for message in log):
                # A request carries them as notes of the application, a history gives them back.
                return one_system(from_core_all([*context.messages[: bool(context.system)], *log, *pending]))
        return from_core_all([*context.messages, *pending])

    def _in_run(self) -> bool:
        """Whether a `RunnableWithMessageHistory` is running on this object right now."""
        config: Any = var_child_runnable_config.get() or {}
        return (config.get("configurable") or {}).get("message_history") is self


class _Loaded(list[BaseMessage]):
    """What a run was given when it loaded the history.

    In its mode without a history key, `RunnableWithMessageHistory` reads the history a
    second time when it saves, and cuts its messages off by their number: a view that had
    changed meanwhile would lose the user's message or save old ones again. So the second
    reading gets what the first one got. Only the first reading calls `copy`, which is how
    the next run on the same object gets a new view.
    """

    def __init__(self, messages: Sequence[BaseMessage], *, again: Callable[[], list[BaseMessage]]) -> None:
        super().__init__(messages)
        self._again = again

    def copy(self) -> list[BaseMessage]:
        """A new reading."""
        return self._again()
