"""Conversation memory for LangChain and LlamaIndex."""
