"""Middleware for `create_agent`: the memory decides what the model sees; the agent's state is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.config import get_config

from langchain_langmem_plugin.alignment import unrecorded
from langchain_langmem_plugin.caching import boundaries, marked
from langchain_langmem_plugin.convert import from_core_all, to_core
from langchain_langmem_plugin.events import aannounce, announce
from langchain_langmem_plugin.open_turns import OpenTurns
from langchain_langmem_plugin.recording import record, same_words
from langchain_langmem_plugin.retrying import Retrying
from langchain_langmem_plugin.system import system_text, with_constraints
from langmem_plugin.config import Budget
from langmem_plugin.context.request import Context, ContextReport
from langmem_plugin.errors import BudgetTooSmall, InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.session import Session
from langmem_plugin.turn import Turn


class HybridMemoryMiddleware(AgentMiddleware[Any, Any, Any]):
    """Gives an agent this memory: constraints, summary, window and recall within a token budget.

    Before each model call it records what the agent's state has and the memory has not,
    and sends the memory's request in place of the state's messages. The state itself is
    never changed, so checkpoints, interrupts and other middleware see it whole. The turn
    is committed when the agent ends; if the model fails it stays pending, and the next
    run with the same message goes on with it. A request that the model refuses as too long is
    rebuilt smaller and sent again, at most three times; `session.report` says so.

    One instance serves every thread. What is recorded is what the state holds when the
    model is called, so middleware that redacts does so before anything is kept. The log
    only grows: a thread that is forked or edited in LangGraph needs a session of its own,
    and what is deleted from a state is forgotten with `session.clear`.

    Args:
        memory: The memory, shared by all agents of the process.
        owner: Whose conversation it is, or a callable that finds it from the runtime
            (`lambda runtime: runtime.context.user_id`).
        session_id: The session, or a callable from the runtime; the run's `thread_id` if
            not given. A sub-agent needs one of its own.
        budget: Limits in tokens; the memory's own if not given.
        cache_control: Marks for Anthropic's prompt cache, such as `{"type": "ephemeral"}`, set
            where requests repeat; none if not given. Other providers take no such marks.

    Raises:
        InvalidSetting: When a model is called: there is neither session_id nor thread_id.
        BudgetTooSmall: When a model is called: what may never be cut does not fit.

    Example:
        >>> from langmem_plugin import Memory
        >>> memory = Memory.open("sqlite://")
        >>> middleware = HybridMemoryMiddleware(memory, owner="ann")
        >>> memory.close()
    """

    def __init__(
        self,
        memory: Memory,
        *,
        owner: str | Callable[[Any], str],
        session_id: str | Callable[[Any], str] | None = None,
        budget: Budget | None = None,
        cache_control: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.tools = []
        self._memory = memory
        self._owner = owner
        self._session_id = session_id
        self._budget = budget
        self._cache_control = dict(cache_control) if cache_control else None
        self._turns = OpenTurns()

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        """Send the memory's request in place of the state's messages."""
        remembered, turn, report = self._remember(request)
        announce(report)
        retrying = self._retrying(remembered)
        while True:
            try:
                return handler(remembered)
            except BaseException as error:
                smaller = retrying.after(error)
                if smaller is None:
                    if turn is not None:
                        self._turns.failed(turn)
                    raise
                remembered = _with_messages(remembered, smaller)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        """Send the memory's request in place of the state's messages."""
        remembered, turn, report = await asyncio.to_thread(self._remember, request)
        await aannounce(report)
        retrying = self._retrying(remembered)
        while True:
            try:
                return await handler(remembered)
            except BaseException as error:
                smaller = retrying.after(error)
                if smaller is None:
                    if turn is not None:
                        self._turns.failed(turn)
                    raise
                remembered = _with_messages(remembered, smaller)

    def after_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Commit the turn with the answer that the agent ended on."""
        session = self._session(runtime)
        turn = self._record(session, state["messages"], finish=True)
        if turn is not None:
            # The agent ended without a plain answer: a structured one, or a tool that returns directly.
            turn.commit()
            self._turns.closed(turn)
        return None

    async def aafter_agent(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """Commit the turn with the answer that the agent ended on."""
        return await asyncio.to_thread(self.after_agent, state, runtime)

    def _remember(self, request: ModelRequest[Any]) -> tuple[ModelRequest[Any], Turn | None, ContextReport]:
        session = self._session(request.runtime)
        said, before, after = _sides(request)
        turn = self._record(session, said, finish=False)
        if turn is not None:
            self._turns.running(turn)
        first = request.system_message
        given = system_text([first]) if first is not None else ""
        context = self._context(session, turn, request, given, [*before, *after])
        conversation = from_core_all(context.conversation)
        if not conversation:
            return request, turn, context.report
        sent = with_constraints(first, given, context.system)
        messages: list[BaseMessage] = [*before, *conversation, *after]
        if self._cache_control is not None:
            ends = [len(before) + end for end in boundaries(context)]
            sent, messages = marked(sent, messages, given=given, ends=ends, control=self._cache_control)
        changed = request.override(messages=cast("list[AnyMessage]", messages), system_message=sent)
        return changed, turn, context.report

    def _retrying(self, request: ModelRequest[Any]) -> Retrying:
        sent = [*([request.system_message] if request.system_message else []), *request.messages]
        return Retrying(sent, session=self._session(request.runtime), counter=self._memory.counter)

    def _record(self, session: Session, messages: Sequence[BaseMessage], *, finish: bool) -> Turn | None:
        with self._turns.lock(session):
            known, new = unrecorded(session, messages)
            return record(session, new, finish=finish, resume=lambda: self._turns.of_run(session, known, new))

    def _context(
        self,
        session: Session,
        turn: Turn | None,
        request: ModelRequest[Any],
        system: str,
        others: Sequence[BaseMessage],
    ) -> Context:
        taken = sum(self._memory.counter.count_message(to_core(message)) for message in others)
        given: dict[str, Any] = {
            "system": system,
            "tools": _schemas(request),
            "budget": self._budget,
            "other_tokens": taken,
        }
        if turn is None:
            return session.context(**given)
        try:
            return turn.context(**given)
        except BudgetTooSmall:
            self._turns.failed(turn)
            # If the rest fits, the user's message is what is too large. Left in the open turn it
            # would be in every later request too; in the log it can leave the window.
            session.context(**given)
            self._put_by(session, turn)
            raise

    def _put_by(self, session: Session, turn: Turn) -> None:
        log = session.history()
        self._turns.closed(turn)
        if log and len(turn.messages) == 1 and same_words(log[-1].message, turn.messages[0]):
            turn.abort()  # it was put by before, and was sent again
        else:
            turn.commit()

    def _session(self, runtime: Any) -> Session:
        owner = self._owner if isinstance(self._owner, str) else self._owner(runtime)
        session_id = self._session_id
        if session_id is None:
            session_id = _thread_id(runtime)
        elif not isinstance(session_id, str):
            session_id = session_id(runtime)
        return self._memory.session(session_id, owner=owner)


def _with_messages(request: ModelRequest[Any], messages: Sequence[BaseMessage]) -> ModelRequest[Any]:
    system = messages[0] if messages and messages[0].type == "system" else None
    rest = messages[1:] if system is not None else messages
    return request.override(messages=cast("list[AnyMessage]", list(rest)), system_message=cast("Any", system))


def _thread_id(runtime: Any) -> str:
    info = getattr(runtime, "execution_info", None)
    thread_id = getattr(info, "thread_id", None)
    if thread_id is None:
        try:
            thread_id = get_config().get("configurable", {}).get("thread_id")
        except RuntimeError:
            thread_id = None
    if thread_id is None:
        raise InvalidSetting(
            "session_id", None, 'give session_id=..., or run the agent with {"configurable": {"thread_id": ...}}'
        )
    return str(thread_id)


def _sides(request: ModelRequest[Any]) -> tuple[list[BaseMessage], list[BaseMessage], list[BaseMessage]]:
    """The request's messages of the conversation, and what other middleware put before and after them.

    What is in the request and not in the state was made for this call: it is sent on
    and never recorded. System messages within the state are instructions of the same sort.
    LangChain's stand-in for the result of a malformed call is left out: the memory pairs
    calls and results itself, and a result cannot stand apart from its call.
    """
    called: set[str | None] = set()
    held = {message.id for message in request.state.get("messages", ())}
    said: list[BaseMessage] = []
    before: list[BaseMessage] = []
    after: list[BaseMessage] = []
    for message in request.messages:
        if message.type != "system" and (message.id in held or not held):
            said.append(message)
            called |= _call_ids(message)
            before += after
            after = []
        elif isinstance(message, ToolMessage) and message.tool_call_id in called:
            continue
        elif message.type == "system":
            before.append(message)
        else:
            after.append(message)
    return said, before, after


def _call_ids(message: BaseMessage) -> set[str | None]:
    if not isinstance(message, AIMessage):
        return set()
    return {call["id"] for call in (*message.tool_calls, *message.invalid_tool_calls)}


def _schemas(request: ModelRequest[Any]) -> list[dict[str, Any]]:
    """What the provider is told of tools and of the answer's form; both take room in the prompt."""
    schemas = [tool if isinstance(tool, dict) else convert_to_openai_tool(tool) for tool in request.tools]
    form: Any = request.response_format
    specs = getattr(form, "schema_specs", None) or [getattr(form, "schema_spec", None)]
    if form is not None and specs == [None]:
        schema = getattr(form, "schema", form)
        schemas.append(schema if isinstance(schema, dict) else convert_to_openai_tool(schema))
        specs = []
    for spec in specs:
        if spec is not None:
            function = {"name": spec.name, "description": spec.description, "parameters": spec.json_schema}
            schemas.append({"type": "function", "function": function})
    return schemas
