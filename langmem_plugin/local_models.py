"""Models that a user names or hands over: what embedders and rerankers share."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langmem_plugin.errors import InvalidSetting, LangmemPluginError, MissingExtra, ModelFailed

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Located:
    """Where a sentence-transformers model is."""

    name: str
    """What it is recorded by; a folder's has a digest of what is in it."""
    where: str
    """A folder's path, or the name on the hub."""
    local: bool
    """Whether it is a folder: nothing is fetched then."""


def locate(role: str, given: str | os.PathLike[str], *, organisation: str, example: str) -> Located:
    """Where the model is; nothing is loaded or fetched.

    Args:
        role: The setting that the model was given for.
        given: A folder, or a name on the Hugging Face hub.
        organisation: Whose model a name without one is.
        example: A name that would do, and what else.

    Raises:
        InvalidSetting: A folder that does not exist or holds no model.
        MissingExtra: sentence-transformers is not installed.
    """
    text = os.fspath(given)
    folder = Path(text).expanduser()
    is_folder = "\x00" not in text and folder.is_dir()
    if not is_folder and (not isinstance(given, str) or not _HUB_NAME.fullmatch(text)):
        raise InvalidSetting(role, text, f"there is no such folder; give one, a name such as {example}")
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra(f"the {role} {text!r}", "sentence-transformers", "sentence-transformers")
    if is_folder:
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise InvalidSetting(role, text, "the folder holds no sentence-transformers model")
        return Located(folder_name(folder.resolve()), str(folder.resolve()), local=True)
    name = text if "/" in text else f"{organisation}/{text}"
    return Located(name, name, local=False)


def folder_name(folder: Path) -> str:
    """The folder's own name and a digest of what is in it, so that a moved model keeps its vectors."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".json", ".safetensors", ".bin", ".onnx") or not file.is_file():
            continue
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size};".encode())
        with file.open("rb") as stream:  # ends are enough: weights differ everywhere once trained
            digest.update(stream.read(65_536))
            stream.seek(max(0, size - 65_536))
            digest.update(stream.read())
    return f"{folder.name}@{digest.hexdigest()[:12]}"


def loaded_name(model: Any) -> str:
    """The name that a loaded sentence-transformers model was loaded by."""
    card = getattr(getattr(model, "model_card_data", None), "base_model", None)
    inner = getattr(getattr(model, "_first_module", lambda: None)(), "auto_model", None)
    where = getattr(getattr(inner, "config", None), "_name_or_path", None) or card
    if not isinstance(where, str) or not where:
        return type(model).__name__
    folder = Path(where)
    return folder_name(folder.resolve()) if folder.is_dir() else where


def callable_name(function: Any) -> str:
    """Its `name` if it has one, else where it is defined."""
    name = getattr(function, "name", None)
    if callable(name):
        name = name()
    if isinstance(name, str) and name:
        return name
    kind = function if hasattr(function, "__qualname__") else type(function)
    return f"{kind.__module__}.{kind.__qualname__}"


def speakable(text: str) -> str:
    """The text as tokenizers take it: without NUL and lone surrogates."""
    return text.encode("utf-8", "replace").decode().replace("\x00", " ")


@contextmanager
def as_model_failed(role: str) -> Iterator[None]:
    """Whatever another's model raises, as `ModelFailed`, the cause kept and no text repeated."""
    try:
        yield
    except LangmemPluginError:
        raise
    except Exception as error:  # the model is not ours: any class may come
        raise ModelFailed(role, f"it raised {type(error).__name__}") from error


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Loading draws a bar on standard error, whatever the caller prints there."""
    try:
        from transformers.utils import logging as transformers_logging
    except ImportError:
        yield
        return
    logging: Any = transformers_logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
