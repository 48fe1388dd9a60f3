"""`with_memory`: any runnable with this memory, and what LangChain's own wrapper cannot do.

The user's message is saved before the model runs, the incoming question decides what
is recalled, an error or a broken stream takes the turn back, and an error while saving
is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langchain_core.runnables.base import RunnableLike, coerce_to_runnable
from langchain_core.runnables.utils import ConfigurableFieldSpec

from langchain_langmem_plugin.convert import from_core_all, to_core_all
from langchain_langmem_plugin.events import aannounce, announce
from langchain_langmem_plugin.graphs import holds_graph
from langchain_langmem_plugin.prompting import merge_systems, rendered_without_history
from langchain_langmem_plugin.recording import same_words
from langchain_langmem_plugin.retrying import Retrying
from langchain_langmem_plugin.saying import asked_in, ends_open, said_in
from langchain_langmem_plugin.system import system_text, with_constraints
from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context, ContextReport
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn


def with_memory(
    runnable: RunnableLike[Any, Any],
    *,
    memory: Memory,
    owner: str | Callable[[RunnableConfig], str],
    session_id: str | Callable[[RunnableConfig], str] | None = None,
    input_messages_key: str | None = None,
    history_messages_key: str | None = None,
    output_messages_key: str | None = None,
    system: str = "",
    tools: Sequence[Mapping[str, Any]] = (),
    budget: Budget | None = None,
) -> Runnable[Any, Any]:
    """The runnable with a memory: give it only what is new, and it sees the conversation.

    A turn is saved when the input arrives and committed with the output. If the runnable
    fails, or its stream is broken, cancelled or not read to the end, the turn is taken
    back and the session is as before. A request that the model refuses as too long is
    rebuilt smaller and sent again, at most three times, and the session's report says so;
    an agent is not run again, because it would run its tools again. An output that calls tools leaves the turn open
    for the tools' results.

    Without `history_messages_key` the runnable is given the whole request as a list of
    messages (under `input_messages_key` if its input is a dict), within the budget: what
    a chat model or an agent takes. With it, the history goes under that key, for a prompt
    with a `MessagesPlaceholder`, and what is recalled for the question stands at its end;
    the prompt's own text is counted where the runnable begins with the prompt. Where the
    runnable is a sequence with a chat model, the constraints are joined to the prompt's
    system message.

    Args:
        runnable: A chat model, a chain, an agent, a function.
        memory: The memory.
        owner: Whose conversation it is, or a callable that finds it from the config.
        session_id: The session, or a callable from the config; `session_id` or
            `thread_id` of `config["configurable"]` if not given.
        input_messages_key: Where a dict input holds what is new (a text or messages).
        history_messages_key: Where the prompt takes the history from.
        output_messages_key: Where a dict output holds the answer.
        system: A system prompt; sent without `history_messages_key`, only counted with it.
        tools: Schemas of tools that are bound to the model; only counted.
        budget: Limits in tokens; the memory's own if not given.

    Raises:
        InvalidSetting: `history_messages_key` without `input_messages_key`.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> from langmem_plugin import Memory
        >>> with Memory.open() as memory:
        ...     count = with_memory(RunnableLambda(lambda seen: str(len(seen))), memory=memory, owner="ann")
        ...     config = {"configurable": {"session_id": "trip"}}
        ...     count.invoke("Hello", config), count.invoke("Hello again", config)
        ('1', '3')
    """
    if history_messages_key is not None and input_messages_key is None:
        raise InvalidSetting("input_messages_key", None, "say where the input holds what is new")
    inner: Runnable[Any, Any] = coerce_to_runnable(runnable)
    return _WithMemory(
        merge_systems(inner) if history_messages_key else inner,
        memory=memory,
        owner=owner,
        session_id=session_id,
        keys=_Keys(input_messages_key, history_messages_key, output_messages_key),
        system=system,
        tools=tools,
        budget=budget,
    )


@dataclass(frozen=True, slots=True)
class _Keys:
    input: str | None
    history: str | None
    output: str | None


@dataclass(slots=True)
class _Run:
    """One call: its turn, what the runnable is given, and what that was made of."""

    turn: Turn
    began: bool
    given: Any = None
    context: Context | None = None
    sent: Sequence[BaseMessage] = ()
    """What the runnable is given, as a request."""
    rebuild: Callable[[Sequence[BaseMessage]], Any] | None = None
    """From other messages in place of `sent` to what the runnable is given."""
    retrying: Retrying | None = None

    @property
    def report(self) -> ContextReport | None:
        """The account of the request, once there is one."""
        return self.context.report if self.context is not None else None


class _WithMemory(Runnable[Any, Any]):
    def __init__(
        self,
        inner: Runnable[Any, Any],
        *,
        memory: Memory,
        owner: str | Callable[[RunnableConfig], str],
        session_id: str | Callable[[RunnableConfig], str] | None,
        keys: _Keys,
        system: str,
        tools: Sequence[Mapping[str, Any]],
        budget: Budget | None,
    ) -> None:
        self._inner = inner
        self._memory = memory
        self._owner = owner
        self._session_id = session_id
        self._keys = keys
        self._system = system
        self._tools = tuple(tools)
        self._budget = budget

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        """The runnable's own fields, and the session's id where it comes from the config."""
        specs = list(self._inner.config_specs)
        if self._session_id is None and all(spec.id != "session_id" for spec in specs):
            specs.append(ConfigurableFieldSpec(id="session_id", annotation=str, is_shared=True))
        return specs

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The runnable's output for what is new; the turn is committed when it returns."""
        config = ensure_config(config)
        run = self._begin(input, config)
        try:
            announce(run.report, config)
            output = self._call(run, config, kwargs)
            self._finish(run, output)
        except BaseException:
            _take_back(run)
            raise
        return output

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The runnable's output for what is new; the turn is committed when it returns."""
        config = ensure_config(config)
        run = await self._abegin(input, config)
        try:
            await aannounce(run.report, config)
            output = await self._acall(run, config, kwargs)
            await asyncio.to_thread(self._finish, run, output)
        except BaseException:
            _take_back(run)
            raise
        return output

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The runnable's stream; the turn is committed after the last chunk was taken."""
        config = ensure_config(config)
        run = self._begin(input, config)
        whole = _Whole()
        try:
            announce(run.report, config)
            again = True
            while again:
                again = False
                try:
                    for chunk in self._inner.stream(run.given, config, **kwargs):
                        whole.add(chunk)
                        yield chunk
                except Exception as error:
                    again = whole.value is None and self._smaller(run, error)
                    if not again:
                        raise
            self._finish(run, whole.value)
        except BaseException:  # GeneratorExit too: the consumer left early
            _take_back(run)
            raise

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The runnable's stream; the turn is committed after the last chunk was taken."""
        config = ensure_config(config)
        run = await self._abegin(input, config)
        whole = _Whole()
        try:
            await aannounce(run.report, config)
            again = True
            while again:
                again = False
                try:
                    async for chunk in self._inner.astream(run.given, config, **kwargs):
                        whole.add(chunk)
                        yield chunk
                except Exception as error:
                    again = whole.value is None and self._smaller(run, error)
                    if not again:
                        raise
            await asyncio.to_thread(self._finish, run, whole.value)
        except BaseException:  # GeneratorExit and CancelledError too
            _take_back(run)
            raise

    def _call(self, run: _Run, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
        while True:
            try:
                return self._inner.invoke(run.given, config, **kwargs)
            except Exception as error:
                if not self._smaller(run, error):
                    raise

    async def _acall(self, run: _Run, config: RunnableConfig, kwargs: dict[str, Any]) -> Any:
        while True:
            try:
                return await self._inner.ainvoke(run.given, config, **kwargs)
            except Exception as error:
                if not self._smaller(run, error):
                    raise

    def _smaller(self, run: _Run, error: Exception) -> bool:
        """Give the runnable less, if the model refused its request as too long; False if that is not so."""
        if run.rebuild is None or holds_graph(self._inner):
            return False  # an agent that runs again may run its tools again
        if run.retrying is None:
            run.retrying = Retrying(run.sent, session=run.turn.session, counter=self._memory.counter)
        messages = run.retrying.after(error)
        if messages is None:
            return False
        run.given = run.rebuild(messages)
        return True

    def _begin(self, given: Any, config: RunnableConfig) -> _Run:
        session = self._session(config)
        asked = asked_in(given, self._keys.input)
        systems = [message for message in asked if isinstance(message, SystemMessage)]
        new = to_core_all(message for message in asked if not isinstance(message, SystemMessage))
        turn = _called_from(session.resume(), new)
        began = turn is None
        if turn is None:
            turn = session.begin(*new)
        else:
            turn.append(*new)
        run = _Run(turn=turn, began=began)
        try:
            if self._keys.history is None:
                self._show_all(run, session, given, new, systems)
            else:
                self._show_history(run, session, given, new)
        except BaseException:
            _take_back(run)
            raise
        return run

    async def _abegin(self, given: Any, config: RunnableConfig) -> _Run:
        beginning = asyncio.ensure_future(asyncio.to_thread(self._begin, given, config))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The thread goes on when its task is cancelled; the turn it begins must not be left open.
            beginning.add_done_callback(_take_back_begun)
            raise

    def _show_all(
        self, run: _Run, session: Session, given: Any, new: Sequence[Message], systems: Sequence[SystemMessage]
    ) -> None:
        first: SystemMessage | None = SystemMessage(self._system) if self._system else None
        if len(systems) == 1 and first is None:
            first = systems[0]
        elif systems:
            first = SystemMessage(system_text([*([first] if first else []), *systems]))
        text = system_text([first]) if first is not None else ""
        if run.turn.state == "pending":
            context = run.turn.context(system=text, tools=self._tools, budget=self._budget)
        else:  # a retry of a turn that was answered: it is asked again, and nothing is added
            query = next((message for message in reversed(new) if message.role is Role.USER), None)
            context = session.context(query, system=text, tools=self._tools, budget=self._budget)
        sent = with_constraints(first, text, context.system)
        messages = [*([sent] if sent is not None else []), *from_core_all(context.conversation)]
        run.context = context
        key = self._keys.input

        def rebuild(messages: Sequence[BaseMessage]) -> Any:
            if isinstance(given, Mapping):
                return {**given, key or next(iter(given)): list(messages)}
            return list(messages)

        run.sent, run.rebuild = messages, rebuild
        run.given = rebuild(messages)

    def _show_history(self, run: _Run, session: Session, given: Any, new: Sequence[Message]) -> None:
        if not isinstance(given, Mapping):
            raise InvalidSetting("input", type(given).__name__, f"give a dict with {self._keys.input!r}")
        key = cast("str", self._keys.history)
        budget = self._budget or self._memory.config.budget
        prompt = rendered_without_history(self._inner, {**given, key: []})
        system = self._system
        if prompt is not None:
            system = system_text([message for message in prompt if message.type == "system"]) or system
            # The question is counted as the query; everything else of the prompt takes its room here.
            rest = to_core_all(message for message in prompt if message.type != "system")
            count = self._memory.counter.count_message
            taken = sum(map(count, rest)) - sum(map(count, new))
            if taken > 0:
                budget = budget.model_copy(update={"max_tokens": max(1, budget.max_tokens - taken)})
        query = next((message for message in reversed(new) if message.role is Role.USER), None)
        context = session.context(query, system=system, tools=self._tools, budget=budget, recall_as="pair")
        constraints = context.system.removeprefix(system).strip()
        history = from_core_all(context.conversation)
        # The turn's earlier messages, if it goes on after tool calls, belong before the new ones.
        history += from_core_all(run.turn.messages[: len(run.turn.messages) - len(new)])
        before = [*([SystemMessage(constraints)] if constraints else []), *history]
        asked = from_core_all(new)  # the prompt adds it: it belongs to the request, not to what is given

        def rebuild(messages: Sequence[BaseMessage]) -> Any:
            return {**given, key: list(messages[: len(messages) - len(asked)])}

        run.sent, run.rebuild = [*before, *asked], rebuild
        run.given = {**given, key: before}
        run.context = context

    def _finish(self, run: _Run, output: Any) -> None:
        said = to_core_all(message for message in said_in(output, self._keys.output) if message.type != "system")
        shown = run.context.conversation if run.context is not None else ()
        size = len(shown)
        if size and len(said) > size and all(same_words(said[n], shown[n]) for n in range(size)):
            said = said[size:]  # a graph gives back what it was given
        if said and ends_open(output):
            said[-1] = replace(said[-1], metadata={**said[-1].metadata, "partial": True})
            run.turn.session.add_notes("the stream ended without a finish reason: the answer may be cut off")
        run.turn.append(*said)
        if not said or said[-1].role is not Role.ASSISTANT or not said[-1].tool_calls:
            run.turn.commit()

    def _session(self, config: RunnableConfig) -> Session:
        owner = self._owner if isinstance(self._owner, str) else self._owner(config)
        if isinstance(self._session_id, str):
            return self._memory.session(self._session_id, owner=owner)
        if self._session_id is not None:
            return self._memory.session(self._session_id(config), owner=owner)
        configurable = config.get("configurable") or {}
        session_id = configurable.get("session_id") or configurable.get("thread_id")
        if not session_id:
            raise InvalidSetting(
                "session_id", None, 'give session_id=..., or a config {"configurable": {"session_id": ...}}'
            )
        return self._memory.session(str(session_id), owner=owner)


def _called_from(turn: Turn | None, new: Sequence[Message]) -> Turn | None:
    """The open turn, if the new messages are results of its tool calls; None for anything else."""
    calls = {call.id for message in (turn.messages if turn else ()) for call in message.tool_calls}
    results = [message.tool_call_id for message in new if message.role is Role.TOOL]
    return turn if new and len(results) == len(new) and calls.issuperset(results) else None


def _take_back(run: _Run) -> None:
    """Abort what this call began; what an earlier call said stays open for a retry.

    Called as it is in async code as well: one short transaction, and a task that is being
    cancelled or a generator that is being closed may not wait.
    """
    if run.began:
        run.turn.abort()


def _take_back_begun(beginning: asyncio.Future[_Run]) -> None:
    if not beginning.cancelled() and beginning.exception() is None:
        _take_back(beginning.result())


class _Whole:
    """The sum of a stream's chunks; the last one where they cannot be added."""

    def __init__(self) -> None:
        self.value: Any = None

    def add(self, chunk: Any) -> None:
        if self.value is None:
            self.value = chunk
            return
        try:
            self.value = self.value + chunk
        except TypeError:
            self.value = chunk
