"""A Chroma server of one's own for trials, of the chromadb package; it listens on this machine alone."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from langmem_plugin.errors import StoreUnavailable

_STARTS_WITHIN_S = 60.0


class ChromaServer:
    """Starts at once; may be killed and started again, or stopped and woken, on the same port and folder.

    Args:
        folder: Where it keeps its files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = int(free.getsockname()[1])
        self._child: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it where it was killed, and wait until it answers.

        Raises:
            StoreUnavailable: It does not.
        """
        command = [sys.executable, "-c", "from chromadb.cli.cli import app; app()", "run", "--path", str(self._folder)]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder
        )
        until = time.monotonic() + _STARTS_WITHIN_S
        while time.monotonic() < until and self._child.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/api/v2/heartbeat", timeout=1):  # noqa: S310
                return
            time.sleep(0.1)
        self.kill()
        raise StoreUnavailable(self.url, "the Chroma server does not answer", "see whether `chroma run` works by hand")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def stop(self) -> None:
        """Let it hang: connections are taken and nothing is answered."""
        if self._child is not None:
            self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Wake it."""
        if self._child is not None:
            self._child.send_signal(signal.SIGCONT)
