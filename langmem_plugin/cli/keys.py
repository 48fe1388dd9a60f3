"""The keys of an encrypted database on the command line, and the command that changes them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from langmem_plugin.by_name import function_named
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.keyring import FolderKeyRing, KeyRing

MASTER = "LANGMEM_PLUGIN_MASTER_KEY"
"""The environment variable with the master key of a folder, if it has one."""


def add_keys(command: argparse.ArgumentParser) -> None:
    """The argument that says where the keys are."""
    command.add_argument(
        "--keys",
        metavar="WHERE",
        help=f"of an encrypted database: the key ring's folder (its master key, if any, in {MASTER}), or a function of "
        "yours that returns the ring, as module:function",
    )


def ring_of(arguments: argparse.Namespace) -> KeyRing | None:
    """The key ring that the command line names; None if it names none.

    Raises:
        InvalidSetting: There is no such folder, or no such function.
    """
    where: str | None = arguments.keys
    if where is None:
        return None
    if Path(where).expanduser().is_dir():
        return FolderKeyRing(where, master=MASTER if os.environ.get(MASTER) else None)
    want = "name a folder that is there, or a function without arguments as module:function; it returns a KeyRing"
    make = function_named(where, option="--keys", want=want)
    try:
        found = make()
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise InvalidSetting("--keys", where, want) from error
    if not isinstance(found, KeyRing):
        raise InvalidSetting("--keys", where, want)
    return found


def add_rotate(rotate: argparse.ArgumentParser) -> None:
    """The arguments of `rotate`."""
    rotate.description = (
        "Give owners of an encrypted database new keys, seal all that is stored of them anew, then destroy their "
        "earlier keys. Others may go on reading and writing. What ended early is gone on with. Backups from before "
        "need a backup of the keys from before."
    )
    rotate.add_argument("--database", required=True, metavar="URL", help="sqlite:///file.db or postgresql://...")
    add_keys(rotate)
    rotate.add_argument("--owner", metavar="NAME", help="whose (everybody's, one after the other)")
    rotate.add_argument("--grace", type=float, default=1.0, metavar="S", help="seconds before an old key goes (1)")
    rotate.set_defaults(run=rotate_command)


def rotate_command(arguments: argparse.Namespace) -> int:
    """Change keys, and say what was done."""
    from langmem_plugin.memory import Memory

    def tell(rows: int) -> None:
        print(f"{rows:,} rows", file=sys.stderr)

    with Memory.open(arguments.database, vectors="exact", encryption=ring_of(arguments), background=False) as memory:
        named = [arguments.owner] if arguments.owner is not None else [one.owner for one in memory.owners()]
        for owner in named:
            done = memory.rotate_key(owner=owner, progress=tell, grace_s=arguments.grace)
            print(f"{owner}: {done.rows:,} rows under key {done.key_id}, {done.destroyed} earlier keys destroyed")
    if not named:
        print("nobody has anything in this database")
    return 0
