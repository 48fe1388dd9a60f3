"""Hugging Face tokenizers: a loaded one, or the file beside a local model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from langmem_plugin.errors import InvalidSetting, MissingExtra
from langmem_plugin.tokens.overheads import Overheads
from langmem_plugin.tokens.source import Source, whole


def is_huggingface(obj: object) -> bool:
    """True for an object of `tokenizers` or `transformers`; imports neither."""
    return any(base.__module__.partition(".")[0] in {"tokenizers", "transformers"} for base in type(obj).__mro__)


def huggingface_source(tokenizer: object) -> Source:
    """A source from a loaded tokenizer, a `tokenizer.json` or a folder that holds one.

    Works on a copy with truncation and padding off: files of embedding models cut at 128
    tokens. Special tokens in the text count as text, which is never less.

    Raises:
        InvalidSetting: The path does not lead to a tokenizer.
        MissingExtra: The package `tokenizers` is not installed.
    """
    if isinstance(tokenizer, str | Path):
        return _from_file(Path(tokenizer).expanduser())
    backend: Any = getattr(tokenizer, "backend_tokenizer", tokenizer)
    name = getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__
    if hasattr(backend, "to_str") and hasattr(backend, "encode"):
        plain = _plain(type(backend).from_str(backend.to_str()))
        source = Source(name=f"huggingface {name}", exact=True, count=_counter(plain), overheads=Overheads.cautious())
    elif callable(getattr(tokenizer, "encode", None)):
        slow: Any = tokenizer

        def count(text: str) -> int:
            return len(slow.encode(whole(text), add_special_tokens=False))

        source = Source(name=f"huggingface {name}", exact=True, count=count, overheads=Overheads.cautious())
    else:
        raise InvalidSetting("tokenizer", type(tokenizer).__name__, "pass a loaded tokenizer or a path to one")
    measured = _measured(tokenizer)
    return replace(source, overheads=measured) if measured else source


def _from_file(path: Path) -> Source:
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InvalidSetting("tokenizer", str(path), "give an existing tokenizer.json or the folder that holds it")
    try:
        tokenizers = import_module("tokenizers")
    except ImportError as error:
        raise MissingExtra("a Hugging Face tokenizer", "tokenizers", "sentence-transformers") from error
    try:
        loaded = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower class
        raise InvalidSetting("tokenizer", str(path), f"it is not a tokenizer.json ({type(error).__name__})") from error
    return Source(
        name=f"huggingface {file.parent.name}",
        exact=True,
        count=_counter(_plain(loaded)),
        overheads=Overheads.cautious(),
    )


def _plain(tokenizer: Any) -> Any:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _counter(tokenizer: Any) -> Callable[[str], int]:
    def count(text: str) -> int:
        return len(tokenizer.encode(whole(text), add_special_tokens=False).ids)

    return count


_SHAPES = (
    ({"role": "user", "content": "a"},),
    ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
    (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ),
)


def _measured(tokenizer: Any) -> Overheads | None:
    """What the tokenizer's own chat template puts around messages; None without a template."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    sizes = []
    try:
        for shape in _SHAPES:
            ids = tokenizer.encode(
                tokenizer.apply_chat_template(list(shape), tokenize=False, add_generation_prompt=False),
                add_special_tokens=False,
            )
            sizes.append(len(ids))
        opened = len(
            tokenizer.encode(
                tokenizer.apply_chat_template(list(_SHAPES[0]), tokenize=False, add_generation_prompt=True),
                add_special_tokens=False,
            )
        )
    except Exception:  # noqa: BLE001 - a template is a program that somebody else wrote
        return None
    # One more for the seam between the frame and the text; a beginning-of-text token is in `opened`.
    message = max(3, max(sizes[1] - sizes[0], sizes[2] - sizes[1]) + 1)
    return replace(Overheads.cautious(), message=message, reply=max(3, opened - message + 2))
