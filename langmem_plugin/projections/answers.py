"""Telling a summary from what models answer instead of one."""

# ruff: noqa: RUF001 - letters of many scripts
from __future__ import annotations

import re
from collections.abc import Callable

from langmem_plugin.context.sentences import printable

_THINKING_ENDS = ("</think>", "</thinking>", "</reasoning>")
_FENCE = re.compile(r"```[a-zA-Z]*\n(.*?)\n?```\s*", re.DOTALL)
_TAG = re.compile(r"</?(?:notes|summary)>", re.IGNORECASE)
_PREAMBLE = re.compile(
    r"(?:(?:sure|certainly|of course|okay)[,.!:]?\s*)?(?:here (?:is|are) )?(?:the |an? )?"
    r"(?:new |updated |rewritten |shorter |revised )?(?:running )?(?:notes|summary)(?: of the conversation)?\s*:\s*",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:i(?:['’]m| am) (?:very |so |really )?sorry|sorry[,.! ]|(?:my )?apologies|i apologi[sz]e"
    r"|as an ai\b|i(?:['’]m| am) (?:just |only )?an? (?:ai|language model|artificial)"
    r"|i(?:['’]m| am) (?:unable|not able)\b"
    r"|i (?:can ?not|can['’]t|could not|couldn['’]t|won['’]t|will not) "
    r"(?:help|assist|provide|summar|comply|do|fulfil|access|see|read|create|write)"
    r"|lo siento|es tut mir leid|entschuldigung|tut mir leid|je suis désolé|désolé|mi dispiace|desculpe"
    r"|抱歉|对不起|對不起|申し訳|すみません|죄송|извините|к сожалению)",
    re.IGNORECASE,
)  # fmt: skip
_ERROR = re.compile(
    r"(?:\w*error\b\s*[:(\d]|\w+exception: |error code|traceback \(most recent|internal server error"
    r"|bad gateway|service unavailable|gateway time-?out|too many requests|rate limit (?:exceeded|reached)"
    r"|http(?:/\d\S*)? ?[45]\d\d\b|[45]\d\d (?:error|bad|forbidden|gateway|internal|not found|service|too many|unauth)"
    r"|<!doctype|<html|\{\s*\"?'?(?:error|detail|message)\b)",
    re.IGNORECASE,
)  # fmt: skip
_WORD = re.compile(r"\w+")
_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟", ")", "]", '"', "”", "»", "」", ":", ";")


def tidy(answer: str) -> str:
    """The notes within an answer: without thinking, fences, our own tags and an introduction."""
    text = printable(answer)
    for end in _THINKING_ENDS:
        text = text[at + len(end) :] if (at := text.rfind(end)) >= 0 else text
    text = text.strip()
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1].strip()
    text = _TAG.sub("", text).strip()
    if introduced := _PREAMBLE.match(text):
        text = text[introduced.end() :].strip()
    return text


def fault_of(text: str, *, tokens: int, source_tokens: int, cap: int) -> str:
    """Why a tidied answer cannot be a summary; "" if nothing speaks against it.

    Args:
        text: The answer, tidied.
        tokens: Of the text.
        source_tokens: Of all that it should summarise.
        cap: Tokens that the model was allowed to write.
    """
    if not text or not _WORD.search(text):
        return "its answer is empty"
    if _REFUSAL.match(text):
        return "its answer is an apology or a refusal"
    if _ERROR.match(text):
        return "its answer is an error text"
    if "<think>" in text[:200].lower() or (tokens >= cap and not text.rstrip("*_`").endswith(_ENDS)):
        return "its answer was cut off"
    if tokens > source_tokens:
        return f"its answer is longer than what it summarises ({tokens} tokens for {source_tokens})"
    words = [word.casefold() for word in _WORD.findall(text)]
    if len(words) >= 60 and len(set(words)) < 0.15 * len(words):
        return "its answer repeats itself"
    return ""


def cut_at_sentence(text: str, *, count: Callable[[str], int], max_tokens: int) -> str:
    """The longest beginning of whole sentences or lines that has at most `max_tokens`.

    If not even the first sentence fits, whole words of it; "" if no word does.
    """
    if count(text) <= max_tokens:
        return text
    for pattern in (r"(?<=[.!?…])\s+|(?<=[。！？])|\n+", r"\s+", r""):
        ends = [match.start() for match in re.finditer(pattern, text)]
        low, high = 0, len(ends)
        while low < high:
            middle = (low + high + 1) // 2
            if count(text[: ends[middle - 1]].rstrip()) <= max_tokens:
                low = middle
            else:
                high = middle - 1
        if low and (kept := text[: ends[low - 1]].rstrip()):
            return kept
    return ""
