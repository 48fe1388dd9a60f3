"""The memory of a process that is in use."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_kib(pid: int | None = None) -> float:
    """Resident memory of a process, of this one by default.

    Where there is no `/proc` it is this one's peak, or 0.0 for another process.
    """
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii", errors="replace")
        return float(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
    except (OSError, StopIteration):
        if pid is not None:
            return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "darwin" else float(peak)
