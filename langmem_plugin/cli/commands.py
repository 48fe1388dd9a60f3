"""What each command does with its arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from langmem_plugin.errors import InvalidSetting, StoreUnavailable

NOT_GOOD_ENOUGH = 3
"""The exit code of an evaluation whose figures are below what was asked for."""
_OPENAI_DEFAULT = "gpt-4o-mini"


def demo(arguments: argparse.Namespace) -> int:
    """The demonstration."""
    from langmem_plugin.demo.run import BUDGET, RealModel, run

    key = os.environ.get("OPENAI_API_KEY")
    model = None
    if arguments.base_url and not arguments.model:
        raise InvalidSetting("--model", None, "name the server's model beside --base-url")
    if arguments.model and not arguments.base_url and not key:
        raise InvalidSetting("--base-url", None, "name the model's server, or set OPENAI_API_KEY")
    if arguments.base_url or key:
        model = RealModel(name=arguments.model or _OPENAI_DEFAULT, base_url=arguments.base_url, api_key=key or "none")
    run(budget=arguments.budget or BUDGET, folder=arguments.folder, model=model)
    return 0


def chat(arguments: argparse.Namespace) -> int:
    """The terminal chat."""
    from langmem_plugin.chat.terminal import Settings, run
    from langmem_plugin.cli.keys import ring_of

    database = arguments.database
    if database is None:
        folder = Path.home() / ".langmem-plugin"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(str(folder), "the folder cannot be made", "give --database") from error
        database = f"sqlite:///{folder / 'chat.db'}"
    return run(
        Settings(
            base_url=arguments.base_url,
            model=arguments.model,
            api_key=arguments.api_key or os.environ.get("OPENAI_API_KEY"),
            session=arguments.session,
            owner=arguments.owner,
            database=database,
            budget=arguments.budget,
            system=arguments.system,
            timeout_s=arguments.timeout,
            retries=arguments.retries,
            summarize=arguments.summarize,
            tokenizer=arguments.tokenizer,
            embedder=arguments.embedder,
            encryption=ring_of(arguments),
        )
    )


def inspect(arguments: argparse.Namespace) -> int:
    """What a memory holds."""
    from langmem_plugin.cli import inspecting

    return inspecting.inspect(arguments)


def serve(arguments: argparse.Namespace) -> int:
    """The page on this machine."""
    from langmem_plugin.cli import serving

    return serving.serve(arguments)


def evaluate(arguments: argparse.Namespace) -> int:
    """One evaluation, printed as a table, and as JSON if that is asked for."""
    table, figures = arguments.evaluation.run(arguments)
    print(table)
    if arguments.json is not None:
        try:
            arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InvalidSetting("--json", str(arguments.json), f"it cannot be written ({error.strerror})") from error
    if reason := arguments.evaluation.gate(arguments, figures):
        print(f"langmem-plugin: {reason}", file=sys.stderr)
        return NOT_GOOD_ENOUGH
    return 0
