"""An application that uses RunnableWithMessageHistory, with this memory behind it.

LangChain deprecates that wrapper; `langchain_with_memory.py` shows what to use in new code.
Runs without a network: the model is a stand-in with prepared answers.
"""

import warnings

from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables.history import RunnableWithMessageHistory

from langchain_langmem_plugin import HybridChatMessageHistory
from langmem_plugin import Memory

warnings.filterwarnings("ignore", message="RunnableWithMessageHistory is deprecated")

model = FakeListChatModel(responses=["Hello Ann!", "You are Ann."])
prompt = ChatPromptTemplate.from_messages(
    [("system", "Be kind."), MessagesPlaceholder("history"), ("human", "{question}")]
)

with Memory.open("sqlite:///chat.db") as memory:
    chain = RunnableWithMessageHistory(
        prompt | model,
        lambda session_id: HybridChatMessageHistory(session_id, memory=memory, owner="ann"),
        input_messages_key="question",
        history_messages_key="history",
    )
    config = {"configurable": {"session_id": "first"}}
    for text in ("Hello, I am Ann.", "Who am I?"):
        print(f"user: {text}\nbot:  {chain.invoke({'question': text}, config).text}")

    print(f"\nThe history now:\n{HybridChatMessageHistory('first', memory=memory, owner='ann')}")
