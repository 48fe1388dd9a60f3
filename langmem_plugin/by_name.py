"""A user's own function, named on the command line as `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langmem_plugin.errors import InvalidSetting


def function_named(name: str, *, option: str, want: str) -> Callable[..., Any]:
    """The function `module:function`; the current folder is searched first, from now on, as with `python -m`.

    Args:
        name: What the user gave.
        option: Where they gave it, for the error.
        want: What is to be given there, for the error.

    Raises:
        InvalidSetting: There is no such function.
    """
    module, colon, function = name.partition(":")
    if not colon:
        raise InvalidSetting(option, name, want)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(option, name, f"{want} ({error})") from error
    if not callable(found):
        raise InvalidSetting(option, name, want)
    made: Callable[..., Any] = found
    return made
