"""A LlamaIndex agent whose memory survives a context that is written to JSON and read again.

Runs offline with LlamaIndex's mock of a function-calling model, which calls every tool
once and then answers. Put your own LLM in its place.
"""

import asyncio
import json

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.workflow import Context

from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer


def open_kitchen() -> str:
    """When the kitchen opens."""
    return "The kitchen opens at six."


async def main() -> None:
    agent = FunctionAgent(tools=[open_kitchen], llm=MockFunctionCallingLLM(), system_prompt="You plan dinners.")
    memory = HybridChatMemoryBuffer.from_defaults(url="sqlite:///agent.db", owner="ann", session_id="dinner")
    ctx = Context(agent)
    await agent.run(user_msg="I am allergic to peanuts. When can we cook?", memory=memory, ctx=ctx)

    saved = json.dumps(ctx.to_dict())  # into your own database, and back in the next request
    ctx = Context.from_dict(agent, json.loads(saved))
    print("agent:", await agent.run(user_msg="And what?", ctx=ctx))

    for message in memory.get_all():
        print(f"{message.role.value:>9}: {message.content or '(calls a tool)'}")
    print("constraints:", [constraint.text for constraint in memory.session.constraints()])
    memory.memory.close()


asyncio.run(main())
