"""The command line: `langmem-plugin COMMAND`. Each command imports what it needs when it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from langmem_plugin.cli.arguments import parser
from langmem_plugin.errors import LangmemPluginError

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 0, 1 after an error of this package (told in one line), 3 where an
        evaluation is below what was asked for, 130 after Ctrl-C. A wrong command line
        leaves through `SystemExit(2)`, as argparse does.
    """
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except LangmemPluginError as error:
        print(f"langmem-plugin: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("\nlangmem-plugin: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe had enough
        sys.stderr.close()
        return FAILED
    return code
