"""`HybridChatMemoryBuffer`: this package's memory where LlamaIndex takes a `ChatMemoryBuffer`."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Self
from uuid import uuid4

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.memory.chat_memory_buffer import DEFAULT_TOKEN_LIMIT, DEFAULT_TOKEN_LIMIT_RATIO
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY
from llama_index.core.schema import QueryBundle
from pydantic import Field, PrivateAttr, model_serializer

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context.request import Context, ContextReport
from langmem_plugin.errors import BudgetTooSmall, InvalidMessage, InvalidSetting
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role
from langmem_plugin.messages import system as system_message
from langmem_plugin.session import Session
from llama_index.memory.langmem_plugin.arrange import Insert, arrange, extra_messages
from llama_index.memory.langmem_plugin.callers import Caller, caller
from llama_index.memory.langmem_plugin.chat_store import SessionChatStore
from llama_index.memory.langmem_plugin.conversation import Conversation, conversation
from llama_index.memory.langmem_plugin.convert import from_core, to_core
from llama_index.memory.langmem_plugin.events import announced
from llama_index.memory.langmem_plugin.opening import (
    IN_MEMORY,
    Tokenizer,
    find_memory,
    is_in_memory,
    model_name_of,
    open_memory,
    ticket_of,
    within,
)

logger = logging.getLogger(__name__)

DEFAULT_OWNER = "default"


class TokenLimitExceeded(BudgetTooSmall, ValueError):
    """The engine's own messages alone exceed the token limit; a `ValueError`, as `ChatMemoryBuffer` raises."""


class HybridChatMemoryBuffer(ChatMemoryBuffer):  # type: ignore[misc, unused-ignore]
    """Conversation memory for chat engines, agents and workflows; takes the place of `ChatMemoryBuffer`.

    What an engine puts is kept durably, a turn at a time; what it gets is the user's
    standing constraints, the summary, the window of recent turns and what is recalled for
    the question, within `token_limit`. Getting changes nothing and calls no LLM.

    Copying a buffer gives the same buffer, and `to_dict`/`from_dict` and pickling give one
    on the same session, so a workflow's `Context` keeps its memory.

    Attributes:
        token_limit: Tokens that the messages from `get` may have, as the memory's counter counts.
        session_id: Whose conversation within its owner; random if not given.
        owner: Nothing is read across owners.
        system: A system prompt that goes before the constraints; "" for none.
        insert: Where system prompt and constraints go: "auto" (a leading system message that
            no agent drops), "system" (exactly one leading system message) or "user" (before
            the user's text, for models without a system role).

    Example:
        >>> memory = HybridChatMemoryBuffer.from_defaults(token_limit=3000)
        >>> memory.put(ChatMessage(role="user", content="Never call me before noon."))
        >>> [message.content for message in memory.get()]
        ['Never call me before noon.']
    """

    url: str = IN_MEMORY
    session_id: str = Field(default_factory=lambda: uuid4().hex)
    owner: str = DEFAULT_OWNER
    system: str = ""
    insert: Insert = "auto"

    _memory: Memory = PrivateAttr()
    _talk: Conversation = PrivateAttr()
    _model_name: str | None = PrivateAttr(default=None)
    _report: ContextReport | None = PrivateAttr(default=None)

    def __init__(
        self,
        *,
        memory: Memory | None = None,
        config: MemoryConfig | None = None,
        llm: Any = None,
        embedder: Any = None,
        summarizer: Any = None,
        **data: Any,
    ) -> None:
        data = {key: value for key, value in data.items() if value is not None}
        tokenizer: Tokenizer | None = data.pop("tokenizer_fn", None)
        model_name = data.pop("model_name", None) or model_name_of(llm)
        url: str = data.pop("url", IN_MEMORY)
        if "token_limit" not in data:
            settings = memory.config if memory is not None else config
            data["token_limit"] = settings.budget.prompt if settings is not None else DEFAULT_TOKEN_LIMIT
        own = memory is None and is_in_memory(url)
        if memory is None:
            memory = open_memory(
                url,
                config=config,
                token_limit=data["token_limit"],
                model_name=model_name,
                tokenizer=tokenizer,
                embedder=embedder,
                summarizer=summarizer,
            )
        else:
            _refuse(
                url=url != IN_MEMORY, config=config, embedder=embedder, summarizer=summarizer, tokenizer_fn=tokenizer
            )
        counter = memory.counter
        super().__init__(**data, url=memory.url, tokenizer_fn=tokenizer or (lambda text: [0] * counter.count(text)))
        self._memory = memory
        self._model_name = model_name
        self._talk = conversation(memory, self.session_id, owner=self.owner)
        if own:  # nobody else can open it: it ends with its last buffer, and its threads with it
            weakref.finalize(self._talk, memory.close, 0).atexit = False
        self.chat_store = SessionChatStore(self.chat_store_key, self._talk)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex writes beside the data."""
        return "HybridChatMemoryBuffer"

    @classmethod
    def from_defaults(
        cls,
        chat_history: list[ChatMessage] | None = None,
        llm: Any = None,
        chat_store: Any = None,
        chat_store_key: str = DEFAULT_CHAT_STORE_KEY,
        token_limit: int | None = None,
        tokenizer_fn: Callable[[str], list[Any]] | None = None,
        *,
        memory: Memory | None = None,
        url: str | None = None,
        session_id: str | None = None,
        owner: str = DEFAULT_OWNER,
        system: str = "",
        insert: Insert = "auto",
        config: MemoryConfig | None = None,
        embedder: Any = None,
        summarizer: Any = None,
        **kwargs: Any,
    ) -> Self:
        """A buffer; every argument has a default that works, and the parent's mean what they mean there.

        Args:
            chat_history: What was said before, for a session that is new; a session that
                continues it already, or continues from it, keeps what it holds.
            llm: Three quarters of its context window are the token limit, and its name
                says how tokens are counted.
            chat_store: Its messages under `chat_store_key` are taken over, like `chat_history`.
            chat_store_key: The session's id too, if it is not the default and none is given.
            token_limit: Tokens for the messages from `get`; the memory's budget or 3000 if not given.
            tokenizer_fn: From a text to a list of tokens; LlamaIndex's global tokenizer if neither
                this nor an LLM with a known tokenizer is given.
            memory: An open memory to use; close it yourself.
            url: A database to open: `sqlite:///file.db`; in memory if not given.
            session_id: Whose conversation within its owner; random if not given.
            owner: Whose data it is.
            system: A system prompt that goes before the constraints.
            insert: Where system prompt and constraints go.
            config: The memory's settings, if it is opened here.
            embedder: For recall by meaning, if the memory is opened here; see `Memory.open`.
            summarizer: An LLM for the summary, if the memory is opened here; see `Memory.open`.
            kwargs: None are known; as the parent does, any is refused.

        Raises:
            ValueError: An argument is unknown or the token limit is not positive.
            InvalidSetting: Two arguments contradict one another.
            StoreUnavailable: The database cannot be opened or written.
        """
        if kwargs:
            raise ValueError(f"Unexpected kwargs: {kwargs}")
        if llm is not None:
            token_limit = token_limit or int(llm.metadata.context_window * DEFAULT_TOKEN_LIMIT_RATIO)
        if session_id is None and chat_store_key != DEFAULT_CHAT_STORE_KEY:
            session_id = chat_store_key
        buffer = cls(
            memory=memory,
            config=config,
            llm=llm,
            embedder=embedder,
            summarizer=summarizer,
            token_limit=token_limit,
            tokenizer_fn=tokenizer_fn,
            chat_store_key=chat_store_key,
            url=url,
            session_id=session_id,
            owner=owner,
            system=system,
            insert=insert,
        )
        earlier = chat_history
        if earlier is None and chat_store is not None:
            earlier = chat_store.get_messages(chat_store_key)
        if earlier and not buffer._talk.seed([to_core(message) for message in earlier]):
            logger.warning("the session does not go on from the chat history given; it keeps what it holds")
        return buffer

    # -- reading --------------------------------------------------------------------------

    def get(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """The messages for the next model call, within the token limit; new copies, nothing changes.

        Args:
            input: The user's message if it is not in memory yet, or again if it is: a text, a
                `ChatMessage` or a `QueryBundle`. Without one, the open turn's message is asked for.
            initial_token_count: Tokens that the engine puts before these messages.
            kwargs: Ignored, because engines and blocks pass what they like.

        Raises:
            BudgetTooSmall: Constraints and the user's message alone exceed the token limit.
            TokenLimitExceeded: The engine's own messages alone do.
        """
        return self._get(input, initial_token_count, caller())

    async def aget(self, input: Any = None, initial_token_count: int = 0, **kwargs: Any) -> list[ChatMessage]:
        """See `get`."""
        return await asyncio.to_thread(self._get, input, initial_token_count, caller())

    def get_all(self) -> list[ChatMessage]:
        """The whole transcript as it was put, the open turn included; copies."""
        return [from_core(message) for message in self._talk.transcript()]

    async def aget_all(self) -> list[ChatMessage]:
        """See `get_all`."""
        return await asyncio.to_thread(self.get_all)

    @property
    def memory(self) -> Memory:
        """The memory behind this buffer."""
        return self._memory

    @property
    def session(self) -> Session:
        """The session behind this buffer: history, recall, constraints; keep the buffer if it lives in memory."""
        return self._talk.session

    @property
    def report(self) -> ContextReport | None:
        """Where the tokens of the last `get` went; None before the first."""
        return self._report

    # -- writing --------------------------------------------------------------------------

    def put(self, message: ChatMessage) -> None:
        """Add a message; durable when it returns.

        A user's message opens a turn, an answer without tool calls commits it. The open
        turn's own message, put again after an error, adds nothing.

        Raises:
            InvalidMessage: The message cannot be kept.
            StoreError: The database failed; nothing was added.
        """
        self._talk.mark_context(self._talk.put(_checked(message), from_stream=caller().writes_stream))

    async def aput(self, message: ChatMessage) -> None:
        """See `put`."""
        late = caller().writes_stream
        self._talk.mark_context(await asyncio.to_thread(self._talk.put, _checked(message), from_stream=late))

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Add a batch: what an agent noted in one turn, all or nothing, or whole exchanges one by one."""
        self._talk.put_all([_checked(message) for message in messages])

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """See `put_messages`."""
        await asyncio.to_thread(self.put_messages, messages)

    def set(self, messages: list[ChatMessage]) -> None:
        """Make the transcript equal to `messages`; what it begins with already is not written again.

        If it does not begin with what is stored, the session is cleared and written anew;
        constraints that the application added stay.
        """
        self._talk.replace([_checked(message) for message in messages])

    async def aset(self, messages: list[ChatMessage]) -> None:
        """See `set`."""
        await asyncio.to_thread(self.set, messages)

    def reset(self, *, keep_constraints: bool = False) -> None:
        """Forget this session: messages, summary, index and, unless kept, its constraints.

        Constraints of the owner stay. `chat_repl` calls this first.
        """
        self._talk.clear(keep_constraints=keep_constraints)

    async def areset(self, *, keep_constraints: bool = False) -> None:
        """See `reset`."""
        await asyncio.to_thread(self.reset, keep_constraints=keep_constraints)

    # -- going through JSON, pickle and copies --------------------------------------------

    @model_serializer(mode="plain")
    def custom_model_dump(self) -> dict[str, Any]:
        """Plain JSON that says where the session is, never what a database keeps."""
        data: dict[str, Any] = {
            "class_name": self.class_name(),
            "url": self.url,
            "ticket": ticket_of(self._memory),
            "session_id": self.session_id,
            "owner": self.owner,
            "token_limit": self.token_limit,
            "chat_store_key": self.chat_store_key,
            "system": self.system,
            "insert": self.insert,
            "model_name": self._model_name,
            "config": self._memory.config.model_dump(mode="json"),
        }
        if is_in_memory(self.url):  # else nobody could give them back after the process
            data["messages"] = [message.to_json() for message in self._talk.transcript()]
            data["constraints"] = [
                {"text": one.text, "kind": one.kind.value, "scope": one.scope}
                for one in self._talk.session.constraints()
                if one.source == "app"
            ]
        return data

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Plain JSON from which `from_dict` gives a buffer on the same session."""
        data: dict[str, Any] = self.model_dump()
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """A buffer on the session that `to_dict` named; also takes what a `ChatMemoryBuffer` wrote.

        The memory is this process's own if it is open here, else the database is opened
        again. What JSON cannot carry is given again.

        Args:
            data: What `to_dict` gave.
            kwargs: `memory`, `embedder`, `summarizer`, `llm`, `tokenizer_fn`, as in `from_defaults`.

        Raises:
            StoreUnavailable: The database cannot be opened.
        """
        data = dict(data)
        data.pop("class_name", None)
        store = data.pop("chat_store", None)
        history = data.pop("chat_history", None)
        if store is not None or history is not None:
            return cls._from_chat_memory_buffer(data, store, history, **kwargs)
        messages, constraints = data.pop("messages", ()), data.pop("constraints", ())
        ticket = data.pop("ticket", "")
        config = data.pop("config", None)
        if "memory" not in kwargs and (known := find_memory(ticket, str(data.get("url", IN_MEMORY)))) is not None:
            kwargs = {"memory": known}
        if kwargs.get("memory") is not None:
            data.pop("url", None)
            return cls(**data, **kwargs)
        settings = MemoryConfig.model_validate_json(json.dumps(config)) if config is not None else None
        buffer = cls(config=settings, **data, **kwargs)
        if messages and not buffer._talk.transcript():
            buffer._talk.put_all([Message.from_json(message) for message in messages])
            for one in constraints:
                buffer.session.add_constraint(one["text"], kind=one["kind"], scope=one["scope"])
        return buffer

    @classmethod
    def _from_chat_memory_buffer(cls, data: dict[str, Any], store: Any, history: Any, **kwargs: Any) -> Self:
        key = data.get("chat_store_key", DEFAULT_CHAT_STORE_KEY)
        if history is None:
            history = (store.get("store") or {}).get(key, []) if isinstance(store, dict) else store.get_messages(key)
        earlier = [m if isinstance(m, ChatMessage) else ChatMessage.model_validate(m) for m in history]
        return cls.from_defaults(
            chat_history=earlier, token_limit=data.get("token_limit"), chat_store_key=key, **kwargs
        )

    def to_string(self) -> str:
        """`to_dict` as JSON text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_string(cls, json_str: str, **kwargs: Any) -> Self:
        """`from_dict` of JSON text."""
        return cls.from_dict(json.loads(json_str), **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    def _get(self, input: Any, initial_token_count: int, who: Caller) -> list[ChatMessage]:
        talk, query = self._talk, _text_of(input)
        opening = talk.opening()
        system = "\n\n".join(text for text in (self.system, *opening) if text)
        budget = self._budget(initial_token_count, who)
        turn = None if who.appends_input else talk.pending()
        context: Context
        if turn is not None and (query is None or _asks(turn.messages, query)):
            context = turn.context(system=system, budget=budget)
        else:
            context = talk.session.context(query, system=system, budget=budget, recall_as="pair")
        self._report = announced(context.report)
        return arrange(context, insert=self.insert, who=who, opening=opening)

    def _budget(self, initial_token_count: int, who: Caller) -> Budget:
        counter = self._memory.counter
        taken = initial_token_count
        if taken:  # engines count the text of their own messages, not what stands around it
            taken += counter.count_message(system_message(""))
        taken += sum(counter.count_message(message) for message in extra_messages(insert=self.insert, who=who))
        if taken >= self.token_limit:
            raise TokenLimitExceeded(
                needed=taken, available=self.token_limit, constraints=0, what="the engine's own messages"
            )
        return within(self._memory.config.budget, self.token_limit - taken)


def _checked(message: Any) -> Message:
    if not isinstance(message, ChatMessage):
        raise InvalidMessage(f"a message is a {type(message).__name__}", "pass a llama_index ChatMessage")
    return to_core(message)


def _text_of(input: Any) -> str | None:
    if isinstance(input, ChatMessage):
        return to_core(input).text
    return input.query_str if isinstance(input, QueryBundle) else None if input is None else str(input)


def _asks(said: Sequence[Message], query: str) -> bool:
    return any(message.role is Role.USER and message.text == query for message in said)


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise InvalidSetting(name, type(value).__name__, "leave it out beside memory=, which has its own")
