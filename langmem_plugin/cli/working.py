"""The command that works behind the conversations of other processes."""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from langmem_plugin.by_name import function_named
from langmem_plugin.cli.keys import add_keys, ring_of
from langmem_plugin.config import MemoryConfig
from langmem_plugin.errors import InvalidSetting

_EXAMPLES = """\
examples:
  langmem-plugin worker --database postgresql://me@db/chat --use myapp.memory:settings
  langmem-plugin worker --database sqlite:///chat.db --base-url http://localhost:11434/v1 --summarizer llama3.2
"""


def add_worker(worker: argparse.ArgumentParser) -> None:
    """The arguments of `worker`."""
    worker.description = (
        "Write summaries, embed, and look for constraints behind the conversations of processes that opened the same "
        "database with background=False. On PostgreSQL start as many as you like: each session is claimed by one of "
        "them. A SQLite file takes one. Ends on SIGINT and SIGTERM, after the work under way."
    )
    worker.epilog = _EXAMPLES
    worker.formatter_class = argparse.RawDescriptionHelpFormatter
    worker.add_argument("--database", required=True, metavar="URL", help="postgresql://... or sqlite:///file.db")
    worker.add_argument(
        "--use",
        metavar="MODULE:FUNCTION",
        help="a function of yours that returns keyword arguments of Memory.open: summarizer, embedder, config...",
    )
    add_keys(worker)
    worker.add_argument("--config", type=Path, metavar="FILE", help="a MemoryConfig as JSON: the one the servers use")
    worker.add_argument("--base-url", metavar="URL", help="an OpenAI-style server for --summarizer and --extractor")
    worker.add_argument("--summarizer", metavar="NAME", help="its model that writes summaries (extracts without)")
    worker.add_argument("--extractor", metavar="NAME", help="its model that looks for constraints (none)")
    worker.add_argument("--api-key", metavar="KEY", help="if the server wants one (OPENAI_API_KEY)")
    worker.add_argument("--embedder", metavar="NAME", help='embed: "chroma", a folder, a model\'s name (nothing)')
    worker.add_argument("--vectors", metavar="URL", help="a Chroma server to index in (none: the database alone)")
    worker.add_argument("--count-as", metavar="NAME", help="count tokens as this model (gpt-4o)")
    worker.add_argument("--poll", type=float, default=1.0, metavar="S", help="look for changes so often, seconds (1)")
    worker.add_argument("--at-once", type=int, default=32, metavar="N", help="sessions claimed at one time (32)")
    worker.add_argument("--until-idle", action="store_true", help="end when nothing is left to do")
    worker.set_defaults(run=work)


def work(arguments: argparse.Namespace) -> int:
    """Work until a signal, or until idle; 1 if work was left that failed."""
    from langmem_plugin.memory import Memory

    if arguments.poll <= 0:
        raise InvalidSetting("--poll", arguments.poll, "give seconds, more than 0")
    if arguments.at_once < 1:
        raise InvalidSetting("--at-once", arguments.at_once, "give 1 or more")
    settings = _settings(arguments)
    stop = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    with (
        Memory.open(arguments.database, **settings, background=False) as memory,
        memory.worker(poll_s=arguments.poll, at_once=arguments.at_once) as worker,
    ):
        print(f"working on {memory.url}", flush=True)
        clean = worker.run(stop, until_idle=arguments.until_idle)
        worker.close()
        for name, lane in worker.status().items():
            failed = f", {lane.failed} failed ({lane.last_error})" if lane.failed else ""
            print(f"{name}: {lane.done} units done{failed}")
    if not clean:
        print("langmem-plugin: work is left that failed; it is found again", file=sys.stderr)
    return 0 if clean else 1


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    settings: dict[str, Any] = {"vectors": "exact", **_used(arguments.use)}
    if (ring := ring_of(arguments)) is not None:
        settings["encryption"] = ring
    if arguments.config is not None:
        try:
            text = arguments.config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting("--config", str(arguments.config), "name a JSON file that can be read") from error
        settings["config"] = MemoryConfig.model_validate_json(text)
    if arguments.count_as is not None:
        settings["model"] = arguments.count_as
    if arguments.embedder is not None:
        settings["embedder"] = arguments.embedder
    if arguments.vectors is not None:
        settings["vectors"] = arguments.vectors
    for role in ("summarizer", "extractor"):
        if name := getattr(arguments, role):
            if not arguments.base_url:
                raise InvalidSetting("--base-url", None, f"name the server of --{role}")
            from langmem_plugin.chat.server import ChatServer

            key = arguments.api_key or os.environ.get("OPENAI_API_KEY")
            settings[role] = ChatServer(arguments.base_url, name, api_key=key)
    return settings


def _used(named: str | None) -> Mapping[str, Any]:
    """What the user's own function gives."""
    if named is None:
        return {}
    from langmem_plugin.memory import Memory

    want = "name a function without arguments as module:function; it returns a dict for Memory.open"
    found = function_named(named, option="--use", want=want)()
    known = set(inspect.signature(Memory.open).parameters) - {"url", "background", "sync"}
    if not isinstance(found, Mapping) or not set(found) <= known:
        raise InvalidSetting("--use", named, f"{want} (of {', '.join(sorted(known))})")
    return found
