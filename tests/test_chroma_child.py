"""The embedded Chroma runs in a child process: what becomes of it costs neither the process nor an answer."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from langmem_plugin.errors import StoreUnavailable
from langmem_plugin.evaluation import chroma_apart
from langmem_plugin.messages import user
from langmem_plugin.projections.chroma_collection import pack, unpack
from langmem_plugin.projections.chroma_index import ChromaIndex
from langmem_plugin.projections.exact_index import nearest
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.vector_table import MemoryVectorTable

MODEL = "test-model"
DIMENSIONS = 32
ANN, BOB = SessionKey("ann", "1"), SessionKey("bob", "1")
WAIT_S = 60
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and forks")


def unit(seed, count):
    rows = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(table, key, count):
    """Log entries with random vectors, the same ones each time."""
    first = table.count_vectors(MODEL, key=key) + 1
    table.commit(key, *[user("x")] * count)
    table.save_vectors(key, MODEL, range(first, first + count), unit([first, *key.owner.encode()], count))


def oracle(table, key, query, k):
    return nearest(*table.vectors(key, MODEL), query, k)


def same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])


@pytest.fixture
def table():
    table = MemoryVectorTable()
    fill(table, ANN, 1_200)  # enough for Chroma to write its HNSW files
    fill(table, BOB, 100)
    return table


@pytest.fixture
def query():
    return unit(99, 1)[0]


def opened(table, folder, **settings):
    index = VectorIndex(table, MODEL, folder, **{"exact_max": 0, "deadline_s": WAIT_S, **settings})
    assert index.wait(WAIT_S), index.status()
    return index


def heals(index):
    until = time.monotonic() + WAIT_S
    while index.status()["state"] != "ready" and time.monotonic() < until:
        time.sleep(0.02)
    return index.status()["state"] == "ready"


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@contextlib.contextmanager
def asked(index, table, query):
    """Meanwhile two threads ask without a pause; each answer is the exact one."""
    over, wrong, right = threading.Event(), [], oracle(table, BOB, query, 5)

    def ask():
        while not over.is_set():
            try:
                same(index.search(BOB, query, k=5), right)
            except Exception as error:  # noqa: BLE001
                wrong.append(error)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        yield
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert not wrong


def fails(index):
    until = time.monotonic() + WAIT_S
    while not index.status()["failures"] and time.monotonic() < until:
        time.sleep(0.02)
    return index.status()["failures"] > 0


@posix
def test_a_killed_child_costs_no_answer(table, query, tmp_path):
    """Chroma's process killed at work: every question is answered, and another one comes up by itself."""
    index = opened(table, tmp_path)
    pid = index.status()["pid"]
    with asked(index, table, query):
        os.kill(pid, signal.SIGKILL)
        first = table.count_vectors(MODEL, key=ANN) + 1
        fill(table, ANN, 5)
        index.add(ANN, range(first, first + 5))
        assert fails(index)
        assert heals(index), index.status()
    assert index.status()["pid"] not in (pid, None)
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
    index.close()


@posix
def test_files_cut_under_a_running_child(table, query, tmp_path):
    """All of Chroma's files cut while it reads them: answered, healed, and this process goes on."""
    index = opened(table, tmp_path)
    with asked(index, table, query):
        files = [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != tmp_path]
        assert {"chroma.sqlite3", "data_level0.bin"} <= {path.name for path in files}
        for file in files:
            os.truncate(file, file.stat().st_size // 2)
        if (pid := index.status()["pid"]) is not None:  # the damage itself may have done it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert fails(index)
        assert heals(index), index.status()
    for key in (ANN, BOB):
        same(index.search(key, query, k=5), oracle(table, key, query, 5))
    assert index.status()["rebuilds"] > 1
    index.close()


_PARENT = """
import sys
sys.path.insert(0, sys.argv[2])
from test_chroma_child import MemoryVectorTable, VectorIndex, fill, ANN, MODEL
table = MemoryVectorTable()
index = VectorIndex(table, MODEL, sys.argv[1], exact_max=0)
index.wait(60)
print(index.status()["pid"], flush=True)
for first in range(1, 100_000, 20):
    fill(table, ANN, 20)
    index.add(ANN, range(first, first + 20))
"""


@posix
def test_the_child_goes_with_its_parent(table, query, tmp_path):
    """A writer is killed: its child goes, too, and only then another process has the folder, without being refused."""
    command = [sys.executable, "-c", _PARENT, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        if sys.platform == "linux":
            os.kill(pid, signal.SIGSTOP)  # one that hangs is ended by the kernel
        parent.kill()
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    until = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < until:  # it may wait a moment to be buried
        time.sleep(0.02)
    assert not is_alive(pid) or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert index.wait(WAIT_S), index.status()
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
    index.close()


@posix
def test_a_child_that_hangs_is_ended(table, query, tmp_path):
    """Past the deadline of a call the child is gone, the call has raised, and nothing else is asked of it."""
    index = ChromaIndex.in_folder(tmp_path, MODEL)
    index.put(ANN, *table.vectors(ANN, MODEL))
    index._held._deadline_s = 1
    pid = index.pid
    os.kill(pid, signal.SIGSTOP)
    big = np.zeros((100_000, DIMENSIONS), np.float32)  # more than a pipe holds
    for call in (
        lambda: index.put(ANN, np.arange(1, 100_001), big),
        index.count,
        lambda: index.search(ANN, query, k=1),
    ):
        with pytest.raises(StoreUnavailable, match="late"):
            call()
    with pytest.raises(StoreUnavailable):
        index.close()
    index.close()
    assert index.pid is None
    assert not is_alive(pid)


@posix
def test_closing_does_not_wait_for_a_child_that_hangs(table, query, tmp_path):
    """An index whose child hangs closes all the same, and is found out and used when it is next opened."""
    index = opened(table, tmp_path)
    pid = index.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    index.close()
    assert not is_alive(pid)
    assert not (tmp_path / "clean.json").exists()
    index = opened(table, tmp_path)
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
    index.close()


_FORK = """
import os, sys
sys.path.insert(0, sys.argv[2])
from test_chroma_child import *
table = MemoryVectorTable()
fill(table, ANN, 100)
query = unit(99, 1)[0]
index = VectorIndex(table, MODEL, sys.argv[1], exact_max=0, deadline_s=60)
if sys.argv[3] == "ready":
    assert index.wait(60)
if (fork := os.fork()) == 0:
    code = 1
    try:
        same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
        if sys.argv[3] == "new":
            assert not index.wait(60)
            try:
                index.erase([ANN])
            except StoreUnavailable as error:
                assert "VectorsLocked" in str(error)
            else:
                raise AssertionError
        status = index.status()
        assert status["answers"] == {"exact": 1} and status["pid"] is None, status
        index.close()
        code = 0
    finally:
        os._exit(code)
assert os.waitpid(fork, 0)[1] == 0
assert index.wait(60)
same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
assert index.status()["answers"] == {"chroma": 1}
index.close()
assert os.path.exists(sys.argv[1] + "/clean.json")
"""


@posix
@pytest.mark.parametrize("moment", ["new", "ready"])
def test_a_fork_has_no_part_in_it(tmp_path, moment):
    """A process forked from the owner's answers by exact search, and neither speaks with the child nor starts one."""
    command = [sys.executable, "-W", "ignore", "-c", _FORK, str(tmp_path), str(Path(__file__).parent), moment]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("why", ["no such program", "frozen"])
def test_where_no_child_can_be_started(table, query, tmp_path, monkeypatch, why):
    """Exact search answers, and the status says what is the matter."""
    if why == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    index = VectorIndex(table, MODEL, tmp_path / "index", exact_max=0, deadline_s=WAIT_S)
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
    assert not index.wait(WAIT_S)
    assert index.status()["last_error"] == ("StoreUnavailable: Chroma's process cannot be started (FileNotFoundError)")
    index.close()
    assert not [path for path in (tmp_path / "index").iterdir() if path.is_dir()]


def test_the_users_modules_are_not_taken_for_ours(tmp_path):
    """A script beside a chromadb.py of its own, in its working directory, gets the real one."""
    (tmp_path / "chromadb.py").write_text("raise RuntimeError('mine')")
    program = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
from test_chroma_child import MemoryVectorTable, VectorIndex, MODEL
index = VectorIndex(MemoryVectorTable(), MODEL, "index")
assert index.wait(60), index.status()
index.close()
"""
    (tmp_path / "script.py").write_text(program)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_frames_come_back():
    """What is packed is unpacked: numbers, text and arrays of any shape; what is cut off is refused."""
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1 << 60, -1]), np.zeros((0, 0), np.float32)]
    frame = pack({"number": 7, "given": ["\ud800 é", None, float("inf")]}, arrays)
    stream = io.BytesIO(frame * 2)
    for _ in range(2):
        header, found = unpack(stream)
        assert (header["number"], header["given"]) == (7, ["\ud800 é", None, float("inf")])
        for one, other in zip(found, arrays, strict=True):
            np.testing.assert_array_equal(one, other)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
    assert unpack(stream) is None
    for end in range(1, len(frame)):
        with pytest.raises(ValueError):
            unpack(io.BytesIO(frame[:end]))
    with pytest.raises(ValueError):
        unpack(io.BytesIO(b"\xff" * 64))


def test_both_ways_are_measured():
    """The command's figures: with a child Chroma's memory is the child's, without one it is ours."""
    apart, together = chroma_apart.measure(vectors=300, dimensions=16, turns=1)
    assert together.child_mb == 0
    if sys.platform == "linux":
        assert apart.child_mb > 0
        assert apart.host_mb < together.host_mb
    assert chroma_apart.to_markdown(apart, together).count("\n") == 8
