"""Chroma may be damaged, locked, hung or gone: every question is answered, and by the right messages."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from langmem_plugin.errors import StoreUnavailable, VectorsLocked
from langmem_plugin.evaluation.index_faults import LOCKED, measure, to_markdown
from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.chroma_search import ChromaSearch
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.records import SessionKey

KEY = SessionKey("ann", "s")
ROWS = np.eye(8, dtype=np.float32)
WAIT_S = 60.0


def test_every_request_is_answered_under_trouble():
    """While files are cut, the folder goes and SQLite is locked, nothing raises, and the fallback is exact search."""
    kinds = ("files cut in half", "the folder deleted", LOCKED)
    found = measure(kinds, seconds=0.5, messages=40, threads=2)
    assert [one.name for one in found] == list(kinds)
    for one in found:
        assert one.requests > 0
        assert one.unanswered == one.without == one.unexplained == 0
        assert one.by_exact == one.exact_equal
        assert one.healed
    assert to_markdown(found).count("\n") == 4


@pytest.mark.skipif(sys.platform == "win32", reason="SQLite is locked by POSIX locks here")
def test_a_locked_index_stops_chromas_process_alone(tmp_path):
    """A write that waits for another process's lock is given up in time, and nothing of it holds up this one."""
    lock = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); "
    lock += "db.execute('BEGIN EXCLUSIVE'); print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", lock, str(tmp_path / "chroma.sqlite3")]
    index = ChromaIndex.in_folder(tmp_path, "m")
    index.put(KEY, np.arange(1, 9), ROWS)
    index._held._deadline_s = 1
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"locked\n"
        with pytest.raises(StoreUnavailable, match="late"):
            index.put(KEY, np.array([9]), ROWS[:1])
        with pytest.raises(StoreUnavailable):
            index.remove(KEY)
        child.communicate()
    with pytest.raises(StoreUnavailable):
        index.close()
    assert index.pid is None
    again = ChromaIndex.in_folder(tmp_path, "m")
    again.put(KEY, np.array([9]), ROWS[:1])
    assert again.seqs(KEY).tolist() == list(range(1, 10))
    again.close()


def test_an_index_that_hangs_is_not_waited_for():
    """Past the deadline there is no answer; after some in a row none is asked for, until another index is."""

    class Hanging:
        def __init__(self):
            self.free = threading.Event()
            self.asked = 0

        def search(self, *_asked, **_more):
            self.asked += 1
            self.free.wait(WAIT_S)
            return np.array([1])

    hanging, failures = Hanging(), []
    search = ChromaSearch(lambda *what: failures.append(what), deadline_s=0.02)
    answers = [search.ask(hanging, KEY, ROWS[0], k=1, before=None) for _ in range(6)]
    assert answers == [None] * 6
    assert hanging.asked <= 3
    hanging.free.set()
    search = ChromaSearch(lambda *what: failures.append(what), deadline_s=WAIT_S)
    assert search.ask(hanging, KEY, ROWS[0], k=1, before=None).tolist() == [1]
    assert failures == []


def test_an_index_that_fails_is_told_of():
    """An error is passed on with the index that raised it, and there is no answer."""

    class Broken:
        def search(self, *_asked, **_more):
            raise RuntimeError("hnsw")

    broken, failures = Broken(), []
    search = ChromaSearch(lambda *what: failures.append(what), deadline_s=WAIT_S)
    assert search.ask(broken, KEY, ROWS[0], k=1, before=None) is None
    ((which, error),) = failures
    assert which is broken
    assert isinstance(error, RuntimeError)


def test_a_folder_that_was_removed_is_made_anew(tmp_path):
    """The next generation gets its folder, and with it the claim, until it is released."""
    mine = VectorFolder(tmp_path / "index")
    (tmp_path / "index").rename(tmp_path / "gone")
    assert mine.fresh() == 1
    with pytest.raises(VectorsLocked):
        VectorFolder(tmp_path / "index")
    mine.release()
    VectorFolder(tmp_path / "index").release()
