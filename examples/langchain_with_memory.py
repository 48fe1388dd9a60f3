"""A chain that recalls what the question asks for, however long ago it was said.

Runs without a network: the "model" is a function that quotes the line of its request that
shares most words with the question. For a real one put `init_chat_model("openai:gpt-4o")`
(from langchain.chat_models) in its place.
"""

import re

from langchain_core.runnables import RunnableLambda

from langchain_langmem_plugin import with_memory
from langmem_plugin import Budget, Memory


def quote(messages):
    """Stands in for a model."""
    *lines, question = [part.strip() for message in messages for part in re.split(r"[\n·]", message.text)]
    words = set(re.findall(r"\w{4,}", question.lower()))
    told = [line for line in lines if "?" not in line]
    return max(told, key=lambda line: len(words & set(re.findall(r"\w{4,}", line.lower()))), default="Noted.")


with Memory.open("sqlite:///notes.db") as memory:
    chain = with_memory(
        RunnableLambda(quote), memory=memory, owner="ann", budget=Budget(max_tokens=600, completion=100)
    )
    config = {"configurable": {"session_id": "notes"}}
    chain.invoke("My locker code is 4471.", config)
    for number in range(30):
        chain.invoke(f"Note {number}: the train to work was on time and the coffee was good today.", config)
    print(chain.invoke("What was my locker code?", config))
