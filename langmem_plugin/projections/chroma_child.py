"""A Chroma in a child process: what its native code does to a process, it does to that one.

Damaged files can end the process that reads them (chroma#7238), a locked one stops all
threads of the process that writes it. The child has the folder's claim, too, so that
nobody else gets the folder before it is gone; and it goes with its parent.
"""

from __future__ import annotations

import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.projections import chroma_collection
from langmem_plugin.projections.chroma_collection import Array, pack, unpack

DEADLINE_S: Final = 60.0
"""A child that takes longer for a call is ended: the first search reads a whole index from the disk."""
_STARTING_S: Final = 120.0
_ENDING_S: Final = 5.0
_GRACE_S: Final = 2.0
"""So long a call may still take once it is not wanted any more."""
_LOOK_S: Final = 0.05
_CLOSED: Final = "Chroma's process was closed"
_ADVICE: Final = "exact search answers meanwhile"
_AT_ONCE: Final[int] = getattr(select, "PIPE_BUF", 0)
"""So many bytes a pipe that takes any takes whole; 0 on Windows, which does not say whether it would."""
_FLAGS: Final[int] = getattr(subprocess, "CREATE_NO_WINDOW", 0)
"""On Windows a program without a window of its own would get one."""


class _Answer:
    """What a call gave, once it has."""

    def __init__(self) -> None:
        self.there = threading.Event()
        self.frame: tuple[dict[str, Any], list[Array]] | None = None


class ChromaChild:
    """Chroma's `Collection`, kept by a process of its own. Thread-safe.

    Every method raises `StoreUnavailable` if the child is gone, is late or says no; one
    that is late is ended.
    """

    def __init__(
        self,
        where: Path,
        *,
        claim: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Start it; returns when Chroma is loaded and has touched no file.

        Args:
            where: The folder, as errors name it.
            claim: A file descriptor that the child keeps open as long as it lives (not on Windows).
            stop: Asked now and then; True ends the start, and calls soon after.
            deadline_s: Seconds that a call may take.

        Raises:
            StoreUnavailable: It cannot be started.
        """
        self._where = str(where)
        self._claim = claim
        self._stop = stop
        self._deadline_s = deadline_s
        self._lock = threading.Lock()
        self._pipe = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._over = ""
        self._calls = 0
        loaded = _Answer()
        self._asked: dict[int, _Answer] = {0: loaded}
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        _LIVE.add(self)
        # The child ends with the thread that starts it (Linux), so that one stays until the child is gone.
        self._attending = threading.Thread(target=self._attend, name="langmem-plugin-chroma-child", daemon=True)
        self._attending.start()
        try:
            self._result(loaded, deadline_s=_STARTING_S, grace_s=0.0)
        except BaseException:
            self._end(_CLOSED, kill=True)
            self._attending.join(_ENDING_S)
            raise

    def open(self, folder: Path, name: str) -> None:
        """Have it open the collection of Chroma's own folder."""
        self._call("open", str(folder.absolute()), name, deadline_s=max(_STARTING_S, self._deadline_s))

    def batch(self) -> int:
        """As `Collection`."""
        return int(self._call("batch")[0][0])

    def count(self) -> int:
        """As `Collection`."""
        return int(self._call("count")[0][0])

    def put(self, tag: str, seqs: Array, vectors: Array) -> None:
        """As `Collection`."""
        self._call("put", tag, arrays=[seqs, vectors])

    def search(self, tag: str, k: int, before: int | None, vector: Array) -> Array:
        """As `Collection`."""
        return self._call("search", tag, k, before, arrays=[vector])[1][0]

    def seqs(self, tag: str) -> Array:
        """As `Collection`."""
        return self._call("seqs", tag)[1][0]

    def vectors_of(self, tag: str, seqs: Array) -> tuple[Array, Array]:
        """As `Collection`."""
        held, vectors = self._call("vectors_of", tag, arrays=[seqs])[1]
        return held, vectors

    def remove(self, tag: str, seqs: Array | None = None) -> None:
        """As `Collection`."""
        self._call("remove", tag, arrays=[] if seqs is None else [np.asarray(seqs, np.int64)])

    def probe(self, k: int, vector: Array) -> tuple[int, float]:
        """As `Collection`."""
        reached, distance = self._call("probe", k, arrays=[vector])[0]
        return int(reached), float(distance)

    def empty(self) -> None:
        """As `Collection`."""
        self._call("empty")

    @property
    def pid(self) -> int | None:
        """The child's process id; None if it is gone."""
        return self._child.pid if self._child is not None and self._attending.is_alive() else None

    def close(self) -> None:
        """Have Chroma let go of its files and the child end; returns when it is gone. Does nothing the second time.

        Raises:
            StoreUnavailable: It did not end in order, or, with a `pid`, not at all.
        """
        if self._over == _CLOSED and not self._attending.is_alive():
            return
        try:
            self._call("close", deadline_s=_ENDING_S, grace_s=_ENDING_S)
            self._attending.join(_ENDING_S)
        finally:
            self._end(_CLOSED, kill=True)
            self._attending.join(_ENDING_S)
            self._over = _CLOSED
        if self._attending.is_alive():
            raise StoreUnavailable(self._where, "Chroma's process does not end", _ADVICE)

    def _call(
        self,
        call: str,
        *given: Any,
        arrays: Sequence[Array] = (),
        deadline_s: float | None = None,
        grace_s: float = _GRACE_S,
    ) -> tuple[list[Any], list[Array]]:
        answer = _Answer()
        with self._lock:
            if self._over:
                raise StoreUnavailable(self._where, self._over, _ADVICE)
            self._calls += 1
            self._asked[self._calls] = answer
            number = self._calls
        frame = pack({"number": number, "call": call, "given": given}, arrays)
        if not self._write_now(frame):
            self._outbox.put(frame)
        return self._result(answer, deadline_s=deadline_s or self._deadline_s, grace_s=grace_s)

    def _result(self, answer: _Answer, *, deadline_s: float, grace_s: float) -> tuple[list[Any], list[Array]]:
        until = time.monotonic() + deadline_s
        stopped = False
        while not answer.there.wait(_LOOK_S):
            if not stopped and self._stop():
                stopped = True
                until = min(until, time.monotonic() + grace_s)
            if time.monotonic() >= until:
                self._end("Chroma's process was late and was ended", kill=True)
                break
        if answer.frame is None:
            raise StoreUnavailable(self._where, self._over or "Chroma's process is gone", _ADVICE)
        header, arrays = answer.frame
        if header["error"]:
            raise StoreUnavailable(self._where, f"Chroma raised {header['error']}", _ADVICE)
        return header["values"], arrays

    def _end(self, why: str, *, kill: bool = False) -> None:
        """Nobody is answered any more."""
        with self._lock:
            self._over = self._over or why
            asked, self._asked = self._asked, {}
            child = self._child
        if kill and child is not None:
            child.kill()
        for answer in asked.values():
            answer.there.set()

    # The thread that starts the child, hears it, and sees it off

    def _attend(self) -> None:
        try:
            child = _start(self._claim)
        except Exception as error:  # noqa: BLE001 - whatever forbids it: said to whoever waits
            self._end(f"Chroma's process cannot be started ({type(error).__name__})")
            return
        with self._lock:
            self._child = child
            unwanted = bool(self._over)
        if unwanted:
            child.kill()
        writing = threading.Thread(target=self._write, args=(child,), name="langmem-plugin-chroma-calls", daemon=True)
        writing.start()
        try:
            self._hear(child)
            child.wait(_ENDING_S)
        except Exception:  # noqa: BLE001 - what it says is no frame, or it does not end
            child.kill()
        code = child.wait()
        self._end(f"Chroma's process ended ({code})")
        self._outbox.put(None)
        writing.join()

    def _hear(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdout is None:
            return
        with child.stdout as answers:
            while (frame := unpack(answers)) is not None:
                with self._lock:
                    answer = self._asked.pop(frame[0]["number"], None)
                if answer is not None:
                    answer.frame = frame
                    answer.there.set()

    def _write(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdin is None:
            return
        try:
            while (frame := self._outbox.get()) is not None:
                left = memoryview(frame)
                with self._pipe:
                    while left:
                        left = left[child.stdin.write(left) :]
        except OSError:  # the child is gone, and the other thread sees it
            pass
        finally:
            with self._pipe:
                child.stdin.close()

    def _write_now(self, frame: bytes) -> bool:
        """Write what the pipe takes at once: most calls need not wait for a thread to wake up."""
        if len(frame) > _AT_ONCE or not self._pipe.acquire(blocking=False):
            return False
        try:
            pipe = self._child.stdin if self._child is not None else None
            if pipe is None or pipe.closed or not select.select([], [pipe], [], 0)[1]:
                return False
            pipe.write(frame)
        except (OSError, ValueError):  # it is gone, or its number is too high for select
            return False
        else:
            return True
        finally:
            self._pipe.release()

    def forget(self) -> None:
        """In a fork of the parent: the pipes are the parent's, and are let go of here."""
        self._lock = threading.Lock()
        self._over = "it belongs to the process that this one was forked from"
        self._asked = {}
        child, self._child = self._child, None
        if child is not None:
            child.returncode = 0  # not ours to wait for
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _start(claim: int | None) -> subprocess.Popen[bytes]:
    if getattr(sys, "frozen", False) or not sys.executable:
        raise FileNotFoundError("this program is no interpreter")  # starting it would be starting it again
    paths = [path for path in sys.path if Path(path).is_absolute()]
    return subprocess.Popen(  # noqa: S603 - our own interpreter and file
        [sys.executable, "-P", "-W", "ignore", chroma_collection.__file__, json.dumps(paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,  # nothing that a fork could write a second time
        start_new_session=True,  # Ctrl-C is for the parent, which closes in order
        creationflags=_FLAGS,
        pass_fds=() if claim is None or sys.platform == "win32" else (claim,),
    )


_LIVE: weakref.WeakSet[ChromaChild] = weakref.WeakSet()
"""Whom a fork of this process must not speak with."""


def _forked() -> None:
    for child in list(_LIVE):
        child.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
