"""An agent that still knows on turn ten what the user demanded on turn one.

Runs without a network: the model is a stand-in with prepared answers. For a real one put
`init_chat_model("openai:gpt-4o")` (from langchain.chat_models) in its place.
"""

from langchain.agents import create_agent
from langchain_core.language_models import FakeListChatModel

from langchain_langmem_plugin import HybridMemoryMiddleware
from langmem_plugin import Memory

model = FakeListChatModel(responses=["Noted.", "How about a tomato salad?"])

with Memory.open("sqlite:///cook.db", model="gpt-4o") as memory:
    agent = create_agent(
        model, system_prompt="You are a cook.", middleware=[HybridMemoryMiddleware(memory, owner="ann")]
    )
    config = {"configurable": {"thread_id": "dinner"}}
    for text in ("I am allergic to peanuts. Never suggest anything with peanuts.", "What shall I cook?"):
        answer = agent.invoke({"messages": [("user", text)]}, config)["messages"][-1]
        print(f"ann:  {text}\ncook: {answer.text}")

    print("\nIn the system message of every request from now on:")
    for constraint in memory.session("dinner", owner="ann").constraints():
        print(f"  {constraint.kind}: {constraint.text}")
