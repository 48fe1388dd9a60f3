"""Context windows of well-known models, in tokens."""

from __future__ import annotations

import re

_WINDOWS: tuple[tuple[str, int], ...] = (
    # OpenAI. The gpt-5 family answers up to 128,000 beside 272,000 of input; the input is what binds here.
    (r"gpt-4o|chatgpt-4o|gpt-4-turbo|gpt-4-vision|gpt-4-(?:1106|0125)|gpt-4\.5", 128_000),
    (r"gpt-4\.1", 1_047_576),
    (r"gpt-4-32k", 32_768),
    (r"gpt-4", 8_192),
    (r"gpt-3\.5-turbo-(?:0301|0613|instruct)", 4_096),
    (r"gpt-3\.5-turbo|gpt-35-turbo", 16_385),
    (r"gpt-5(?:\.\d+)?-chat", 128_000),
    (r"gpt-5(?:\.\d+)?", 272_000),
    (r"gpt-oss", 131_072),
    (r"o1-mini|o1-preview", 128_000),
    (r"o1|o3|o4-mini", 200_000),
    # Anthropic. A million where the beta is on: give max_tokens.
    (r"claude-instant|claude-2\.0|claude-2", 100_000),
    (r"claude", 200_000),
    # Google
    (r"gemini-1\.5-pro", 2_097_152),
    (r"gemini-(?:1\.5|2\.0|2\.5|3)(?:\.\d+)?", 1_048_576),
    (r"gemini-(?:1\.0-)?pro", 30_720),
    (r"gemma-?3n|gemma-?3[-:]1b", 32_768),
    (r"gemma-?3", 131_072),
    (r"gemma-?2?", 8_192),
    # Meta
    (r"llama-?4-scout", 10_485_760),
    (r"llama-?4", 1_048_576),
    (r"llama-?3\.[123]", 131_072),
    (r"llama-?3", 8_192),
    (r"llama-?2", 4_096),
    # Mistral
    (r"mistral-large-2402|mistral-small-2(?:402|409|501)|mistral-7b|mixtral-8x7b|codestral", 32_768),
    (r"mixtral-8x22b", 65_536),
    (r"mistral-(?:large|medium|small|nemo)|ministral|pixtral|devstral", 131_072),
    (r"magistral", 40_960),
    (r"mistral", 32_768),
    # Qwen, without the scaling that a server must switch on
    (r"qwen-?3-(?:coder|next|max)|qwen-?3.*-2507", 262_144),
    (r"qwen|qwq", 32_768),
    # Others
    (r"deepseek", 65_536),
    (r"command-(?:r|a)", 128_000),
    (r"grok-4", 256_000),
    (r"grok", 131_072),
    (r"kimi-k2|glm-4\.[5-9]", 131_072),
    (r"nova-micro", 128_000),
    (r"nova-(?:lite|pro)", 300_000),
    (r"phi-3.*-128k|phi-3\.5", 131_072),
    (r"phi-3", 4_096),
    (r"phi-4", 16_384),
    (r"smollm2|smollm3", 8_192),
)

_COMPILED = tuple((re.compile(rf"(?:{names})(?:$|[^a-z].*)"), window) for names, window in _WINDOWS)


def get_context_window(model: str) -> int | None:
    """Tokens that a model reads and writes together, by its published limit; None if unknown.

    Where a family's members differ and the name does not tell them apart, the smallest. A local
    server may be set lower: Ollama loads 4,096 unless told otherwise.
    """
    name = model.strip().lower()
    # Prefixes of providers, of fine-tuned models, of Hugging Face organisations and of Bedrock regions come off.
    parts = re.split(r"/|^(?:azure(?:_openai)?|openai|anthropic|ft|ollama|google_\w+|mistralai):", name)
    for part in reversed(parts):
        bare = re.sub(r"^(?:(?:us|eu|apac|global)\.)?(?:(?:anthropic|meta|mistral|amazon|cohere)\.|meta-)", "", part)
        for pattern, window in _COMPILED:
            if pattern.fullmatch(bare):
                return window
    return None
