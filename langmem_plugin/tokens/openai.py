"""OpenAI's vocabularies: which model has which, where the file is, counting with it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import os
import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import tiktoken
from tiktoken.load import read_file

from langmem_plugin.tokens.overheads import Overheads
from langmem_plugin.tokens.source import Source, bound_for, whole

DOWNLOAD_S = 15.0
"""Seconds that the download of a vocabulary may take before the bound stands in."""

_CUT_CHARS = 65_536
_CUT_SLACK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vocabulary:
    name: str
    sha256: str
    pattern: str

    @property
    def url(self) -> str:
        return f"https://openaipublic.blob.core.windows.net/encodings/{self.name}.tiktoken"

    @property
    def file(self) -> str:
        """The name tiktoken gives the file in a cache folder."""
        return hashlib.sha1(self.url.encode(), usedforsecurity=False).hexdigest()


_CASED = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

_O200K = _Vocabulary(
    name="o200k_base",
    sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    pattern="|".join(
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?{_CASED}*{_LOWER}+{_SUFFIX}",
            rf"[^\r\n\p{{L}}\p{{N}}]?{_CASED}+{_LOWER}*{_SUFFIX}",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        )
    ),
)
_CL100K = _Vocabulary(
    name="cl100k_base",
    sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    pattern=(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
        r"\s*[\r\n]|\s+(?!\S)|\s"
    ),
)

_MODELS: tuple[tuple[re.Pattern[str], _Vocabulary, Overheads], ...] = tuple(
    (re.compile(rf"(?:{names})(?:$|[-_.@].*)"), vocabulary, overheads)
    for names, vocabulary, overheads in (
        (r"gpt-3\.5|gpt-35", _CL100K, Overheads(message=5)),  # one more in gpt-3.5-turbo-0301
        # The system text of the harmony format (identity, dates, channels) is about 90 tokens.
        (r"gpt-oss", _O200K, Overheads(message=7, reply=128)),
        # The vision guide's tables: tiles at mini's price; patches of 32 pixels, at most 1,536, times a factor.
        (r"gpt-4o-mini", _O200K, Overheads(image_low=2_833, image=48_169)),
        (r"gpt-4\.1-nano", _O200K, Overheads(image_low=3_779, image=3_779)),
        (r"gpt-4\.1-mini|gpt-5-mini|gpt-5-nano|o4-mini", _O200K, Overheads(image_low=3_779, image=3_779)),
        (r"gpt-4o|chatgpt-4o|gpt-4\.[15]|gpt-(?:[5-9]|[1-9]\d)(?:\.\d+)?|o[1-9]|codex|chatgpt", _O200K, Overheads()),
        (r"gpt-4", _CL100K, Overheads()),
        (r"text-embedding-(?:ada|3)|cl100k_base", _CL100K, Overheads()),
        (r"o200k_base", _O200K, Overheads()),
    )
)


def openai_source(model: str) -> Source | None:
    """A source for a model of OpenAI's by its name; None for a name that is not known.

    Provider prefixes ("openai/", "azure:"), fine-tuned names ("ft:gpt-4o-mini-...:org::id")
    and dated snapshots are understood. Without the vocabulary it is the bound, with a warning.
    """
    for part in re.split(r"[/:]", model.strip().lower()):
        for names, vocabulary, overheads in _MODELS:
            if names.fullmatch(part):
                count = _counter(vocabulary)
                if count is None:
                    why = f"the vocabulary {vocabulary.name} is in no cache folder and could not be downloaded"
                    return bound_for(model, why, overheads=overheads)
                return Source(name=f"tiktoken {vocabulary.name}", exact=True, count=count, overheads=overheads)
    return None


@lru_cache(maxsize=4)
def _counter(vocabulary: _Vocabulary) -> Callable[[str], int] | None:
    """Counts with the vocabulary, loaded once a process; None where it cannot be had."""
    data = _read(vocabulary)
    if data is None:
        return None
    ranks = {}
    for line in data.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)
    # Without special tokens "<|endoftext|>" is ordinary text, as it is to the API.
    encoding = tiktoken.Encoding(vocabulary.name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={})

    def count(text: str) -> int:
        text = whole(text)
        if len(text) <= _CUT_CHARS:
            return len(encoding.encode_ordinary(text))
        return sum(len(encoding.encode_ordinary(part)) + slack for part, slack in _parts(text))

    return count


# After a letter or digit and before a space or one of these marks both patterns always end a piece.
_SAFE_CUT = re.compile(r"(?<=[A-Za-z0-9\u4e00-\u9fff])(?=[ \u3001\u3002\uff0c])|(?<=\n)(?=[A-Za-z0-9])")


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """The text in parts, each with tokens to add: linear time, and no deep recursion in the pattern.

    A megabyte of blanks overflows the stack of tiktoken's matcher. Cuts between pieces leave
    the count exact; a run without such a place is cut anyway and `_CUT_SLACK` added, since a
    merge over the cut can change its neighbourhood.
    """
    start = 0
    while len(text) - start > _CUT_CHARS:
        # Not within a run of blanks: the pattern looks ahead there.
        found = _SAFE_CUT.search(text, start + _CUT_CHARS // 2, start + _CUT_CHARS)
        end = found.start() if found else start + _CUT_CHARS
        yield text[start:end], 0 if found else _CUT_SLACK
        start = end
    yield text[start:], 0


def _read(vocabulary: _Vocabulary) -> bytes | None:
    """The vocabulary's file from the first folder that has it, else from the network.

    tiktoken would delete a damaged file and wait for the network without limit; here each file
    is checked by its SHA-256, none is deleted and the download has a deadline.
    """
    folders = list(_folders())
    for folder in folders:
        with contextlib.suppress(OSError):
            data = (folder / vocabulary.file).read_bytes()
            if _is(vocabulary, data):
                return data
    downloaded = _download(vocabulary)
    if downloaded is not None:
        _keep(folders[0] / vocabulary.file, downloaded)
    return downloaded


def _folders() -> Iterator[Path]:
    """Cache folders, the one to write to first; the same as tiktoken's own."""
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if chosen:
        yield Path(chosen)
    else:
        yield Path(tempfile.gettempdir()) / "data-gym-cache"
    # llama-index-core carries both files. Its namespace is looked up and nothing of it imported.
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec("llama_index")
        for place in (spec.submodule_search_locations if spec else None) or ():
            yield Path(place) / "core" / "_static" / "tiktoken_cache"


def _is(vocabulary: _Vocabulary, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == vocabulary.sha256


def _download(vocabulary: _Vocabulary) -> bytes | None:
    got: list[bytes] = []

    def fetch() -> None:
        # A daemon thread: neither a name server nor a proxy that never answers may hold the caller.
        with contextlib.suppress(Exception):
            got.append(read_file(vocabulary.url))

    thread = threading.Thread(target=fetch, name="langmem-plugin-vocabulary", daemon=True)
    thread.start()
    thread.join(DOWNLOAD_S)
    data = got[0] if got else None
    return data if data is not None and _is(vocabulary, data) else None


def _keep(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all; a folder that cannot be written is no error."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
