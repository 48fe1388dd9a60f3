"""The travel desk: the tools of the replayed conversation, whose results come from its script."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from langmem_plugin.demo.script import Day

_TYPES = {str: "string", int: "integer", bool: "boolean", float: "number"}


class Desk:
    """Answers a tool call as the script has it; knows nothing else."""

    def __init__(self, days: Iterable[Day]) -> None:
        self._results: dict[tuple[str, str], str] = {}
        self._parameters: dict[str, dict[str, Any]] = {}
        for call in (call for day in days for exchange in day.exchanges for call in exchange.calls):
            arguments = json.loads(call.arguments)
            self._results[call.name, _key(arguments)] = call.result
            known = self._parameters.setdefault(call.name, {})
            known.update({name: _schema(value) for name, value in arguments.items() if name not in known})

    @property
    def schemas(self) -> tuple[dict[str, Any], ...]:
        """Each tool as it is described to a model, in OpenAI's form."""
        return tuple(
            {
                "type": "function",
                "function": {
                    "name": name,
                    "description": describe(name),
                    "parameters": {"type": "object", "properties": parameters},
                },
            }
            for name, parameters in self._parameters.items()
        )

    def run(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The result as JSON text; an error as a tool would give it if the script does not know the call."""
        return self._results.get((name, _key(arguments)), '{"error": "nothing found"}')


def describe(name: str) -> str:
    """What a tool is for, from its name."""
    return name.replace("_", " ").capitalize() + "."


def _key(arguments: Mapping[str, Any]) -> str:
    return json.dumps({name: value for name, value in arguments.items() if value is not None}, sort_keys=True)


def _schema(value: object) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": _schema(value[0]) if value else {"type": "string"}}
    return {"type": _TYPES.get(type(value), "string")}
