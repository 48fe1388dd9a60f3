"""Looking for many byte strings in files at once: the proof that what was forgotten is gone (guarantee G11)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

SHORTEST = 8
"""Bytes; a shorter string stands in files by chance."""
_PIECE = 48
"""Bytes of a piece of a longer string: a database breaks long values over pages."""
_PIECES = 64
"""At most so many pieces of one string, evenly spread."""
_VARIED = 4
"""Different bytes; runs of a few stand in files by chance too."""
_BLOCK = 1 << 20
_SLOTS = 1 << 20
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def forms_of(text: str) -> set[bytes]:
    """The pieces of a text in each form that a file may hold it in: plain, and as JSON."""
    found: set[bytes] = set()
    for form in (text, json.dumps(text, ensure_ascii=False)[1:-1], json.dumps(text)[1:-1]):
        found.update(pieces(form.encode("utf-8", "surrogatepass")))
    return found


def pieces(data: bytes) -> set[bytes]:
    """The whole of a short string, evenly spread pieces of a long one; none of one that is too short."""
    if len(data) < SHORTEST:
        return set()
    if len(data) <= _PIECE:
        return {data}
    count = min(_PIECES, -(-len(data) // _PIECE))
    starts = np.linspace(0, len(data) - _PIECE, num=count).astype(int).tolist()
    return {data[start : start + _PIECE] for start in starts}


class Needles:
    """Byte strings to look for, each at least `SHORTEST` bytes long."""

    def __init__(self, strings: Iterable[bytes]) -> None:
        self.strings = frozenset(one for one in strings if len(one) >= SHORTEST and len(set(one)) >= _VARIED)
        self._longest = max(map(len, self.strings), default=0)
        self._by_start: dict[int, list[bytes]] = {}
        for one in self.strings:
            self._by_start.setdefault(int.from_bytes(one[:8], "little"), []).append(one)
        self._slots = np.zeros(_SLOTS, bool)
        if self._by_start:
            self._slots[_slot(np.array(list(self._by_start), dtype=np.uint64))] = True

    def found_in(self, data: bytes) -> set[bytes]:
        """Those that stand in the data."""
        found: set[bytes] = set()
        for offset in range(8 if self.strings else 0):
            count = (len(data) - offset) // 8
            if count <= 0:
                break
            windows = np.frombuffer(data, dtype="<u8", count=count, offset=offset)
            for place in np.flatnonzero(self._slots[_slot(windows)]).tolist():
                for one in self._by_start.get(int(windows[place]), ()):
                    if data.startswith(one, offset + 8 * place):
                        found.add(one)
        return found

    def found_in_file(self, path: Path) -> tuple[set[bytes], int]:
        """Those that stand in the file, and how many bytes were read; a file that is gone has none."""
        found: set[bytes] = set()
        size, tail = 0, b""
        try:
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    size += len(block)
                    data = tail + block
                    found |= self.found_in(data)
                    tail = data[-(self._longest - 1) :] if self._longest > 1 else b""
        except FileNotFoundError:
            return found, size
        return found, size


def _slot(windows: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return ((windows * _SPREAD) >> np.uint64(44)).astype(np.int64)
