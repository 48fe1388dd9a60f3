"""A chat in the terminal with any OpenAI-style server: `langmem-plugin chat`."""
