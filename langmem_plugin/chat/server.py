"""An OpenAI-style chat server over HTTP: streamed answers, and every failure as one typed error."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from langmem_plugin.errors import InvalidSetting, MissingExtra, ModelFailed, ServerFailed
from langmem_plugin.messages import Message, user
from langmem_plugin.messages import system as system_message

try:
    import httpx
except ImportError as error:
    raise MissingExtra("the chat", "httpx", "cli") from error

_CONNECT_S = 5.0
_LONGEST_WAIT_S = 30.0
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""


class ChatServer:
    """One model on one server; a `ChatModel` too, so that it can write summaries.

    Thread-safe. Nothing is connected before the first request.

    Args:
        base_url: For example `http://localhost:1234/v1`.
        model: The model's name on that server.
        api_key: Sent as a bearer token if given.
        timeout_s: The longest silence, before an answer and within it, in seconds.

    Raises:
        InvalidSetting: The address is not one of HTTP.
    """

    def __init__(self, base_url: str, model: str, *, api_key: str | None = None, timeout_s: float = 60.0) -> None:
        try:
            parts = urlsplit(base_url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable:
            raise InvalidSetting("--base-url", base_url, "give an address such as http://localhost:1234/v1")
        self.url = base_url.rstrip("/")
        self.name = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
            # Minutes pass between two questions: a connection that was kept is likely to be closed by then.
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._timeout_s = timeout_s

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """The answer piece by piece; ends only after the whole of it.

        Raises:
            ServerFailed: It cannot be reached, refuses, is silent too long, or the answer
                breaks off; says whether the same request is worth another try.
        """
        body = {"model": self.name, "stream": True, "messages": [_as_json(message) for message in messages]}
        try:
            with self._http.stream("POST", f"{self.url}/chat/completions", json=body) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise self._refused(response)
                if "json" in response.headers.get("content-type", ""):  # it does not stream
                    yield self._whole(json.loads(response.read()))
                    return
                yield from self._pieces(response.iter_lines())
        except ValueError as error:
            raise self._broken("what it sends is no answer of a chat server") from error
        except httpx.TimeoutException as error:
            raise self._silent(error) from error
        except httpx.ConnectError as error:
            raise ServerFailed(
                self.url, "nothing answers there", "start the server or check --base-url", worth_retrying=True
            ) from error
        except httpx.HTTPError as error:
            raise self._broken("the connection broke") from error

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        """An answer in one piece.

        Raises:
            ModelFailed: The server failed or answered nothing.
        """
        try:
            text = "".join(self.stream([system_message(system), user(prompt)]))
        except ServerFailed as error:
            raise ModelFailed("summariser", error.why) from error
        if not text.strip():
            raise ModelFailed("summariser", "its answer is empty")
        return text

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # What arrives

    def _pieces(self, lines: Iterator[str]) -> Iterator[str]:
        finished = said = False
        for line in lines:
            if not line.startswith("data:"):
                continue  # a comment that keeps the connection open, an event's name, the line between events
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                finished = True
                break
            piece = json.loads(data)
            self._check(piece)
            for choice in piece.get("choices") or ():
                text = (choice.get("delta") or {}).get("content")
                if text:
                    said = True
                    yield str(text)
                finished = finished or bool(choice.get("finish_reason"))
        if not finished:
            raise self._broken("the answer broke off")
        if not said:
            raise self._broken("the answer is empty")

    def _whole(self, answer: Any) -> str:
        self._check(answer)
        choices = answer.get("choices") or [{}]
        text = (choices[0].get("message") or {}).get("content")
        if not text:
            raise self._broken("the answer is empty")
        return str(text)

    def _check(self, piece: Any) -> None:
        if not isinstance(piece, dict):
            raise ValueError("not an object")  # noqa: TRY004 - told as one error with bad JSON
        if piece.get("error"):
            raise self._broken("it reports an error within the answer")

    # What goes wrong

    def _broken(self, why: str) -> ServerFailed:
        return ServerFailed(self.url, why, "try again", worth_retrying=True)

    def _silent(self, error: httpx.TimeoutException) -> ServerFailed:
        if isinstance(error, httpx.ConnectTimeout):
            why, advice = f"no connection within {_CONNECT_S:g} s", "check --base-url"
        else:
            why, advice = f"silent for {self._timeout_s:g} s", "try again or raise --timeout"
        return ServerFailed(self.url, why, advice, worth_retrying=True)

    def _refused(self, response: httpx.Response) -> ServerFailed:
        status = response.status_code
        if status in _LATER:
            what = "it has too many requests" if status == httpx.codes.TOO_MANY_REQUESTS else "it fails"
            return ServerFailed(
                self.url,
                f"{what} (status {status})",
                "try again later",
                worth_retrying=True,
                after_s=_retry_after(response),
            )
        if status in (401, 403):
            return ServerFailed(self.url, f"it refuses the key (status {status})", "give --api-key or OPENAI_API_KEY")
        known = self._models()
        if known and self.name not in known:
            return ServerFailed(
                self.url, f"it has no model {self.name!r} (status {status})", f"it has {', '.join(known[:8])}"
            )
        if status == httpx.codes.NOT_FOUND:
            return ServerFailed(
                self.url, "there is no chat/completions (status 404)", "check --base-url, most end in /v1"
            )
        if 300 <= status < 400:
            return ServerFailed(self.url, f"it redirects (status {status})", "give the address that it names")
        return ServerFailed(
            self.url, f"it refuses the request (status {status})", "check --model, --budget and the server's log"
        )

    def _models(self) -> list[str]:
        """The models that the server says it has; [] if it does not say."""
        try:
            answer = self._http.get(f"{self.url}/models", timeout=_CONNECT_S).json()
            return [str(model["id"]) for model in answer["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return []


def _as_json(message: Message) -> dict[str, str]:
    # Only what a chat in text needs; tools and images never come up here.
    return {"role": message.role.value, "content": message.text}


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return min(_LONGEST_WAIT_S, max(0.0, float(response.headers.get("retry-after", ""))))
    except ValueError:
        return None
