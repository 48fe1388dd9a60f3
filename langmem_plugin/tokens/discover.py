"""Finding the right count for a name or a framework's model, without importing the framework."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import index
from pathlib import Path
from typing import Any

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.tokens.huggingface import huggingface_source, is_huggingface
from langmem_plugin.tokens.openai import openai_source
from langmem_plugin.tokens.overheads import Overheads
from langmem_plugin.tokens.source import Source, bound_for, whole

# Anthropic's tool use guide: 159 to 530 tokens of instructions, by model, once tools are given.
_CLAUDE = Overheads(message=8, reply=16, tools=530, image=1_600, image_low=1_600)


def named_source(name: str) -> Source:
    """A source for a model's name, or for a path to a Hugging Face tokenizer.

    Raises:
        InvalidSetting: The name is empty, or clearly a path and nothing is there.
    """
    if not name.strip():
        raise InvalidSetting("model", name, "give a model's name, a tokenizer or a function that counts")
    known = openai_source(name)
    if known is not None:
        return known
    path = Path(name).expanduser()
    if _is_path(name) or _has_tokenizer(path):
        return huggingface_source(path)
    if "claude" in name.lower():
        return bound_for(name, "its vocabulary is not published", overheads=_CLAUDE)
    return bound_for(name, "no vocabulary is known for this name")


def callable_source(fn: Callable[[str], int]) -> Source:
    """A source from a function that takes a text and gives its tokens."""
    name = getattr(fn, "__qualname__", type(fn).__name__)

    def count(text: str) -> int:
        given = fn(whole(text))
        try:
            counted = index(given)
        except TypeError:
            counted = -1
        if counted < 0:
            raise InvalidSetting("token counter", given, f"{name} must give a whole number of tokens >= 0")
        return counted

    return Source(name=f"function {name}", exact=True, count=count, overheads=Overheads.cautious())


def model_source(model: Any) -> Source:
    """A source from a model of LangChain or LlamaIndex.

    In this order: a name whose vocabulary is known; the tokenizer that the model carries; its
    own `get_num_tokens`; the bound, with a warning. LangChain's base class counts with GPT-2's
    vocabulary and its OpenAI classes with cl100k_base where they do not know the name: both are
    guesses that come out low for other models, so neither is used.

    Raises:
        InvalidSetting: The object has none of these.
    """
    inner = getattr(model, "bound", None)
    if inner is not None and hasattr(inner, "invoke"):
        return model_source(inner)  # what LangChain's bind_tools gives
    names = names_of(model)
    for name in names:
        known = openai_source(name)
        if known is not None:
            return known
    carried = getattr(model, "tokenizer", None)
    if carried is None:
        carried = getattr(getattr(model, "pipeline", None), "tokenizer", None)
    if carried is not None and is_huggingface(carried):
        return huggingface_source(carried)
    if isinstance(carried, str) and _has_tokenizer(Path(carried).expanduser()):
        return huggingface_source(carried)
    if callable(getattr(carried, "encode", None)):
        encode = carried.encode  # type: ignore[union-attr]
        return _renamed(callable_source(lambda text: len(encode(text))), model)
    if _counts_itself(model):
        return _renamed(callable_source(model.get_num_tokens), model)
    if names or hasattr(model, "get_num_tokens"):
        named = names[0] if names else type(model).__name__
        return bound_for(
            named,
            "the model does not say how it counts",
            overheads=_CLAUDE if "claude" in named.lower() else None,
        )
    raise InvalidSetting("model", type(model).__name__, "pass a model's name, a tokenizer or a function that counts")


def is_model(obj: object) -> bool:
    """True for what looks like a framework's language model rather than a function."""
    return any(name in dir(obj) for name in ("get_num_tokens", "metadata", "bound", "model_name"))


def _renamed(source: Source, model: object) -> Source:
    return Source(name=f"model {type(model).__name__}", exact=True, count=source.count, overheads=source.overheads)


def names_of(model: Any) -> list[str]:
    """The names that a framework's model gives itself, the most telling first."""
    found = [getattr(model, name, None) for name in ("tiktoken_model_name", "model_name", "model")]
    with suppress(Exception):  # LlamaIndex's OpenAI class raises here for a name it does not know
        found.append(model.metadata.model_name)
    return [name for name in found if isinstance(name, str) and name]


def _counts_itself(model: Any) -> bool:
    if not callable(getattr(model, "get_num_tokens", None)):
        return False
    if getattr(model, "custom_get_token_ids", None) is not None:
        return True
    for base in type(model).__mro__:
        if "get_num_tokens" in vars(base) or "get_token_ids" in vars(base):
            return base.__module__.partition(".")[0] not in {"langchain_core", "langchain_openai"}
    return True


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../", "~", ".\\", "..\\")) or name.endswith(".json") or "\\" in name


def _has_tokenizer(path: Path) -> bool:
    try:
        return (path / "tokenizer.json").is_file()
    except (OSError, ValueError):  # a name no file system takes
        return False
