"""The folder of an embedded Chroma: who may write it, which generation counts, what it held.

```text
<folder>/lock        held by the one process that writes, and by its child; names its pid
<folder>/current     the number of the generation that counts
<folder>/clean.json  sizes and digests of that generation's files at a clean close
<folder>/7/          Chroma's own files
```

Chroma writes its index in place, without fsync (chroma#7069), and a delete leaves the
vector's bytes in it (chroma#7662). So an index is never repaired: a new generation is
built beside the old one, `current` is moved, the old one is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO

from langmem_plugin.errors import StoreUnavailable, VectorsLocked

_ORPHAN_S = 5.0
"""So long a process that is gone may leave its child: that one ends, too."""
_ADVICE = "give a folder that can be written, or vectors=None for exact search alone"


class VectorFolder:
    """One process's claim on an index folder.

    Raises:
        VectorsLocked: Another process, or another memory of this one, has it.
        StoreUnavailable: The folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pid = os.getpid()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] | None = (path / "lock").open("a+", encoding="ascii")
        except OSError as error:
            raise StoreUnavailable(str(path), error.strerror or type(error).__name__, _ADVICE) from error
        try:
            self._claim(self._lock)
        except BaseException:
            self._lock.close()
            raise

    @property
    def claim(self) -> int | None:
        """The lock's file descriptor: whoever inherits it shares the claim as long as it lives (not on Windows).

        Raises:
            VectorsLocked: This process is a fork of the one that has the claim.
        """
        self._check_ours()
        return None if self._lock is None else self._lock.fileno()

    def generation(self) -> int | None:
        """The generation that counts; None if there is none or it is gone."""
        try:
            number = int((self.path / "current").read_text("ascii"))
        except (OSError, ValueError):
            return None
        return number if self.folder(number).is_dir() else None

    def folder(self, generation: int) -> Path:
        """Where a generation's files are."""
        return self.path / str(generation)

    def fresh(self) -> int:
        """The number of a new, empty generation that does not count yet; the folder too, if somebody removed it.

        Raises:
            VectorsLocked: It was removed, and another process made one in its place.
            OSError: It cannot be made.
        """
        if not (self.path / "lock").exists():
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+", encoding="ascii")
            try:
                self._claim(lock)
            except BaseException:
                lock.close()
                raise
            self.release()
            self._lock = lock
        number = max((int(name) for name in self._numbered()), default=0) + 1
        self.folder(number).mkdir()
        return number

    def discard(self, generation: int) -> None:
        """Remove a generation that does not count."""
        shutil.rmtree(self.folder(generation), ignore_errors=True)

    def switch(self, generation: int) -> None:
        """Let this generation count from now on, and remove all others."""
        self.clear_manifest()
        _write(self.path / "current", str(generation))
        for name in self._numbered():
            if name != str(generation):
                shutil.rmtree(self.path / name, ignore_errors=True)

    def empty(self) -> None:
        """Remove every generation; the claim stays.

        Raises:
            OSError: A file could not be removed.
            VectorsLocked: This process is a fork of the one that has the claim.
        """
        self._check_ours()
        self.clear_manifest()
        (self.path / "current").unlink(missing_ok=True)
        for name in self._numbered():
            shutil.rmtree(self.path / name)

    def write_manifest(self, generation: int) -> None:
        """Make the files durable and note what they hold; only after Chroma has let go of them."""
        files = _digests(self.folder(generation), sync=True)
        _write(self.path / "clean.json", json.dumps({"generation": generation, "files": files}))

    def is_clean(self, generation: int) -> bool | None:
        """Whether the files are what the last clean close left; None if it was not clean."""
        try:
            manifest = json.loads((self.path / "clean.json").read_text("ascii"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return False
        try:
            found = _digests(self.folder(generation), sync=False)
        except OSError:
            return False
        return bool(manifest == {"generation": generation, "files": found})

    def clear_manifest(self) -> None:
        """Forget the note, before anything is written."""
        (self.path / "clean.json").unlink(missing_ok=True)

    def release(self) -> None:
        """Let another process have the folder, once our child is gone. Does nothing the second time."""
        if self._lock is not None:
            self._lock.close()  # the claim ends with the file
            self._lock = None

    def _check_ours(self) -> None:
        if os.getpid() != self._pid:
            raise VectorsLocked(str(self.path), str(self._pid))

    def _claim(self, lock: IO[str]) -> None:
        until = time.monotonic() + _ORPHAN_S
        while True:
            try:
                _lock_file(lock)
                break
            except OSError as error:
                pid = "unknown"
                with contextlib.suppress(OSError, ValueError):
                    lock.seek(0)
                    pid = lock.read(32).strip() or pid
                if not _is_gone(pid) or time.monotonic() > until:
                    raise VectorsLocked(str(self.path), pid) from error
            time.sleep(0.02)
        try:
            lock.seek(0)
            lock.truncate()
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        except OSError as error:
            raise StoreUnavailable(str(self.path), error.strerror or type(error).__name__, _ADVICE) from error

    def _numbered(self) -> list[str]:
        return [entry.name for entry in self.path.iterdir() if entry.name.isdecimal() and entry.is_dir()]


if sys.platform == "win32":
    import msvcrt

    def _lock_file(lock: IO[str]) -> None:
        # A byte far behind the pid, so that the pid can still be read.
        lock.seek(1024)
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)

    def _is_gone(_pid: str) -> bool:
        return False  # its child does not hold the claim here

else:
    import fcntl

    def _lock_file(lock: IO[str]) -> None:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _is_gone(pid: str) -> bool:
        try:
            os.kill(int(pid), 0)
        except (ProcessLookupError, OverflowError):
            return True
        except (OSError, ValueError):
            return False
        return False


def _digests(folder: Path, *, sync: bool) -> dict[str, list[int | str]]:
    """Size and digest of every file, by its path within the folder."""
    found: dict[str, list[int | str]] = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "blake2b").hexdigest()
            if sync:
                os.fsync(stream.fileno())
        found[file.relative_to(folder).as_posix()] = [file.stat().st_size, digest]
    return found


def _write(file: Path, text: str) -> None:
    """Replace a small file so that a crash leaves the old or the new one."""
    draft = file.with_name(file.name + ".new")
    with draft.open("w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    if sys.platform != "win32":
        directory = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
