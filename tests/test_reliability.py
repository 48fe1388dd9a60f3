"""The long trials of docs/reliability.md, each made short."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from langmem_plugin.evaluation import isolation
from langmem_plugin.testing import file_faults


def evaluated(tmp_path, name, *arguments):
    """The figures of `langmem-plugin eval` in a process of its own."""
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "langmem_plugin.cli", "eval", name, *arguments, "--json", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ, timeout=300)
    return json.loads(out.read_text())


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_file_operations_that_go_wrong_lose_nothing(tmp_path):
    """Writes that fail or tear, ends and power cuts at any operation lose nothing; the controls are found out."""
    others = [f"--{name}=0" for name in ("kills", "kills-with-vectors", "controls", "processes")]
    ours, unsynced, halved = evaluated(tmp_path, "faults", *others, "--file-operations=200").values()
    assert ours["passed"]
    assert ours["acknowledged"] > 20
    assert set(ours["figures"]) == {"fail", "full", "torn", "crash", "torn crash", "power cut"}
    assert unsynced["lost"]
    assert halved["halves"]


def test_a_crowd_is_measured_on_both_databases(tmp_path):
    """Each turn is there once, on a SQLite file and on a PostgreSQL server that the command starts."""
    others = [f"--{name}=0" for name in ("kills", "kills-with-vectors", "controls")]
    found = evaluated(tmp_path, "faults", *others, "--processes=2", "--threads=3", "--turns=4", "--postgres")
    assert list(found) == ["2 processes of 3 threads", "2 processes of 3 threads, PostgreSQL"]
    for one in found.values():
        assert one["passed"]
        assert one["acknowledged"] == 24
        assert one["figures"]["p99.9 ms"] > 0


def test_what_was_not_synced_can_be_lost(tmp_path):
    """The model of a power cut: writes after the last sync are taken back, what was synced stays."""
    (tmp_path / "after").mkdir()
    path = tmp_path / "faulty.db"
    (tmp_path / "after" / "faulty.db").write_bytes(b"new1new2")
    name = bytes(path)

    def record(kind, offset=0, old=b""):
        return file_faults._HEAD.pack(ord(kind), len(name), offset, len(old), 8) + name + old

    log = tmp_path / "undo"
    log.write_bytes(record("w", 0, b"old1") + record("s") + record("w", 4, b"old2"))

    class All:
        choice = staticmethod(lambda _ways: "all")

    file_faults._lose(log, tmp_path / "after", All())
    assert (tmp_path / "after" / "faulty.db").read_bytes() == b"new1old2"


def test_no_owner_meets_another():
    """Random calls of owners with the same session ids: no canary of another in answers, errors, logs and caches."""
    found = isolation.measure(owners=6, operations=300, vectors=False, seed=3)
    assert found["passed"], found["foreign"]
    assert found["seen"] > 30
    assert found["calls"]["an error"] > 3


def test_a_leak_between_owners_is_found_out(monkeypatch):
    """A control: a call whose answer holds what another owner said is counted."""
    said = []

    def leaks(_memory, _session, canary, _rng):
        said.append(canary)
        return " ".join(said)

    monkeypatch.setitem(isolation._CALLS, "leak", (1_000, leaks))
    found = isolation.measure(owners=3, operations=30, vectors=False)
    assert not found["passed"]
    assert found["foreign"]["leak"]
    assert re.search(r"\| leak \| \d+ \| \d+ \|", isolation.to_markdown(found))


def test_throughput_is_counted(tmp_path):
    """Each process's turns are timed and counted, with one process and with two."""
    rates = evaluated(tmp_path, "throughput", "--turns=5", "--processes=1,2")
    assert [one["processes"] for one in rates] == [1, 2]
    assert all(one["turns_per_second"] > 0 and one["p50_ms"] <= one["p99_ms"] for one in rates)
