"""A long conversation through a LangChain agent and a LlamaIndex chat engine on one memory: `langmem-plugin demo`."""
