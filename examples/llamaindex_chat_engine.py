"""A LlamaIndex chat engine that remembers: stop the program, start it again, and it goes on.

Runs offline: the model echoes the end of what it was sent. Put your own LLM in its place.
"""

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM

from llama_index.memory.langmem_plugin import HybridChatMemoryBuffer


class EchoLLM(MockLLM):
    """Stands in for a model: says how many messages it got, and the first line of its instructions."""

    def chat(self, messages, **kwargs):
        rules = [line for m in messages if m.role == "system" for line in m.content.splitlines() if line[:2] == "- "]
        text = f"({len(messages)} messages; rules: {'; '.join(rules) or 'none'})"
        return ChatResponse(message=ChatMessage(role="assistant", content=text))


memory = HybridChatMemoryBuffer.from_defaults(
    url="sqlite:///chat.db", owner="ann", session_id="dinner", token_limit=2_000
)
engine = SimpleChatEngine.from_defaults(llm=EchoLLM(), memory=memory, system_prompt="You plan dinners.")

for question in ("Never suggest anything with peanuts.", "What could I cook on Friday?", "And for dessert?"):
    print(f"you:   {question}\nmodel: {engine.chat(question)}\n")

print("constraints:", [constraint.text for constraint in memory.session.constraints()])
print("tokens of the last request:", dict(memory.report.tokens))
memory.memory.close()
