"""The pictures of docs/images, from a conversation made here: python scripts/screenshots.py.

Needs Chromium (`apt-get install chromium`), which is run without a network, and Pillow. Look at what it
writes before you commit it.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

from PIL import Image

from langmem_plugin import Budget, Memory, MemoryConfig, Session
from langmem_plugin.cli.serving import Site
from langmem_plugin.inspection.opening import opened
from langmem_plugin.messages import assistant

ROOT = Path(__file__).resolve().parents[1]
SAID = {
    3: "Never suggest flights.",
    8: "I live in Paris.",
    20: "I am allergic to peanuts.",
    30: "I live in Lyon now.",
    41: "Always answer in German.",
}
"""What binds, and at which turn it is said."""


def talk(memory: Memory) -> Session:
    """Sixty turns with constraints that come, change and end."""
    session = memory.session("trip", owner="ann")
    for number in range(60):
        if number in SAID:
            session.add(SAID[number], assistant("Noted."))
        else:
            session.add(
                f"Tell me about museum number {number} in the old town and what it costs to visit on a Sunday.",
                assistant(
                    f"Museum {number} has {number + 2} rooms and costs {3 + number % 9} euros; "
                    f"it opens at {8 + number % 5} o'clock."
                ),
            )
        memory.wait(30)
        if number == 50:
            session.revoke(session.constraints()[0].id)
    return session


def shoot(chromium: str, address: str, picture: Path, *, size: tuple[int, int]) -> None:
    """Have Chromium draw a page into a picture of few colours."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(  # noqa: S603
            [
                *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-sync"),
                *("--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"),
                *(f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", address),
            ],
            check=True,
            capture_output=True,
        )
    Image.open(picture).convert("RGB").quantize(64).save(picture, optimize=True)


def page(body: str, *, dark: bool) -> str:
    """A fragment as it stands in a notebook."""
    ground, theme = ("#0d0f12", "dark") if dark else ("#eceff4", "light")
    inner = f'<div style="max-width:1100px;margin:auto">{body}</div>'
    return f'<!doctype html><html theme="{theme}"><meta charset="utf-8"><body style="background:{ground}">{inner}'


def main() -> None:
    """Make the conversation and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    asked = parser.parse_args()
    ticks = iter(range(100_000))
    config = MemoryConfig(budget=Budget(max_tokens=1_400, completion=300))
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/trip.db"
        start = datetime(2026, 5, 4, 9, tzinfo=UTC)
        with Memory.open(url, config=config, clock=lambda: start + timedelta(minutes=10 * next(ticks))) as memory:
            session = talk(memory)
            asks = "What did museum number 14 cost, and when does it open?"
            session.context("Tell me about museum number 60.", system="You plan trips with care.")
            shown = {
                "request": session.context(asks, system="You plan trips with care.")._repr_html_(),
                "session": session._repr_html_(),
            }
            for name, body in shown.items():
                for dark in (False, True):
                    place = Path(folder) / f"{name}.html"
                    place.write_text(page(body, dark=dark), encoding="utf-8")
                    picture = asked.to / f"{name}{'-dark' if dark else ''}.png"
                    shoot(asked.chromium, place.as_uri(), picture, size=(1180, 1500 if name == "request" else 1180))
        with opened(url, budget=config.budget) as engine:
            site = Site(engine, port=0, write=True)
            Thread(target=site.serve_forever, daemon=True).start()
            address = f"{site.address}session?owner=ann&id=trip"
            shoot(asked.chromium, address, asked.to / "page.png", size=(1180, 700))
            site.shutdown()


if __name__ == "__main__":
    main()
