"""LangChain's own tests of chat histories, with our class in place of theirs."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import langchain_core
import pytest

PLUGIN = """
import pytest
from langchain_langmem_plugin import HybridChatMessageHistory


@pytest.fixture(autouse=True)
def _ours(monkeypatch, request):
    if hasattr(request.module, "InMemoryChatMessageHistory"):
        monkeypatch.setattr(request.module, "InMemoryChatMessageHistory", HybridChatMessageHistory)
"""
FILES = ["tests/unit_tests/runnables/test_history.py", "tests/unit_tests/chat_history"]


def _sdist() -> Path:
    """LangChain's source archive of the installed version, fetched once into the user's cache."""
    version = langchain_core.__version__
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "langmem-plugin-tests"
    folder = cache / f"langchain_core-{version}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    package = f"langchain-core=={version}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "langchain-core", package]
    try:
        subprocess.run([*command, "-d", cache], check=True, capture_output=True, text=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"the source archive of {package} cannot be had: {type(error).__name__}")
    with tempfile.TemporaryDirectory(dir=cache) as fresh:
        with tarfile.open(next(cache.glob(f"langchain_core-{version}*.tar.gz"))) as archive:
            archive.extractall(fresh, filter="data")
        with contextlib.suppress(OSError):  # another run was faster
            (Path(fresh) / folder.name).rename(folder)
    return folder


def test_they_pass_with_our_class(tmp_path, repository):
    """Their 29 tests of histories and of RunnableWithMessageHistory cannot tell our class from the in-memory one."""
    folder = _sdist()
    (tmp_path / "swap_history.py").write_text(PLUGIN)
    places = [str(tmp_path), str(folder), str(repository), str(repository / "integrations")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "swap_history", "-p", "no:cacheprovider"),
            *("-c", os.devnull, f"--rootdir={folder}", "-o", "asyncio_mode=auto", *FILES),
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20
    assert "failed" not in done.stdout
