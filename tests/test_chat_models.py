"""Recognising models by what they can do, and what they do wrong."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback

from langmem_plugin.chat_models import TimeLimited, as_chat_model
from langmem_plugin.errors import InvalidSetting, ModelFailed
from langmem_plugin.models import ChatModel


def ask(model: object) -> str:
    chat = as_chat_model(model)
    assert chat is not None
    assert isinstance(chat, ChatModel)
    return chat.complete("Be brief.", "Summarise: hello", max_tokens=50)


class Own:
    name = "own"

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        return f"{system}|{prompt}|{max_tokens}"


def test_a_chat_model_stays_itself():
    """A ChatModel is returned as it is; None stays None."""
    own = Own()
    assert as_chat_model(own) is own
    assert as_chat_model(None) is None


def test_langchain_chat_model():
    """A LangChain chat model answers text, and is named."""
    assert ask(FakeListChatModel(responses=["short"])) == "short"
    assert as_chat_model(FakeListChatModel(responses=["x"])).name == "FakeListChatModel"


def test_langchain_gets_messages_and_a_quiet_tag():
    """The system text and the prompt arrive in their roles; the call is tagged so that no stream shows it."""
    seen = {}

    def answer(messages, config):
        seen.update(messages=messages, tags=config["tags"], metadata=config["metadata"])
        return AIMessage("done")

    assert ask(RunnableLambda(answer)) == "done"
    assert seen["messages"] == [("system", "Be brief."), ("human", "Summarise: hello")]
    assert "nostream" in seen["tags"]
    assert seen["metadata"]["lc_source"] == "summarization"


def test_langchain_blocks_and_completion_models():
    """Content as a list of blocks gives its text without the thinking; a completion model's string is taken."""
    blocks = AIMessage([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a "}, "b"])
    assert ask(GenericFakeChatModel(messages=iter([blocks]))) == "a b"
    assert ask(FakeListLLM(responses=["plain"])) == "plain"


def test_llama_index():
    """A LlamaIndex LLM answers text, and is named by its metadata or class."""
    assert "Summarise: hello" in ask(MockLLM())
    assert as_chat_model(MockLLM()).name == "MockLLM"

    class Named(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name="small-1")

        @llm_completion_callback()
        def complete(self, prompt, formatted=False, **kwargs):
            return CompletionResponse(text="fine", raw={"choices": [{"finish_reason": "stop"}]})

        @llm_completion_callback()
        def stream_complete(self, prompt, formatted=False, **kwargs):
            raise NotImplementedError

    assert as_chat_model(Named()).name == "small-1"
    assert ask(Named()) == "fine"


def test_callable():
    """A plain function is given one text and named by its name."""

    def small(prompt: str) -> str:
        return prompt.upper()

    assert ask(small) == "BE BRIEF.\n\nSUMMARISE: HELLO"
    assert as_chat_model(small).name == "small"


async def later(prompt: str) -> str:
    return prompt


@pytest.mark.parametrize("thing", ["gpt-4o", 7, object(), FakeListChatModel, later])
def test_not_a_model(thing):
    """What cannot answer is refused at once, with advice."""
    with pytest.raises(InvalidSetting, match="pass a"):
        as_chat_model(thing)


@pytest.mark.parametrize("answer", ["", "  \n", None, 7])
def test_no_answer_is_a_failure(answer):
    """Empty answers and things that are not text fail."""
    with pytest.raises(ModelFailed):
        ask(lambda prompt: answer)


def test_a_failure_names_no_text():
    """What the provider said stays out of the error: it may quote the conversation."""

    class RateLimitError(Exception):
        status_code = 429

    def down(prompt: str) -> str:
        raise RateLimitError(f"cannot answer {prompt}")

    with pytest.raises(ModelFailed) as caught:
        ask(down)
    assert "RateLimitError 429" in str(caught.value)
    assert "hello" not in str(caught.value)


def test_a_coroutine_is_closed():
    """A callable that gives a coroutine after all fails, without a warning of one never awaited."""
    with pytest.raises(ModelFailed):
        ask(lambda prompt: later(prompt))  # noqa: PLW0108 - hides that it is async


@pytest.mark.parametrize(
    "facts", [{"finish_reason": "length"}, {"stop_reason": "max_tokens"}, {"done_reason": "length"}]
)
def test_cut_off_in_langchain(facts):
    """An answer that the provider says is cut off fails."""
    with pytest.raises(ModelFailed, match="cut off"):
        ask(GenericFakeChatModel(messages=iter([AIMessage("The user wan", response_metadata=facts)])))


@pytest.mark.parametrize(
    "raw",
    [
        {"choices": [{"finish_reason": "length"}]},
        SimpleNamespace(choices=[SimpleNamespace(finish_reason="length")]),
        {"stop_reason": "max_tokens"},
    ],
)
def test_cut_off_in_llama_index(raw):
    """The same, as LlamaIndex reports it: a dict, or the provider's own object."""
    model = SimpleNamespace(
        metadata=SimpleNamespace(model_name="m"),
        chat=print,
        complete=lambda prompt: SimpleNamespace(text="The user wan", raw=raw),
    )
    with pytest.raises(ModelFailed, match="cut off"):
        ask(model)


def test_time_limit():
    """A call that hangs fails in time, no second one is begun beside it, and the model is used again once it ends."""
    release = threading.Event()
    calls = []

    def slow(prompt: str) -> str:
        calls.append(prompt)
        release.wait(10)
        return "late"

    model = TimeLimited(as_chat_model(slow), timeout_s=0.05)
    assert model.name == "slow"
    with pytest.raises(ModelFailed, match=r"no answer within 0\.05 s"):
        model.complete("s", "p", max_tokens=10)
    with pytest.raises(ModelFailed, match="still not been answered"):
        model.complete("s", "p", max_tokens=10)
    assert len(calls) == 1
    release.set()
    answer, until = "", time.monotonic() + 30
    while not answer and time.monotonic() < until:
        with suppress(ModelFailed):  # a loaded machine may need more than the time limit to begin
            answer = model.complete("s", "p", max_tokens=10)
    assert answer == "late"


def test_time_limit_passes_failures_on():
    """Any failure of the model inside arrives as ModelFailed in the caller's thread."""

    class Broken:
        name = "broken"

        def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
            raise SystemExit(prompt)

    with pytest.raises(ModelFailed, match="SystemExit"):
        TimeLimited(Broken(), timeout_s=5).complete("s", "p", max_tokens=10)


class Server(HTTPServer):
    """An OpenAI-style endpoint on this machine that answers as it is told."""

    answer: tuple[int, str] = (200, "")
    asked: list[dict] = []  # noqa: RUF012 - set anew by each test


class Endpoint(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args) -> None:
        pass

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())


def completion(text: str, finish: str = "stop") -> tuple[int, str]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    out = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [choice], "usage": usage}
    return 200, json.dumps(out)


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Endpoint) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=["langchain", "llama_index"])
def client(request, server):
    """The real clients of both frameworks, on that endpoint."""
    url = f"http://127.0.0.1:{server.server_port}/v1"
    if request.param == "langchain":
        openai = pytest.importorskip("langchain_openai")
        return openai.ChatOpenAI(model="tiny", base_url=url, api_key="x", max_retries=0)
    like = pytest.importorskip("llama_index.llms.openai_like")
    return like.OpenAILike(model="tiny", api_base=url, api_key="x", is_chat_model=True, max_retries=0)


def test_real_clients(server, client):
    """ChatOpenAI and OpenAILike answer through the wrapper, and are named by their model."""
    server.answer = completion("short")
    assert ask(client) == "short"
    assert as_chat_model(client).name == "tiny"
    sent = json.dumps(server.asked[0]["messages"])
    assert "Be brief." in sent
    assert "Summarise: hello" in sent


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (completion(""), "empty"),
        (completion("The user wan", "length"), "cut off"),
        ((429, '{"error": {"message": "you said 4711"}}'), "RateLimitError 429"),
        ((500, "4711"), "Error 500"),
        ((200, "4711 is not json"), "JSONDecodeError"),
    ],
    ids=["empty", "cut off", "429", "500", "garbage"],
)
def test_real_clients_that_fail(server, client, answer, why):
    """What such a server does wrong arrives as ModelFailed, with its kind and without its text."""
    server.answer = answer
    with pytest.raises(ModelFailed, match=why) as caught:
        ask(client)
    assert "4711" not in str(caught.value)
