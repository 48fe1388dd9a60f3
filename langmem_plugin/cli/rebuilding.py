"""Commands on what is derived: verify, rebuild."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from langmem_plugin.cli.keys import ring_of
from langmem_plugin.cli.storing import add_database, tell_messages


def add_verify(verify: argparse.ArgumentParser) -> None:
    """The arguments of `verify`."""
    verify.description = (
        "Compare what is derived with the log: numbers, keywords, constraints, summaries. Changes nothing. "
        "Exit code 1 if something differs."
    )
    _whose(verify)
    verify.add_argument("--json", action="store_true", help="print the result as JSON")
    verify.set_defaults(run=verify_command)


def verify_command(arguments: argparse.Namespace) -> int:
    """Compare, and print what differs."""
    from langmem_plugin.memory import Memory

    with Memory.open(arguments.database, encryption=ring_of(arguments)) as memory:
        found = memory.verify(owner=arguments.owner, session=arguments.session, progress=tell_messages)
    if arguments.json:
        print(json.dumps(asdict(found) | {"sound": found.sound}, indent=2))
        return 0 if found.sound else 1
    for one in found.differences:
        print(f"{one.owner} / {one.session}: {one.part}: {one.what}")
    print(f"{found.sessions} sessions of {found.messages:,} messages: {len(found.differences)} differences")
    return 0 if found.sound else 1


def add_rebuild(rebuild: argparse.ArgumentParser) -> None:
    """The arguments of `rebuild`."""
    rebuild.description = (
        "Derive keywords, constraints and summaries from the log again. Constraints that are kept stay as they are. "
        "Summaries are written anew: as extracts here, by a model where a memory with one is opened next."
    )
    _whose(rebuild)
    rebuild.add_argument(
        "--part",
        action="append",
        choices=("keywords", "constraints", "summaries", "vectors"),
        help="what to derive again, repeatable (all but vectors)",
    )
    rebuild.add_argument("--embedder", metavar="NAME", help="with --part vectors: the embedder that the index is of")
    rebuild.add_argument("--vectors", metavar="WHERE", help="the index, if it is not beside the database")
    rebuild.set_defaults(run=rebuild_command)


def rebuild_command(arguments: argparse.Namespace) -> int:
    """Derive again, and print how much was not as it should be."""
    from langmem_plugin.errors import InvalidSetting
    from langmem_plugin.memory import Memory

    parts = arguments.part or ["keywords", "constraints", "summaries"]
    if "vectors" in parts and not arguments.embedder:
        raise InvalidSetting("--embedder", None, "name the embedder whose vectors the index holds")
    embedder = arguments.embedder if "vectors" in parts else None
    with Memory.open(
        arguments.database, embedder=embedder, vectors=arguments.vectors, encryption=ring_of(arguments)
    ) as memory:
        from_log = [part for part in parts if part != "vectors"]
        if from_log:
            done = memory.rebuild(*from_log, owner=arguments.owner, session=arguments.session, progress=tell_messages)
            print(
                f"{done.sessions} sessions of {done.messages:,} messages: keywords of {done.keywords:,} messages, "
                f"{done.constraints} constraints, {done.summaries} summaries"
            )
        if embedder is not None:
            memory.rebuild_vectors(lambda done, of: print(f"{done:,} of {of:,} vectors", file=sys.stderr))
            print("the vector index is built")
        memory.wait()
    return 0


def _whose(command: argparse.ArgumentParser) -> None:
    add_database(command)
    command.add_argument("--owner", metavar="NAME", help="whose sessions (everybody's)")
    command.add_argument("--session", metavar="ID", help="one session of that owner")
