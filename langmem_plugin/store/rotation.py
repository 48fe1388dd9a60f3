"""New keys for old rows while others read and write, and no keys for nobody's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from langmem_plugin.errors import InvalidSetting
from langmem_plugin.store.sealing import Seals

_STEP = 100
"""Rows that one transaction seals anew: others wait for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated:
    """What a change of an owner's key did."""

    key_id: str
    """Of the key that everything of the owner is sealed with now."""
    rows: int
    """Rows that were sealed anew."""
    destroyed: int
    """Earlier keys that are gone."""


def rotate(store: Seals, owner: str, *, progress: Callable[[int], object] | None = None, grace_s: float) -> Rotated:
    """See `Memory.rotate_key`."""
    ring = store.sealing.ring
    if ring is None:
        raise InvalidSetting("encryption", None, "open the memory with encryption=, a key ring")
    # Several keys are what a rotation leaves that ended early: it is gone on with.
    key_id, _ = ring.current(owner) if len(ring.ids(owner)) > 1 else ring.rotate(owner)
    rows = _reseal(store, owner, 0, progress)
    time.sleep(grace_s)
    store.settle()
    rows = _reseal(store, owner, rows, progress)  # what writers put in that had begun with an earlier key
    store.settle(clean=True)
    destroyed = ring.destroy(owner, keep=key_id) if ring.current(owner)[0] == key_id else 0
    return Rotated(key_id=key_id, rows=rows, destroyed=destroyed)


def destroy(store: Seals, owner: str) -> int:
    """Destroy the keys of an owner of whom everything was deleted; gives how many.

    If somebody wrote for the owner meanwhile, that is sealed with a new key, and the others go.
    """
    if store.sealing.ring is None:
        return 0
    destroyed = store.drop_keys(owner)
    if destroyed is None:
        destroyed = rotate(store, owner, grace_s=0).destroyed
    store.sealing.forget(owner)
    return destroyed


def _reseal(store: Seals, owner: str, rows: int, progress: Callable[[int], object] | None) -> int:
    after: tuple[Any, ...] | None = ()
    while after is not None:
        step = store.reseal(owner, after=after, limit=_STEP)
        after = step.after
        rows += step.rows
        if progress is not None and step.rows:
            progress(rows)
    return rows
