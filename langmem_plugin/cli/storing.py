"""Commands on a database: forget, export, import."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_args

from langmem_plugin.cli.keys import add_keys, ring_of
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.formats.files import FileFormat
from langmem_plugin.records import OwnerInfo, Receipt, SessionInfo, SessionOrder


def add_forget(forget: argparse.ArgumentParser) -> None:
    """The arguments of `forget`."""
    forget.description = (
        "Forget an owner, a session or a message: rows, keywords, vectors, what came of them; then look for every "
        "byte string of it in all files, and print a receipt. Exit code 1 if anything was left."
    )
    add_database(forget)
    forget.add_argument("--owner", required=True, metavar="NAME", help="whose data")
    forget.add_argument("--session", metavar="ID", help="one session (all of the owner's)")
    forget.add_argument("--message", metavar="ID", help="one message of that session: its id, or #7 for its number")
    forget.add_argument("--whole-turn", action="store_true", help="the message's turn, answer included")
    forget.add_argument("--vectors", metavar="WHERE", help="the index, if it is not beside the database")
    forget.add_argument("--receipt", type=Path, metavar="FILE", help="write the receipt there, as JSON")
    forget.set_defaults(run=forget_command)


def forget_command(arguments: argparse.Namespace) -> int:
    """Forget, and print the receipt."""
    from langmem_plugin.memory import Memory

    message: str | int | None = arguments.message
    if message is not None and arguments.message.startswith("#") and arguments.message[1:].isdecimal():
        message = int(arguments.message[1:])
    with Memory.open(arguments.database, vectors=arguments.vectors, encryption=ring_of(arguments)) as memory:
        receipt = memory.forget(
            owner=arguments.owner, session=arguments.session, message=message, whole_turn=arguments.whole_turn
        )
    _print_receipt(receipt)
    if arguments.receipt is not None:
        _write(arguments.receipt, "--receipt", json.dumps(receipt.to_json(), indent=2) + "\n")
    return 0 if receipt.complete else 1


def _print_receipt(receipt: Receipt) -> None:
    rows = ", ".join(f"{count} {name}" for name, count in receipt.counts.items()) or "nothing: it was not there"
    print(f"forgot {rows}")
    print(f"looked for {receipt.strings} byte strings in {receipt.files} files of {receipt.bytes:,} bytes")
    if receipt.keys:
        print(f"destroyed keys: {receipt.keys}")
    print(f"left: {receipt.left}; still said by others: {receipt.elsewhere}")
    for limit in receipt.limits:
        print(f"not covered: {limit}")
    if not receipt.complete:
        print("langmem-plugin: something was left; close other processes and forget again", file=sys.stderr)


def _write(file: Path, option: str, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidSetting(option, str(file), f"cannot be written ({error.strerror})") from error


def add_sweep(sweep: argparse.ArgumentParser) -> None:
    """The arguments of `sweep`."""
    sweep.description = (
        "Forget every session whose time to live is over, as `forget` does; print the receipts. Exit code 1 if "
        "anything was left."
    )
    sweep.add_argument("url", metavar="URL", help="sqlite:///file.db or postgresql://...")
    add_keys(sweep)
    sweep.add_argument("--vectors", metavar="WHERE", help="the index, if it is not beside the database")
    sweep.add_argument("--receipts", type=Path, metavar="FILE", help="write the receipts there, as JSON Lines")
    sweep.set_defaults(run=sweep_command)


def sweep_command(arguments: argparse.Namespace) -> int:
    """Forget what is over, and print the receipts."""
    from langmem_plugin.memory import Memory

    with Memory.open(arguments.url, vectors=arguments.vectors, encryption=ring_of(arguments)) as memory:
        receipts = memory.sweep(progress=lambda done: print(f"{done:,} sessions", file=sys.stderr))
    if not receipts:
        print("no session's time is over")
    for receipt in receipts:
        _print_receipt(receipt)
    if arguments.receipts is not None:
        _write(arguments.receipts, "--receipts", "".join(json.dumps(one.to_json()) + "\n" for one in receipts))
    return 0 if all(receipt.complete for receipt in receipts) else 1


def add_row_security(protecting: argparse.ArgumentParser) -> None:
    """The arguments of `row-security`."""
    protecting.description = (
        "Enable row-level security in PostgreSQL: ROLE then sees and changes only the rows of the owner that its "
        "transaction names, as a memory opened as that role does. Prints the statements."
    )
    protecting.add_argument("url", metavar="URL", help="postgresql://..., as the role that owns the tables")
    protecting.add_argument("role", metavar="ROLE", help="the role that applications connect as")
    protecting.set_defaults(run=row_security_command)


def row_security_command(arguments: argparse.Namespace) -> int:
    """Enable row-level security."""
    from langmem_plugin.store.row_security import protect

    for statement in protect(arguments.url, role=arguments.role):
        print(statement + ";")
    return 0


def add_sessions(sessions: argparse.ArgumentParser) -> None:
    """The arguments of `sessions`."""
    sessions.description = "List owners with their counts, or the sessions of one; nothing is changed."
    sessions.add_argument("url", metavar="URL", help="sqlite:///file.db or postgresql://...")
    add_keys(sessions)
    sessions.add_argument("--owner", metavar="NAME", help="the sessions of this one (all owners)")
    sessions.add_argument("--prefix", default="", metavar="TEXT", help="names that begin so")
    sessions.add_argument("--order", default="created", choices=get_args(SessionOrder), help="of sessions (created)")
    sessions.add_argument("--newest-first", action="store_true", help="the other way round")
    sessions.add_argument("--limit", type=int, metavar="N", help="at most so many")
    sessions.add_argument("--offset", type=int, default=0, metavar="N", help="leave out so many first ones")
    sessions.add_argument("--json", action="store_true", help="as JSON Lines")
    sessions.set_defaults(run=sessions_command)


def sessions_command(arguments: argparse.Namespace) -> int:
    """List owners or sessions."""
    from langmem_plugin.memory import Memory

    page: dict[str, Any] = {"prefix": arguments.prefix, "limit": arguments.limit, "offset": arguments.offset}
    found: Sequence[OwnerInfo | SessionInfo]
    with Memory.open(arguments.url, encryption=ring_of(arguments)) as memory:
        if arguments.owner is None:
            found = memory.owners(**page)
        else:
            found = memory.list_sessions(
                owner=arguments.owner, order=arguments.order, newest_first=arguments.newest_first, **page
            )
    rows = [{name: _shown(value) for name, value in asdict(one).items()} for one in found]
    if arguments.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return 0
    from langmem_plugin import display
    from langmem_plugin.cli.inspecting import plain

    names = ("owner", "sessions") if arguments.owner is None else ("session", "version")
    columns = (*names, "messages", "tokens", "constraints", "updated_at", *(("expires_at",) if arguments.owner else ()))
    table = display.plain_table(*((name, "left" if name in _WORDS else "right") for name in columns))
    for row in rows:
        table.add_row(*(display.Text("" if row[name] is None else plain(str(row[name]))) for name in columns))
    display.console().print(table if rows else "none")
    return 0


_WORDS = ("owner", "session", "updated_at", "expires_at")


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return value.total_seconds() if isinstance(value, timedelta) else value


def add_export(export: argparse.ArgumentParser) -> None:
    """The arguments of `export`."""
    export.description = "Write sessions as JSON Lines, messages, summary and constraints; - is standard output."
    add_database(export)
    export.add_argument("file", metavar="FILE", help="where to; - for standard output")
    export.add_argument("--owner", metavar="NAME", help="whose (everybody's)")
    export.add_argument("--session", metavar="ID", help="one session of that owner")
    export.add_argument(
        "--format", default="jsonl", choices=("jsonl", "openai"), help="openai: a line for each session, with messages"
    )
    export.set_defaults(run=export_command)


def export_command(arguments: argparse.Namespace) -> int:
    """Write sessions out."""
    from langmem_plugin.memory import Memory

    if arguments.session is not None and arguments.owner is None:
        raise InvalidSetting("--owner", None, "name the owner of the session")
    with Memory.open(arguments.database, encryption=ring_of(arguments)) as memory:
        write = memory.export_lines if arguments.format == "jsonl" else memory.export_conversations
        lines = write(owner=arguments.owner, session=arguments.session, progress=tell_messages)
        if arguments.file == "-":
            for line in lines:
                print(line)
            return 0
        try:
            with Path(arguments.file).open("w", encoding="utf-8") as out:
                out.writelines(line + "\n" for line in lines)
        except OSError as error:
            raise InvalidSetting("FILE", arguments.file, f"it cannot be written ({error.strerror})") from error
    return 0


def add_import(reading: argparse.ArgumentParser) -> None:
    """The arguments of `import`."""
    reading.description = (
        "Read sessions that `export` wrote, or the conversations of another memory: LangChain's messages_to_dict, "
        "LlamaIndex's chat store files, OpenAI-style message lists. What is there already adds nothing."
    )
    add_database(reading)
    reading.add_argument("file", metavar="FILE", help="JSON or JSON Lines; - for standard input")
    reading.add_argument("--owner", metavar="NAME", help="whose they become (of an export: as they were)")
    reading.add_argument("--session", metavar="ID", help="a conversation without a name becomes this (the file's name)")
    reading.add_argument("--format", default="auto", choices=get_args(FileFormat), help="what the file is (auto)")
    reading.set_defaults(run=import_command)


def import_command(arguments: argparse.Namespace) -> int:
    """Read sessions in."""
    from langmem_plugin.memory import Memory

    with Memory.open(arguments.database, encryption=ring_of(arguments)) as memory:
        found = memory.import_file(
            sys.stdin if arguments.file == "-" else arguments.file,
            owner=arguments.owner,
            session=arguments.session,
            format=arguments.format,
            progress=tell_messages,
        )
    print(f"{found.sessions} sessions: {found.messages} messages and {found.constraints} constraints are new")
    return 0


def tell_messages(messages: int) -> None:
    """Tell the terminal how many messages are done."""
    print(f"{messages:,} messages", file=sys.stderr)


def add_database(command: argparse.ArgumentParser) -> None:
    """The arguments that name the database and its keys."""
    command.add_argument("--database", required=True, metavar="URL", help="sqlite:///file.db or postgresql://...")
    add_keys(command)
