"""What a picture of a known size costs, by each provider's published formula.

OpenAI: guide "Images and vision", section on calculating costs (tiles of 512 pixels; patches
of 32 for the small models). Anthropic: guide "Vision", width x height / 750. Google: Gemini API,
"Image understanding", 258 tokens a tile. All as published by November 2026.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Pictures: TypeAlias = Callable[[int, int, str | None], int]
"""From width and height in pixels and the detail ("low", "high", "auto" or None) to tokens."""

_HEAD = 256 * 1024
"""So many characters of base64 are looked at for a size; a JPEG's may stand behind a large preview."""


@dataclass(frozen=True, slots=True)
class Tiles:
    """OpenAI's large models: a base, and so much for each tile of 512 pixels."""

    base: int = 85
    tile: int = 170

    def __call__(self, width: int, height: int, detail: str | None) -> int:
        """Scaled into 2048 x 2048, then to a shortest side of 768, then cut into tiles; low detail is the base."""
        if detail == "low":
            return self.base
        shrink = min(1.0, 2048 / max(width, height))
        wide, high = width * shrink, height * shrink
        shrink = min(1.0, 768 / min(wide, high))
        tiles = _parts(wide * shrink, 512) * _parts(high * shrink, 512)
        return self.base + self.tile * tiles


@dataclass(frozen=True, slots=True)
class Patches:
    """OpenAI's small models: patches of 32 pixels, at most 1,536, times a factor."""

    factor: float = 1.62
    most: int = 1_536

    def __call__(self, width: int, height: int, detail: str | None) -> int:
        """The same for any detail; a picture of more patches is scaled down to the most."""
        return math.ceil(min(self.most, _parts(width, 32) * _parts(height, 32)) * self.factor)


@dataclass(frozen=True, slots=True)
class Area:
    """Anthropic's models: pixels / 750, after scaling to at most 1,568 pixels a side and some 1,600 tokens."""

    pixels: int = 750
    side: int = 1_568
    most: int = 1_600

    def __call__(self, width: int, height: int, detail: str | None) -> int:
        """The same for any detail."""
        shrink = min(1.0, self.side / max(width, height))
        return max(1, min(self.most, math.ceil(width * shrink * height * shrink / self.pixels)))


@dataclass(frozen=True, slots=True)
class Crops:
    """Google's models: 258 for a small picture, else for each crop."""

    tile: int = 258
    small: int = 384

    def __call__(self, width: int, height: int, detail: str | None) -> int:
        """Crops have a side of two thirds of the shorter one, of 256 to 768 pixels."""
        if max(width, height) <= self.small:
            return self.tile
        side = min(768, max(256, math.floor(min(width, height) / 1.5)))
        return self.tile * _parts(width, side) * _parts(height, side)


_FORMULAS: tuple[tuple[str, Pictures], ...] = (
    (r"gpt-4o-mini", Tiles(2_833, 5_667)),
    (r"gpt-4\.1-nano|gpt-5-nano", Patches(2.46)),
    (r"gpt-4\.1-mini|gpt-5-mini", Patches(1.62)),
    (r"o4-mini", Patches(1.72)),
    (r"gpt-4|chatgpt-4o", Tiles(85, 170)),
    (r"gpt-5", Tiles(70, 140)),
    (r"o[13](?:-|$)", Tiles(75, 150)),
    (r"claude", Area()),
    (r"gemini", Crops()),
)
_COMPILED = tuple((re.compile(rf"(?:^|[/.:])(?:{names})"), formula) for names, formula in _FORMULAS)


def pictures_for(model: str) -> Pictures | None:
    """The formula of a model's provider, by the model's name; None if it is not known."""
    name = model.strip().lower()
    return next((formula for pattern, formula in _COMPILED if pattern.search(name)), None)


def picture_size(data: str) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, JPEG or WebP given as base64; None where they cannot be read."""
    head = data[: _HEAD - _HEAD % 4]
    try:
        raw = base64.b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return None
    try:
        size = _size_of(raw)
    except (struct.error, IndexError):
        return None
    return size if size is not None and min(size) > 0 else None


def _size_of(raw: bytes) -> tuple[int, int] | None:
    if raw[:8] == b"\x89PNG\r\n\x1a\n":
        wide, high = struct.unpack(">II", raw[16:24])
        return wide, high
    if raw[:6] in (b"GIF87a", b"GIF89a"):
        wide, high = struct.unpack("<HH", raw[6:10])
        return wide, high
    if raw[:2] == b"\xff\xd8":
        return _jpeg_size(raw)
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return _webp_size(raw)
    return None


def _jpeg_size(raw: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(raw):
        if raw[at] != 0xFF:
            return None
        mark = raw[at + 1]
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):  # a frame's header
            high, wide = struct.unpack(">HH", raw[at + 5 : at + 9])
            return wide, high
        alone = mark in (0x01, 0xFF) or 0xD0 <= mark <= 0xD7
        at += (1 if mark == 0xFF else 2) if alone else 2 + int(struct.unpack(">H", raw[at + 2 : at + 4])[0])
    return None


def _webp_size(raw: bytes) -> tuple[int, int] | None:
    match raw[12:16]:
        case b"VP8 ":
            wide, high = struct.unpack("<HH", raw[26:30])
            return wide & 0x3FFF, high & 0x3FFF
        case b"VP8L":
            (bits,) = struct.unpack("<I", raw[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            return int.from_bytes(raw[24:27], "little") + 1, int.from_bytes(raw[27:30], "little") + 1
    return None


def _parts(length: float, side: int) -> int:
    return max(1, math.ceil(length / side - 1e-9))
