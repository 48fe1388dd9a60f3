"""The commands and their arguments."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from langmem_plugin.cli import commands, conforming, keys, rebuilding, storing, working
from langmem_plugin.cli.evaluations import EVALUATIONS

_EXAMPLES = """\
examples:
  langmem-plugin demo
  langmem-plugin demo --base-url http://localhost:1234/v1 --model qwen3
  langmem-plugin chat --base-url http://localhost:11434/v1 --model llama3.2
  langmem-plugin chat --base-url http://localhost:11434/v1 --model llama3.2 --session trip
  langmem-plugin inspect sqlite:///chat.db trip --why 12
  langmem-plugin eval overhead --json overhead.json
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from langmem_plugin import __version__

    root = argparse.ArgumentParser(
        prog="langmem-plugin",
        description="Conversation memory for LangChain and LlamaIndex: show it, chat with it, measure it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"langmem-plugin {__version__}")
    kinds = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _demo(kinds.add_parser("demo", help="replay a long conversation through both frameworks on one memory"))
    _chat(kinds.add_parser("chat", help="talk to any OpenAI-style server, with this memory"))
    storing.add_export(kinds.add_parser("export", help="write sessions as JSON Lines"))
    storing.add_import(kinds.add_parser("import", help="read sessions that export wrote"))
    storing.add_forget(kinds.add_parser("forget", help="forget an owner, a session or a message, with a receipt"))
    rebuilding.add_verify(kinds.add_parser("verify", help="compare what is derived with the log"))
    rebuilding.add_rebuild(kinds.add_parser("rebuild", help="derive keywords, constraints and summaries again"))
    working.add_worker(kinds.add_parser("worker", help="work behind the conversations of other processes"))
    storing.add_sweep(kinds.add_parser("sweep", help="forget the sessions whose time to live is over"))
    keys.add_rotate(kinds.add_parser("rotate", help="give owners of an encrypted database new keys"))
    storing.add_row_security(
        kinds.add_parser("row-security", help="PostgreSQL: let a role see one owner's rows at a time")
    )
    storing.add_sessions(kinds.add_parser("sessions", help="who has which sessions, with counts"))
    _inspect(kinds.add_parser("inspect", help="what a memory holds and why: sessions, requests, constraints"))
    _serve(kinds.add_parser("serve", help="the same as a page in the browser, on this machine alone"))
    conforming.add_conformance(kinds.add_parser("conformance", help="grade any chat history of LangChain's"))
    _eval(kinds.add_parser("eval", help="measure the memory: overhead, recall, constraints"))
    return root


def _demo(demo: argparse.ArgumentParser) -> None:
    demo.description = (
        "Replay 132 turns over seven days through a LangChain agent and a LlamaIndex chat engine on one memory, "
        "and show at each question what the model was sent. No key is needed: a stand-in answers by quoting its "
        "request. With --base-url and --model, or OPENAI_API_KEY, a real model answers the questions."
    )
    demo.add_argument("--budget", type=_positive, metavar="N", help="tokens of a request, tools included (2000)")
    demo.add_argument("--folder", type=Path, metavar="DIR", help="keep the memory in this folder (a temporary one)")
    demo.add_argument("--base-url", metavar="URL", help="an OpenAI-style server that answers the questions")
    demo.add_argument("--model", metavar="NAME", help="its model (gpt-4o-mini where OPENAI_API_KEY is set)")
    demo.set_defaults(run=commands.demo)


def _chat(chat: argparse.ArgumentParser) -> None:
    chat.description = (
        "A chat in the terminal with any OpenAI-style server (llama.cpp, vLLM, LM Studio, Ollama). What is said is "
        "kept; the same --session goes on where it stopped. /help lists the commands within the chat."
    )
    chat.add_argument("--base-url", required=True, metavar="URL", help="for example http://localhost:1234/v1")
    chat.add_argument("--model", required=True, metavar="NAME", help="the model's name on that server")
    chat.add_argument("--session", default="chat", metavar="ID", help="whose conversation to go on with (chat)")
    chat.add_argument("--owner", default=os.environ.get("USER") or "user", metavar="NAME", help="whose data (you)")
    chat.add_argument("--database", metavar="URL", help="sqlite:///file.db (~/.langmem-plugin/chat.db)")
    keys.add_keys(chat)
    chat.add_argument("--budget", type=_positive, default=4_000, metavar="N", help="tokens of a request (4000)")
    chat.add_argument("--system", default="", metavar="TEXT", help="the system prompt")
    chat.add_argument("--api-key", metavar="KEY", help="if the server wants one (OPENAI_API_KEY)")
    chat.add_argument("--tokenizer", metavar="NAME", help="count tokens as this model, or a tokenizer.json (--model)")
    chat.add_argument("--embedder", metavar="NAME", help='recall by meaning, too: "chroma", a folder, a model\'s name')
    chat.add_argument("--timeout", type=float, default=60.0, metavar="S", help="longest silence, seconds (60)")
    chat.add_argument("--retries", type=int, default=3, metavar="N", help="after a failure, at most (3)")
    chat.add_argument("--summarize", action="store_true", help="let the same model write the rolling summary, behind")
    chat.set_defaults(run=commands.chat)


def _inspect(look: argparse.ArgumentParser) -> None:
    look.description = (
        "Look into a memory; nothing in it is changed. Without SESSION, its sessions. With one: its timeline, the "
        "request it gives now, its constraints with where each was said, the end of its window."
    )
    look.add_argument("url", metavar="URL", help="sqlite:///file.db")
    keys.add_keys(look)
    look.add_argument("session", nargs="?", metavar="SESSION", help="one session")
    look.add_argument("--owner", metavar="NAME", help="whose; needed where several owners have that session")
    look.add_argument("--at", type=_version, metavar="VERSION", help="the request as the session gave it at a version")
    look.add_argument("--why", metavar="ID", help="the story of a constraint (its id) or a message (its number, as 12)")
    look.add_argument("--json", action="store_true", help="the same as JSON; messages only with --at or --why")
    look.add_argument("--budget", type=_positive, metavar="N", help="tokens of a request (7000)")
    look.add_argument("--model", default="gpt-4o", metavar="NAME", help="count tokens as this model (gpt-4o)")
    look.set_defaults(run=commands.inspect)


def _serve(site: argparse.ArgumentParser) -> None:
    site.description = (
        "A small page on 127.0.0.1 to look into a memory: sessions, timelines, requests, constraints. Read-only unless "
        "--write is given. It asks for no password: who can log in to this machine can see it."
    )
    site.add_argument("url", metavar="URL", help="sqlite:///file.db")
    keys.add_keys(site)
    site.add_argument("--port", type=int, default=8_377, metavar="N", help="0 for any that is free (8377)")
    site.add_argument("--write", action="store_true", help="let constraints be confirmed and revoked")
    site.add_argument("--budget", type=_positive, metavar="N", help="tokens of a request (7000)")
    site.add_argument("--model", default="gpt-4o", metavar="NAME", help="count tokens as this model (gpt-4o)")
    site.set_defaults(run=commands.serve)


def _eval(evaluate: argparse.ArgumentParser) -> None:
    evaluate.description = "Measure the memory; each prints a table."
    kinds = evaluate.add_subparsers(title="evaluations", metavar="WHAT", required=True)
    for evaluation in EVALUATIONS:
        one = kinds.add_parser(evaluation.name, help=evaluation.help, description=evaluation.help)
        evaluation.add_arguments(one)
        one.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
        one.set_defaults(run=commands.evaluate, evaluation=evaluation)


def _version(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is not a version; give 0 or more")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of tokens; give 1 or more")
    return number
