"""Plain JSON out of whatever a framework's field may hold."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from langmem_plugin.errors import InvalidMessage
from langmem_plugin.messages import Json

_log = logging.getLogger(__name__)


def plain(value: Any, field: str, *, strict: bool = False) -> Json:
    """The value as JSON: models and dataclasses by their fields, dates as ISO text, bytes as base64.

    Tuples and sets become lists, keys become text, NaN and infinities become text. An
    object that has no such form stands as `{"not_json": "its class"}`: such objects
    (a data frame as a tool's artifact) are never sent to a model, and losing a turn
    over one would be worse. `strict` is for what a model does read.

    Args:
        value: What the field holds.
        field: The field's name, for the error and the log.
        strict: Refuse an object without a JSON form.

    Raises:
        InvalidMessage: The value refers to itself, or `strict` and there is no JSON form.
    """
    try:
        return _plain(value, field, strict=strict)
    except RecursionError as error:
        raise InvalidMessage(f"{field} is nested too deep or holds itself", "pass plain JSON") from error


def _plain(value: Any, field: str, *, strict: bool) -> Json:
    match value:
        case None | bool() | int():
            return value.value if isinstance(value, Enum) else value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return str(value.value) if isinstance(value, Enum) else str(value)
        case Mapping():
            return {
                key if isinstance(key, str) else str(key): _plain(item, field, strict=strict)
                for key, item in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [_plain(item, field, strict=strict) for item in value]
    return _object(value, field, strict=strict)


def _object(value: Any, field: str, *, strict: bool) -> Json:
    try:
        if isinstance(value, BaseModel):
            return _plain(value.model_dump(mode="json"), field, strict=strict)
        # A round through pydantic covers dataclasses, dates, UUIDs, paths, decimals and bytes.
        form = to_jsonable_python(value, bytes_mode="base64", inf_nan_mode="strings")
        return _plain(form, field, strict=strict)
    except (PydanticSerializationError, TypeError, ValueError) as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if strict:
            raise InvalidMessage(f"{field} holds a {kind}, which is not plain JSON", "pass JSON") from error
        _log.info("%s holds a %s, which has no JSON form; a marker is kept in its place", field, kind)
        return {"not_json": kind}
