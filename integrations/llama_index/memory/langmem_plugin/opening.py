"""Opening the memory behind a buffer, and finding it again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary, WeakValueDictionary

import tiktoken
from llama_index.core.utils import get_tokenizer

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.errors import StoreClosed
from langmem_plugin.memory import Memory

Tokenizer = Callable[[str], Sequence[Any]]

IN_MEMORY = "sqlite://"

_lock = threading.Lock()
_opened: WeakValueDictionary[tuple[Any, ...], Memory] = WeakValueDictionary()
_by_ticket: WeakValueDictionary[str, Memory] = WeakValueDictionary()
_tickets: WeakKeyDictionary[Memory, str] = WeakKeyDictionary()
_by_url: WeakValueDictionary[str, Memory] = WeakValueDictionary()


def model_name_of(llm: Any) -> str | None:
    """The LLM's name if its tokenizer is known by it; else None, and LlamaIndex's own tokenizer counts."""
    if llm is None:
        return None
    name: str = llm.metadata.model_name
    try:
        tiktoken.encoding_name_for_model(name)
    except KeyError:
        return None
    return name


def open_memory(
    url: str,
    *,
    config: MemoryConfig | None,
    token_limit: int,
    model_name: str | None,
    tokenizer: Tokenizer | None,
    embedder: Any,
    summarizer: Any,
) -> Memory:
    """The memory at `url`; one for all buffers of this process that ask with the same arguments.

    A memory that lives in memory only is each buffer's own. The budget is `token_limit`,
    so that the summary covers what this limit makes leave the window; buffers that share
    a database each read within their own limit, and the first one's is the memory's.
    """

    def fresh() -> Memory:
        model: Any = model_name if tokenizer is None and model_name is not None else counting(tokenizer)
        base = config or MemoryConfig()
        settings = base.model_copy(update={"budget": within(base.budget, token_limit)}) if token_limit > 0 else base
        return Memory.open(url, config=settings, model=model, embedder=embedder, summarizer=summarizer)

    if is_in_memory(url):
        return fresh()
    key = (
        url,
        config.model_dump_json() if config is not None else "",
        model_name if tokenizer is None else id(tokenizer),
        embedder if isinstance(embedder, str) else id(embedder),
        id(summarizer),
    )
    with _lock:
        known = _opened.get(key)
        if known is None or is_closed(known):
            _opened[key] = known = fresh()
        return known


def within(budget: Budget, token_limit: int) -> Budget:
    """The budget with all of `token_limit` for the prompt; amounts in tokens are cut to fit."""
    fields = ("constraints", "summary", "recall", "recall_max", "documents")
    amounts = {name: amount for name in fields if isinstance(amount := getattr(budget, name), int)}
    cut = {name: min(amount, token_limit) for name, amount in amounts.items()}
    return budget.model_copy(update={"max_tokens": token_limit, "completion": 0, **cut})


def counting(tokenizer: Tokenizer | None) -> Callable[[str], int]:
    """How many tokens a text has by LlamaIndex's convention: the length of what a tokenizer gives."""
    tokenize = tokenizer if tokenizer is not None else get_tokenizer()
    return lambda text: len(tokenize(text))


def is_in_memory(url: str) -> bool:
    """Whether nothing of this memory is left after the process."""
    return url.partition("?")[0] in ("sqlite://", "sqlite:///", "sqlite:///:memory:")


def is_closed(memory: Memory) -> bool:
    """Whether the memory was closed."""
    try:
        memory.session("probe", owner="probe")
    except StoreClosed:
        return True
    return False


def ticket_of(memory: Memory) -> str:
    """A name by which this process finds the memory again."""
    with _lock:
        ticket = _tickets.get(memory)
        if ticket is None:
            ticket = _tickets[memory] = uuid4().hex
            _by_ticket[ticket] = memory
        if not is_in_memory(memory.url):
            _by_url[memory.url] = memory
        return ticket


def find_memory(ticket: str, url: str) -> Memory | None:
    """The memory of this process with that ticket or, if it is a file, with that address; None if there is none."""
    with _lock:
        memory = _by_ticket.get(ticket)
        if memory is None and not is_in_memory(url):
            memory = _by_url.get(url)
    return None if memory is None or is_closed(memory) else memory
