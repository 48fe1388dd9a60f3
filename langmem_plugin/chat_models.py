"""Any model that a user has, as a `ChatModel`: recognised by what it can do, not by its package."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard

from langmem_plugin.errors import AnswerCutOff, InvalidSetting, ModelFailed
from langmem_plugin.models import ChatModel

ROLE = "summariser"

_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "incomplete"})


def as_chat_model(obj: object) -> ChatModel | None:
    """The given model as a `ChatModel`; None stays None.

    A `ChatModel` is returned as it is. A LangChain chat model (or any runnable that
    takes messages, also one made by `with_structured_output`), a LlamaIndex LLM and a
    plain `callable(prompt) -> str` are wrapped.
    Frameworks are not told `max_tokens`: each spells it differently, and it would cut
    an answer or starve a model that thinks first. Length is asked for and then counted.

    Raises:
        InvalidSetting: The object is none of these, or can only be awaited.
    """
    if obj is None:
        return None
    if isinstance(obj, type):
        raise InvalidSetting("summarizer", obj, "pass a model, not its class")
    if _is_llama_index(obj):
        return _LlamaIndexModel(obj)
    if _is_chat_model(obj):
        return obj
    if callable(getattr(obj, "invoke", None)):
        return _LangChainModel(obj)
    if callable(obj):
        if inspect.iscoroutinefunction(obj) or inspect.iscoroutinefunction(getattr(obj, "__call__", None)):  # noqa: B004
            raise InvalidSetting("summarizer", _name_of(obj), "pass a function that returns text, not an async one")
        return _CallableModel(obj)
    raise InvalidSetting(
        "summarizer",
        type(obj).__name__,
        "pass a LangChain chat model, a LlamaIndex LLM, a callable(prompt) -> str or a ChatModel",
    )


class TimeLimited:
    """A `ChatModel` whose calls end in time, answered or not.

    A call that hangs cannot be stopped from outside; it is left behind in its daemon
    thread, and until it ends no further call is begun.
    """

    def __init__(self, model: ChatModel, *, timeout_s: float) -> None:
        self._model = model
        self._timeout_s = timeout_s
        self._left_behind: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The name of the model inside."""
        return self._model.name

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        """The answer of the model inside.

        Raises:
            ModelFailed: As the model inside, or no answer within `timeout_s` seconds.
        """
        answers: list[str] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                answers.append(self._model.complete(system, prompt, max_tokens=max_tokens))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
                errors.append(error)

        thread = threading.Thread(target=call, name="langmem-model-call", daemon=True)
        with self._lock:
            if self._left_behind is not None and self._left_behind.is_alive():
                raise ModelFailed(ROLE, "an earlier call has still not been answered")
        thread.start()
        thread.join(self._timeout_s)
        if answers:
            return answers[0]
        if errors:
            if isinstance(errors[0], ModelFailed):
                raise errors[0]
            raise ModelFailed(ROLE, describe(errors[0])) from errors[0]
        with self._lock:
            self._left_behind = thread
        raise ModelFailed(ROLE, f"no answer within {self._timeout_s:g} s")


def describe(error: BaseException) -> str:
    """An error by its class and status code: its message may quote the conversation (G14)."""
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} {status}" if isinstance(status, int) else type(error).__name__


class _Wrapped:
    """What the three wrappers share: a name, errors without text, no empty answers."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def complete(self, system: str, prompt: str, *, max_tokens: int) -> str:
        try:
            text, finish = self._ask(system, prompt)
        except Exception as error:
            raise ModelFailed(ROLE, describe(error)) from error
        if finish in _CUT_OFF:
            raise AnswerCutOff(ROLE)
        if not text.strip():
            raise ModelFailed(ROLE, "its answer is empty")
        return text

    def _ask(self, system: str, prompt: str) -> tuple[str, str]:
        raise NotImplementedError


class _LangChainModel(_Wrapped):
    def __init__(self, model: Any) -> None:
        super().__init__(model, _name_of(model))

    def _ask(self, system: str, prompt: str) -> tuple[str, str]:
        # The tag keeps LangGraph from streaming our inner calls to the user (langchain-ai/deepagentsjs#629).
        quiet = {"tags": ["nostream"], "metadata": {"lc_source": "summarization"}}
        answer = self._model.invoke([("system", system), ("human", prompt)], config=quiet)
        if isinstance(answer, str):
            return answer, ""
        structured = _structured(answer)
        if structured is not None:
            return structured, ""
        facts = getattr(answer, "response_metadata", None)
        return _text_of(getattr(answer, "content", None)), _finish_of(facts)


class _LlamaIndexModel(_Wrapped):
    def __init__(self, model: Any) -> None:
        name = getattr(model.metadata, "model_name", None)
        super().__init__(model, name if isinstance(name, str) and name not in {"", "unknown"} else type(model).__name__)

    def _ask(self, system: str, prompt: str) -> tuple[str, str]:
        # `complete` is served by the chat endpoint where a model has one, and needs no message class of the framework.
        answer = self._model.complete(f"{system}\n\n{prompt}")
        raw = getattr(answer, "raw", None)
        choices = getattr(raw, "choices", None) or (raw.get("choices") if isinstance(raw, Mapping) else None)
        finish = _finish_of(raw)
        if choices:
            finish = finish or _finish_of(choices[0])
        return _text_of(getattr(answer, "text", None)), finish


class _CallableModel(_Wrapped):
    def __init__(self, call: Callable[[str], object]) -> None:
        super().__init__(call, _name_of(call))

    def _ask(self, system: str, prompt: str) -> tuple[str, str]:
        answer = self._model(f"{system}\n\n{prompt}")
        if inspect.iscoroutine(answer):
            answer.close()
        if not isinstance(answer, str):
            raise TypeError(type(answer).__name__)
        return answer, ""


def _is_llama_index(obj: object) -> bool:
    return (
        callable(getattr(obj, "complete", None))
        and callable(getattr(obj, "chat", None))
        and hasattr(getattr(obj, "metadata", None), "model_name")
    )


def _is_chat_model(obj: object) -> TypeGuard[ChatModel]:
    return callable(getattr(obj, "complete", None)) and isinstance(getattr(obj, "name", None), str)


def _name_of(model: object) -> str:
    for attribute in ("model_name", "model", "model_id", "deployment_name", "__name__"):
        name = getattr(model, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(model).__name__


def _structured(answer: object) -> str | None:
    """What `with_structured_output` made of an answer, as JSON again; None for a message."""
    if isinstance(answer, Mapping):
        return json.dumps(answer, ensure_ascii=False, default=str)
    dump = getattr(answer, "model_dump_json", None)
    return str(dump()) if callable(dump) and not hasattr(answer, "content") else None


def _text_of(content: object) -> str:
    """Text of a framework's answer: a string, or a list of strings and blocks with text."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Iterable):
        return ""
    parts: list[str] = []
    for block in content:
        if isinstance(block, str):
            parts.append(block)
        elif isinstance(block, Mapping) and block.get("type", "text") in {"text", "output_text"}:
            text = block.get("text")
            parts.append(text if isinstance(text, str) else "")
    return "".join(parts)


def _finish_of(facts: object) -> str:
    for name in ("finish_reason", "stop_reason", "done_reason"):
        value = facts.get(name) if isinstance(facts, Mapping) else getattr(facts, name, None)
        if isinstance(value, str):
            return value.lower()
    return ""
