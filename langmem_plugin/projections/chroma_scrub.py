"""Zeroes where Chroma's index files hold memory that was never written.

A new HNSW index is written with its whole first allocation, a hundred slots that nothing
was put in: `data_level0.bin` and `length.bin` then hold what the process had in that
memory before. Seen here were ids of records that were erased, and it may be any text.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_HEADER = struct.Struct("<i6Q")
"""Version, offset, slots, used slots, bytes a slot, and two more offsets."""
_ZEROS = bytes(1 << 16)


def scrub(folder: Path) -> None:
    """Overwrite the unused slots of every HNSW index below `folder`, which nobody writes just now.

    An index whose header is not understood is left as it is.
    """
    for header in folder.glob("*/header.bin"):
        try:
            version, _, slots, used, slot_bytes, _, _ = _HEADER.unpack(header.read_bytes()[: _HEADER.size])
            data, lengths = header.with_name("data_level0.bin"), header.with_name("length.bin")
            known = data.stat().st_size % max(1, slot_bytes) == 0 and lengths.stat().st_size % 4 == 0
        except (OSError, struct.error):
            continue
        if version == 1 and used <= slots and known:
            _zero(data, used * slot_bytes)
            _zero(lengths, used * 4)


def _zero(file: Path, start: int) -> None:
    end = file.stat().st_size
    with file.open("r+b") as stream:
        stream.seek(start)
        for left in range(end - start, 0, -len(_ZEROS)):
            stream.write(_ZEROS[:left])
        stream.flush()
        os.fsync(stream.fileno())
