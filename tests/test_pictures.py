"""Images: sizes read from their bytes, tokens by each provider's published formula."""

from __future__ import annotations

import base64
import struct

import pytest

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.messages import Media, Message, Role
from langmem_plugin.tokens import TokenCounter
from langmem_plugin.tokens.pictures import Area, Crops, Patches, Tiles, picture_size, pictures_for


def png(width, height):
    return base64.b64encode(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08" * 9
    ).decode()


def jpeg(width, height, preview=0):
    head = b"\xff\xd8\xff\xe1" + struct.pack(">H", preview + 2) + b"x" * preview
    return base64.b64encode(head + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\0" * 20).decode()


def gif(width, height):
    return base64.b64encode(b"GIF89a" + struct.pack("<HH", width, height) + b"\0" * 6).decode()


def webp(width, height):
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\0" * 4
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return base64.b64encode(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body).decode()


@pytest.mark.parametrize("make", [png, jpeg, gif, webp])
def test_sizes_are_read_from_the_bytes(make):
    """Each format gives width and height; a preview before a JPEG's header changes nothing."""
    assert picture_size(make(1_024, 768)) == (1_024, 768)
    if make is jpeg:
        assert picture_size(jpeg(640, 480, preview=60_000)) == (640, 480)


@pytest.mark.parametrize(
    "data", ["", "AAAA", "not base64!", png(0, 5), png(3, 3)[:20], jpeg(4, 4)[:8], "/9j/" + "A" * 40]
)
def test_what_is_no_picture_has_no_size(data):
    """Damaged, cut off, something else: None, and the largest is counted."""
    assert picture_size(data) is None


def test_openais_tiles():
    """The guide's examples: 1024 x 1024 is 765, 2048 x 4096 is 1105, low detail is 85."""
    tiles = Tiles()
    assert tiles(1_024, 1_024, "high") == 765
    assert tiles(2_048, 4_096, None) == 1_105
    assert tiles(4_096, 8_192, "low") == 85
    assert tiles(1, 1, "auto") == 255
    assert max(tiles(wide, high, None) for wide in range(1, 9_000, 397) for high in range(1, 9_000, 397)) <= 1_445


def test_the_other_formulas():
    """OpenAI's patches, Anthropic's area and Google's crops, with the figures that they publish."""
    assert Patches(1.0)(1_024, 1_024, None) == 1_024
    assert Patches(1.0)(1_800, 2_400, None) <= 1_536
    assert Area()(200, 200, None) == 54
    assert Area()(1_000, 1_000, None) == 1_334
    assert Area()(1_092, 1_092, None) == 1_590
    assert Area()(8_000, 8_000, None) == 1_600
    assert Crops()(384, 384, None) == 258
    assert Crops()(960, 540, None) == 6 * 258
    assert Crops()(768, 768, None) == 4 * 258


@pytest.mark.parametrize(
    ("name", "tokens"),
    [("gpt-4o", 765), ("azure/gpt-4.1", 765), ("gpt-4o-mini", 25_501), ("gpt-5", 630), ("o3", 675),
     ("claude-sonnet-4-5", 1_399),
     ("google/gemini-2.5-pro", 1_032)],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::langmem_plugin.tokens.TokenizerWarning")
def test_a_models_name_chooses_the_formula(name, tokens):
    """A picture of 1024 x 1024 costs what its provider says; one without a size costs the most."""
    counter = TokenCounter.for_model(name)
    bare = counter.count_message(Message(role=Role.USER, blocks=()))

    def cost(**media):
        return counter.count_message(Message(role=Role.USER, blocks=(Media(kind="image", **media),))) - bare

    assert cost(data=png(1_024, 1_024)) == tokens
    assert cost(url="https://example.org/a.png") == counter.overheads.image


def test_formulas_can_be_replaced():
    """By another model's name, by a function, by one figure for all; what is unknown is refused."""
    counter = TokenCounter.for_model("gpt-4o")
    seen = Message(role=Role.USER, blocks=(Media(kind="image", data=png(100, 50)),))
    assert counter.with_pictures("claude-haiku").count_message(seen) == counter.overheads.message + 7
    assert (
        counter.with_pictures(lambda wide, high, detail: wide + high).count_message(seen)
        == counter.overheads.message + 150
    )
    assert counter.with_overheads(image=1_105).count_message(seen) == counter.overheads.message + 1_105
    assert pictures_for("llama3.2") is None
    with pytest.raises(InvalidSetting, match="pictures"):
        counter.with_pictures("llama3.2")
    with pytest.raises(InvalidSetting):
        counter.with_overheads(pictures=3)
