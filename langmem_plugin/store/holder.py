"""Which process has a pending turn open, and whether it is still alive."""

from __future__ import annotations

import os
import uuid
from datetime import datetime, timedelta
from pathlib import Path

HELD = timedelta(seconds=120)
"""After its last message a turn of a process that cannot be asked counts as held for so long."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> str:
    """What stands for this process: the machine since its start, and the process's number."""
    try:
        machine = _BOOT.read_text("ascii").strip()
    except (OSError, ValueError):
        machine = f"{uuid.getnode():x}"
    return f"{machine}:{os.getpid()}"


def is_held(holder: str | None, until: datetime | None, *, now: datetime) -> bool:
    """Whether another process may still be writing to a turn.

    Not if it is this process, if its time is over, or if it ran here and is gone.
    """
    if holder is None or until is None or now >= until:
        return False
    machine, _, number = holder.rpartition(":")
    here, _, mine = this_process().rpartition(":")
    if machine != here:
        return True
    return number != mine and _is_alive(int(number) if number.isdecimal() else 0)


def _is_alive(pid: int) -> bool:
    if pid <= 0 or os.name == "nt":
        return pid > 0  # Windows cannot be asked without ending it: its time has to pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
