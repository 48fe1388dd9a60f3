"""The terminal chat against a real HTTP server on loopback that follows a script."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from langmem_plugin import Memory
from langmem_plugin.chat.server import ChatServer
from langmem_plugin.chat.talk import Talk
from langmem_plugin.chat.terminal import Settings, run
from langmem_plugin.display import console
from langmem_plugin.errors import InvalidSetting, ModelFailed, ServerFailed
from langmem_plugin.messages import Role

WORDS = ["Good ", "morning, ", "Ann", "."]
ANSWER = "".join(WORDS)


class Handler(BaseHTTPRequestHandler):
    """Does what the next step of the script says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._send(200, {"data": [{"id": "small"}, {"id": "large"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.requests.append(body)
        self.server.keys.append(self.headers.get("authorization"))
        step = self.server.script.pop(0) if self.server.script else whole()
        step(self)

    def _send(self, status, body, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def word(self, text, **choice):
        self.chunk(f"data: {json.dumps({'choices': [{'delta': {'content': text}, **choice}]})}\n\n")

    def end_stream(self):
        self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


def whole(words=WORDS):
    """A good stream, with what real servers put between the pieces."""

    def step(handler):
        handler.begin_stream()
        handler.chunk(": keep-alive\n\n")
        handler.chunk('data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n')
        for word in words:
            handler.word(word)
        handler.chunk('data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n')
        handler.chunk('data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n')
        handler.end_stream()

    return step


def dropped(count, *, cleanly):
    """A stream that ends after `count` pieces: without its end, or in the middle of a chunk."""

    def step(handler):
        handler.begin_stream()
        for word in WORDS[:count]:
            handler.word(word)
        if cleanly:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(b"ff\r\ndata: {")
        handler.wfile.flush()
        handler.close_connection = True

    return step


def status(code, **headers):
    return lambda handler: handler._send(code, {"error": {"message": "said: I am allergic to peanuts"}}, **headers)


def garbage(handler):
    handler.begin_stream()
    handler.word(WORDS[0])
    handler.chunk("data: {not json\n\n")
    handler.end_stream()


def error_within(handler):
    handler.begin_stream()
    handler.word(WORDS[0])
    handler.chunk('data: {"error": {"message": "out of memory"}}\n\n')
    handler.end_stream()


def empty(handler):
    handler.begin_stream()
    handler.end_stream()


def html(handler):
    handler.send_response(200)
    handler.send_header("content-type", "text/html")
    handler.send_header("content-length", "12")
    handler.end_headers()
    handler.wfile.write(b"<p>hello</p>")


def stall(handler):
    handler.begin_stream()
    handler.word(WORDS[0])
    time.sleep(1.0)
    handler.close_connection = True


def not_streamed(handler):
    handler._send(200, {"choices": [{"message": {"content": ANSWER}}]})


FAILURES = {
    **{f"dropped after {n}": dropped(n, cleanly=True) for n in range(len(WORDS) + 1)},
    **{f"broken after {n}": dropped(n, cleanly=False) for n in range(len(WORDS) + 1)},
    **{f"status {code}": status(code) for code in (429, 500, 502, 503)},
    "garbage": garbage,
    "an error within": error_within,
    "empty": empty,
    "html": html,
    "stall": stall,
}


@pytest.fixture
def server():
    """The server, its script and what it was asked."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    http.script, http.requests, http.keys = [], [], []
    http.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield http
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def client(server):
    client = ChatServer(server.url, "small", timeout_s=0.4)
    yield client
    client.close()


@pytest.fixture
def session():
    with Memory.open() as memory:
        yield memory.session("s", owner="ann")


class Shown:
    """A display that keeps what it is shown."""

    def __init__(self, interrupt_at: Callable[[str], bool] = lambda _: False):
        self.pieces, self.failures, self._interrupt_at = [], [], interrupt_at

    def piece(self, text):
        self.pieces.append(text)
        if self._interrupt_at(text):
            raise KeyboardInterrupt

    def broken(self, why, *, wait_s):
        self.failures.append((why, wait_s))


@pytest.fixture
def talk(session, client):
    waits: list[float] = []
    talk = Talk(session, client, retries=2, sleep=waits.append)
    talk.waits = waits
    return talk


def said(session):
    return [(entry.message.role.value, entry.message.text) for entry in session.history()]


@pytest.fixture
def chat(server, tmp_path):
    """Runs the terminal on lines of input and gives what it printed."""

    def go(*lines, **settings):
        given, out = iter(lines), io.StringIO()

        def read(prompt):
            out.write(prompt)
            try:
                line = next(given)
            except StopIteration:
                raise EOFError from None
            out.write(f"{line}\n")
            return line

        fields = {
            "base_url": server.url,
            "model": "small",
            "tokenizer": "gpt-4o",
            "database": f"sqlite:///{tmp_path / 'chat.db'}",
            "owner": "ann",
            "timeout_s": 0.4,
            "retries": 0,
            **settings,
        }
        assert run(Settings(**fields), read=read, out=console(out)) == 0
        return out.getvalue()

    return go


# The server


def test_a_good_stream_comes_in_pieces(client, server):
    """The pieces of a stream arrive as they were sent, and the request is OpenAI's."""
    from langmem_plugin.messages import system, user

    assert list(client.stream([system("Be brief."), user("Hi")])) == WORDS
    assert server.requests == [
        {
            "model": "small",
            "stream": True,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        }
    ]


def test_a_server_that_does_not_stream(client, server):
    """An answer in one piece of JSON is taken as well."""
    server.script.append(not_streamed)
    assert list(client.stream([])) == [ANSWER]


def test_the_key_is_sent(server):
    """An API key goes as a bearer token; without one nothing goes."""
    for key in ("secret", None):
        client = ChatServer(server.url, "small", api_key=key)
        list(client.stream([]))
        client.close()
    assert server.keys == ["Bearer secret", None]


@pytest.mark.parametrize("name", FAILURES)
def test_every_failure_is_typed(name, client, server):
    """Whatever breaks is a ServerFailed that is worth retrying and repeats nothing of what was said."""
    server.script.append(FAILURES[name])
    with pytest.raises(ServerFailed) as caught:
        list(client.stream([]))
    assert caught.value.worth_retrying
    assert "peanuts" not in str(caught.value)


def test_nothing_listens():
    """A refused connection is told as such, with what to check."""
    client = ChatServer("http://127.0.0.1:9/v1", "small")
    with pytest.raises(ServerFailed, match="nothing answers there; start the server or check --base-url"):
        list(client.stream([]))
    client.close()


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("huge", 404, "it has no model 'huge' .* it has small, large"),
        ("huge", 400, "it has no model 'huge'"),
        ("small", 404, "check --base-url, most end in /v1"),
        ("small", 400, "refuses the request"),
        ("small", 401, "give --api-key"),
    ],
)
def test_a_wrong_address_or_model_is_clear(model, code, message, server):
    """What a retry cannot help says so, and what to change."""
    server.script.append(status(code))
    client = ChatServer(server.url, model)
    with pytest.raises(ServerFailed, match=message) as caught:
        list(client.stream([]))
    client.close()
    assert not caught.value.worth_retrying


@pytest.mark.parametrize("url", ["", "localhost:1234", "ftp://x/v1", "http://", "http://[::1", "http://h:99999999"])
def test_an_address_that_is_none(url):
    """An address that is not one of HTTP is refused before anything is sent."""
    with pytest.raises(InvalidSetting, match="http://localhost:1234/v1"):
        ChatServer(url, "small")


def test_the_server_writes_summaries(client, server):
    """As a summariser it answers in one piece, and fails as one."""
    assert client.complete("Be brief.", "Sum up.", max_tokens=10) == ANSWER
    server.script.append(status(500))
    with pytest.raises(ModelFailed):
        client.complete("", "Sum up.", max_tokens=10)


# Turns


@pytest.mark.parametrize("name", FAILURES)
def test_a_retry_resumes_the_turn(name, talk, server, session):
    """G5, G6: after any failure the same request is sent again, and the log holds one whole exchange."""
    server.script.append(FAILURES[name])
    shown = Shown()
    assert talk.ask("Hello", shown) == ANSWER
    assert said(session) == [("user", "Hello"), ("assistant", ANSWER)]
    assert len(shown.failures) == 1
    assert server.requests[0]["messages"] == server.requests[1]["messages"]
    assert session.resume() is None


@pytest.mark.parametrize("name", FAILURES)
def test_nothing_half_is_kept(name, talk, server, session):
    """G6: when the retries are used up the turn is pending, the log empty, and asking again completes it."""
    server.script += [FAILURES[name]] * 3
    with pytest.raises(ServerFailed):
        talk.ask("Hello", Shown())
    assert session.version == 0
    assert talk.unanswered() == "Hello"
    assert talk.again(Shown()) == ANSWER
    assert said(session) == [("user", "Hello"), ("assistant", ANSWER)]


def test_retries_are_bounded_and_wait_longer(talk, server):
    """Two retries are two; each waits longer than the one before may, and a server's own wish is followed."""
    server.script += [status(500)] * 3
    with pytest.raises(ServerFailed):
        talk.ask("Hello", Shown())
    assert len(server.requests) == 3
    assert 0.25 <= talk.waits[0] <= 0.5 <= talk.waits[1] <= 1.0
    server.script += [status(429, retry_after="7"), status(429, retry_after="9999")]
    talk.again(Shown())
    assert talk.waits[2:] == [7.0, 30.0]


def test_a_refusal_is_not_retried(talk, server):
    """What a retry cannot help is asked once."""
    server.script.append(status(401))
    with pytest.raises(ServerFailed):
        talk.ask("Hello", Shown())
    assert len(server.requests) == 1


def test_breaking_off_keeps_nothing(talk, session):
    """Ctrl-C within an answer aborts its turn."""
    with pytest.raises(KeyboardInterrupt):
        talk.ask("Hello", Shown(interrupt_at=lambda text: text == WORDS[1]))
    assert session.version == 0
    assert session.resume() is None
    assert talk.again(Shown()) is None


def test_a_new_message_drops_the_unanswered_one(talk, server, session):
    """A question that was left unanswered is not in the next request."""
    server.script += [status(500)] * 3
    with pytest.raises(ServerFailed):
        talk.ask("Lost", Shown())
    talk.ask("Hello", Shown())
    assert said(session) == [("user", "Hello"), ("assistant", ANSWER)]
    assert "Lost" not in json.dumps(server.requests[-1])


def test_a_process_that_died_before_the_commit(session, client):
    """A turn whose whole answer is staged is committed, not asked again."""
    session.begin("Hello").append("Good morning.")
    talk = Talk(session, client)
    assert talk.unanswered() is None
    assert said(session) == [("user", "Hello"), ("assistant", "Good morning.")]


# The terminal


def test_a_session_goes_on(chat, server):
    """The same session shows its last lines, and its constraints are in the next request."""
    first = chat("I am allergic to peanuts.", "/quit")
    assert ANSWER in first
    second = chat("Suggest a snack.")
    assert "goes on after 2 messages" in second
    assert "you: I am allergic to peanuts." in second
    system = server.requests[-1]["messages"][0]
    assert system["role"] == "system"
    assert "allergic to peanuts" in system["content"]
    assert "goes on" not in chat("/quit", session="another")


def test_what_was_printed_is_marked_void(chat, server):
    """A broken stream marks what stands above it, and the message can be asked again."""
    server.script.append(dropped(2, cleanly=False))
    out = chat("Hello", "/retry")
    assert "Good morning, \n! the answer above is void" in out
    assert "/retry asks again" in out
    assert out.index("void") < out.index(ANSWER)


@pytest.fixture
def interruptible():
    """Python's own answer to SIGINT, which a process started in the background ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_within_an_answer(chat, server, tmp_path):
    """A real interrupt while the answer arrives aborts that answer and leaves the chat running."""

    def interrupt(handler):
        handler.begin_stream()
        handler.word(WORDS[0])
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # as a terminal does
        time.sleep(0.3)
        handler.close_connection = True

    server.script.append(interrupt)
    out = chat("Hello", "Again", timeout_s=5.0)
    assert "broken off; nothing of this turn is kept" in out
    assert ANSWER in out
    with Memory.open(f"sqlite:///{tmp_path / 'chat.db'}") as memory:
        assert said(memory.session("chat", owner="ann")) == [("user", "Again"), ("assistant", ANSWER)]


def test_commands(chat):
    """Each command answers with what it is for."""
    out = chat(
        "/context",
        "Never suggest coffee.",
        "/context",
        "/constraints",
        "/constraints add Speak of cats only.",
        "/constraints revoke 1",
        "/constraints",
        "/constraints revoke 99",
        "/constraints what",
        "/stats",
        "/help",
        "/retry",
        "/nothing",
    )
    assert "window" in out
    assert "of 3,000 tokens" in out
    assert "Never suggest coffee." in out
    assert "added: Speak of cats only." in out
    assert "revoked: Never suggest coffee." in out
    assert "added by hand" in out
    assert "no constraint '99'" in out
    assert "use /constraints, " in out
    assert "2 in version" in out
    assert "behind: summary" in out
    assert "/forget" in out
    assert "nothing waits for an answer" in out
    assert "there is no /nothing" in out


def test_forgetting_asks_first(chat):
    """Only "yes" erases the session."""
    chat("I live in Bern.")
    assert "nothing was erased" in chat("/forget", "no")
    assert "2 messages erased" in chat("/forget", "yes")
    assert "goes on" not in chat("/quit")


def test_a_message_larger_than_the_budget(chat, server):
    """A message that does not fit is told with both numbers and not kept; the chat goes on."""
    out = chat("word " * 5_000, "Hello", budget=1_000)
    assert "the budget is" in out
    assert len(server.requests) == 1
    assert ANSWER in out


def test_a_tokenizer_that_is_not_known_is_said(chat):
    """Where the model's tokens cannot be counted exactly, a line says so and what helps."""
    assert "--tokenizer" in chat("/quit", tokenizer=None)


def test_the_last_message_is_asked_again_by_another_process(server, tmp_path):
    """A turn that one process left unanswered is completed by the next one, once."""
    command = [sys.executable, "-W", "error", "-m", "langmem_plugin.cli", "chat", "--base-url", server.url]
    command += ["--model", "small", "--tokenizer", "gpt-4o", "--owner", "ann", "--retries", "0"]
    command += ["--database", f"sqlite:///{tmp_path / 'chat.db'}"]

    def process(lines):
        return subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=60)

    server.script.append(dropped(2, cleanly=False))
    assert "void" in process("My name is Ann.\n").stdout
    second = process("/retry\n")
    assert "your last message was not answered: “My name is Ann.”" in second.stdout
    assert ANSWER in second.stdout
    assert second.stderr == ""
    with Memory.open(f"sqlite:///{tmp_path / 'chat.db'}") as memory:
        log = memory.session("chat", owner="ann").history()
    assert [entry.message.role for entry in log] == [Role.USER, Role.ASSISTANT]
