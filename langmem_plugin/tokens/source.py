"""Where a text's token count comes from, and the bound that stands in for a missing vocabulary."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from langmem_plugin.tokens.overheads import Overheads


class TokenizerWarning(UserWarning):
    """Tokens are counted by an upper bound, because the model's own vocabulary is not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A way to count the tokens of one text."""

    name: str
    exact: bool
    """True if a tokenizer counts; False for the upper bound."""
    count: Callable[[str], int]
    overheads: Overheads = field(default_factory=Overheads)


def whole(text: str) -> str:
    """The text with each lone surrogate as U+FFFD, which is what reaches a tokenizer as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def count_bytes(text: str) -> int:
    """One token for each byte of UTF-8.

    A byte-level vocabulary (OpenAI, Llama 3, Qwen, Mistral's Tekken, DeepSeek) begins with
    the 256 single bytes and every merge makes the count smaller, so no text has more tokens
    than bytes. SentencePiece with byte fallback (Llama 2, Gemma) adds at most a leading
    space, which `bound` allows for. Nothing that looks at the length alone can be tighter:
    `a1b2c3` has a token for each byte in cl100k_base and o200k_base. English comes out
    about 4.5 times too high; that is the price of a promise kept without the vocabulary.
    """
    return len(text.encode("utf-8", "surrogatepass"))


def bound(name: str = "bytes", *, overheads: Overheads | None = None) -> Source:
    """The source that never under-counts and needs no vocabulary."""

    def count(text: str) -> int:
        return count_bytes(text) + 1 if text else 0

    return Source(name=name, exact=False, count=count, overheads=overheads or Overheads.cautious())


def bound_for(what: str, why: str, *, overheads: Overheads | None = None) -> Source:
    """The bound, with a warning that says for what it stands in and what would be exact."""
    warnings.warn(
        f"tokens for {what} are counted as UTF-8 bytes, an upper bound (about 4.5 times too high for English): "
        f"{why}; pass a tokenizer, its tokenizer.json, or a function that counts",
        TokenizerWarning,
        stacklevel=2,
    )
    return bound(f"bytes ({what})", overheads=overheads)
