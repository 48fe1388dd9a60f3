"""The LangChain half: an agent of `create_agent` with the memory as its middleware."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langmem_plugin.config import Budget
from langmem_plugin.demo.desk import Desk
from langmem_plugin.demo.player import Player
from langmem_plugin.demo.script import Exchange
from langmem_plugin.errors import MissingExtra
from langmem_plugin.memory import Memory

try:
    from langchain.agents import create_agent
    from langchain_core.callbacks import CallbackManagerForLLMRun
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
    from langchain_core.outputs import ChatGeneration, ChatResult
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool, StructuredTool
except ImportError as error:
    raise MissingExtra("the demonstration", "langchain", "demo") from error

from langchain_langmem_plugin import HybridMemoryMiddleware, from_core, to_core


class PlayerModel(BaseChatModel):
    """The player as LangChain sees a chat model; a real model answers questions if there is one."""

    player: Any
    real: Any = None
    bound: Any = None

    @property
    def _llm_type(self) -> str:
        return "player"

    def bind_tools(self, tools: Sequence[Any], **settings: Any) -> Runnable[Any, AIMessage]:
        """The same model; the script knows which tools it calls, a real model is told."""
        bound = self.real.bind_tools(tools, **settings) if self.real is not None else None
        return self.model_copy(update={"bound": bound})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = [to_core(message) for message in messages]
        real = self.bound or self.real
        if real is not None and self.player.at_question:
            self.player.note(request)
            answer = real.invoke(messages)
        else:
            answer = from_core(self.player.speak(request))
        return ChatResult(generations=[ChatGeneration(message=answer)])


class LangChainSide:
    """Says the user's part to an agent and gives back what it answers."""

    name = "LangChain agent"

    def __init__(
        self,
        memory: Memory,
        *,
        player: Player,
        desk: Desk,
        system: str,
        session_id: str,
        owner: str,
        budget: Budget,
        real: Any = None,
    ) -> None:
        self._agent = create_agent(
            PlayerModel(player=player, real=real),
            tools=[_tool(desk, schema["function"]) for schema in desk.schemas],
            system_prompt=system,
            middleware=[HybridMemoryMiddleware(memory, owner=owner, session_id=session_id, budget=budget)],
        )
        self._schemas = desk.schemas

    def tools(self, exchange: Exchange) -> tuple[dict[str, Any], ...]:
        """The schemas that go with the requests of an exchange: an agent always sends its tools."""
        return self._schemas

    def say(self, exchange: Exchange) -> str:
        """One exchange, from the user's words to the answer."""
        state = self._agent.invoke({"messages": [HumanMessage(exchange.user, id=f"turn-{exchange.number}")]})
        return str(state["messages"][-1].text)


def _tool(desk: Desk, function: dict[str, Any]) -> BaseTool:
    name = function["name"]

    def run(**arguments: Any) -> str:
        return desk.run(name, arguments)

    return StructuredTool.from_function(
        run, name=name, description=function["description"], args_schema={"title": name, **function["parameters"]}
    )
