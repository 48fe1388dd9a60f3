"""The last look before the model: does the request really carry every constraint?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from langmem_plugin.session import Session


class VerifyConstraints(BaseCallbackHandler):
    """Raises `ConstraintMissing` before a model is called whose request lacks an active constraint.

    Give it to the model or to a run: `agent.invoke(..., config={"callbacks": [VerifyConstraints(session)]})`.
    It sees what the model is sent after all middleware, chains and prompts; where a call is
    meant to go without constraints, such as a summary's, do not give it.

    Args:
        session: The session, or a function that finds it when a model is called.

    Raises:
        ConstraintMissing: From the call of the model; the model was not asked.
    """

    raise_error = True
    run_inline = True

    def __init__(self, session: Session | Callable[[], Session]) -> None:
        super().__init__()
        self._session = session

    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **kwargs: Any) -> None:
        """Look at the system messages of each request."""
        for request in messages:
            self._look("\n".join(str(message.text) for message in request if message.type == "system"))

    def on_llm_start(self, serialized: dict[str, Any], prompts: Sequence[str], **kwargs: Any) -> None:
        """Look at each prompt of a model that completes text."""
        for prompt in prompts:
            self._look(prompt)

    def _look(self, text: str) -> None:
        session = self._session if isinstance(self._session, Session) else self._session()
        session.verify_request(text)
