"""Text to search terms: what the keyword index stores and what a query asks it for.

Words are lower-cased, stemmed (Snowball) and stripped of function words. Numbers,
dates, versions and identifiers stay findable both whole and by their parts. Scripts
that put no spaces between words (Chinese, Japanese, Thai ...) and Korean are cut
into pairs of characters.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Any, Final, TypeAlias

import snowballstemmer

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.recall.stopwords import STOP_WORDS, guess_language, script_language

TermCounts: TypeAlias = dict[str, int]
"""Term -> how often it stands in one message."""

MAX_TERM_CHARS: Final = 64
"""A longer run of letters and digits is searchable by its beginning only."""

LANGUAGES: Final = frozenset(snowballstemmer.algorithms()) - {"porter"}
"""What `language` may be, besides "auto"."""

_DENSE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_MARKS = r"\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0dff"
_LETTER = rf"(?:(?![{_DENSE}])[\w{_MARKS}])"
_CHUNK: Final = re.compile(rf"[{_DENSE}]+|{_LETTER}+(?:[.\-:/@]{_LETTER}+)*")
_ASCII_CHUNK: Final = re.compile(r"\w+(?:[.\-:/@]\w+)*", re.ASCII)
_JOINT: Final = re.compile(r"[.\-:/@]")
_CAMEL: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^A-Za-z0-9_]+")
_HAS_CAMEL: Final = re.compile(r"[a-z][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]_|_[A-Za-z]")
_DENSE_FIRST: Final = re.compile(rf"[{_DENSE}]")
_LOCAL: Final = threading.local()


def analyse(text: str, *, language: str = "auto") -> list[str]:
    """The terms of a text, in order, repeated as often as they stand in it.

    Never fails on any text; terms are at most `MAX_TERM_CHARS` characters of valid
    UTF-8 without NUL. Time is linear in the text.

    Args:
        text: Any text.
        language: A Snowball language name, or "auto": by script, and for Latin letters by
            the function words in the text (English when there are none).

    Raises:
        InvalidSetting: The language is neither "auto" nor one of `LANGUAGES`.
    """
    words = _words(text)
    if language == "auto":
        latin, _ = guess_language(words)
        return _terms(words, latin)
    return _terms(words, check_language(language))


def analyse_query(text: str, *, language: str = "auto") -> list[str]:
    """The distinct terms to look a question up by.

    As `analyse`; but where the language of a short question cannot be told, the stems of
    every language that it may be in, so that it meets messages analysed in any of them.
    """
    words = _words(text)
    if language != "auto":
        return list(dict.fromkeys(_terms(words, check_language(language))))
    latin, sure = guess_language(words)
    terms = dict.fromkeys(_terms(words, latin))
    if not sure and not all(word.isascii() for word in words):
        for other in STOP_WORDS:
            if other not in (latin, "russian"):
                terms.update(dict.fromkeys(_terms(words, other)))
    return list(terms)


def count_terms(text: str, *, language: str = "auto") -> TermCounts:
    """How often each term stands in a text; what the keyword index keeps of a message."""
    return dict(Counter(analyse(text, language=language)))


def check_language(language: str) -> str:
    """The language itself if it can be stemmed.

    Raises:
        InvalidSetting: It is not one of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise InvalidSetting("language", language, f'use "auto" or one of {", ".join(sorted(LANGUAGES))}')
    return language


def _words(text: str) -> list[str]:
    """Lower-case words, parts of compounds beside the whole; character pairs for dense scripts."""
    words: list[str] = []
    if text.isascii():
        pattern = _ASCII_CHUNK
    else:
        text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
        pattern = _CHUNK
    for chunk in pattern.findall(text):
        if chunk[0] > "\u0e00" and _DENSE_FIRST.match(chunk):
            words.extend(_pairs(chunk))
        elif chunk.isalpha() and (chunk[1:].islower() or len(chunk) == 1 or chunk.isupper()):
            words.append(chunk.lower()[:MAX_TERM_CHARS])
        else:
            _split_compound(chunk, words)
    return words


def _pairs(run: str) -> list[str]:
    return [run] if len(run) == 1 else [run[i : i + 2] for i in range(len(run) - 1)]


def _split_compound(chunk: str, words: list[str]) -> None:
    """Add a date, version, identifier or joined word: whole where that names something, and its parts."""
    parts = _JOINT.split(chunk)
    if len(parts) > 1 and len(chunk) <= MAX_TERM_CHARS and ("@" in chunk or any(c.isdigit() for c in chunk)):
        words.append(chunk.lower())
    for part in parts:
        bare = part.strip("_")
        if not bare:
            continue
        words.append(bare.lower()[:MAX_TERM_CHARS])
        if len(bare) <= MAX_TERM_CHARS * 4 and _HAS_CAMEL.search(bare):
            pieces = [piece for piece in _CAMEL.findall(bare) if len(piece) > 1]
            if len(pieces) > 1:
                words.extend(piece.lower() for piece in pieces)


def _terms(words: list[str], latin: str) -> list[str]:
    stop = STOP_WORDS.get(latin, frozenset())
    terms: list[str] = []
    for word in words:
        if word in stop:
            continue
        if word.isascii():
            terms.append(_stem(latin, word) if word.isalpha() else word)
            continue
        language = script_language(word) or latin
        if language != latin and word in STOP_WORDS.get(language, frozenset()):
            continue
        terms.append(_stem(language, word))
    return terms


@lru_cache(maxsize=65_536)
def _stem(language: str, word: str) -> str:
    """The stem without accents; a word without a stem stays itself."""
    stem: str = _stemmer(language).stemWord(word) or word
    if not stem.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFD", stem) if not unicodedata.combining(c))
        stem = unicodedata.normalize("NFC", plain) if plain and stem[0] < "\u0370" else stem
    return stem[:MAX_TERM_CHARS]


def _stemmer(language: str) -> Any:
    """This thread's stemmer: Snowball's objects keep the word they work on, so threads must not share one."""
    stemmers: dict[str, Any] | None = getattr(_LOCAL, "stemmers", None)
    if stemmers is None:
        stemmers = _LOCAL.stemmers = {}
    if language not in stemmers:
        stemmers[language] = snowballstemmer.stemmer(language)
    return stemmers[language]
