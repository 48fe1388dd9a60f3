"""The import package: its names, and what is said where LlamaIndex is missing."""

import subprocess
import sys
from pathlib import Path

import pytest

import langmem_plugin
import llama_index.memory.langmem_plugin as package

ROOT = Path(__file__).resolve().parents[2]


def test_public_names_are_sorted_and_there():
    """`__all__` is sorted and every name in it exists."""
    assert list(package.__all__) == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def test_a_missing_llama_index_names_the_extra():
    """Without llama-index-core the import says which extra brings it."""
    code = (
        "import sys\n"
        "sys.modules['llama_index.core'] = None\n"
        "from langmem_plugin.errors import MissingExtra\n"
        "try:\n"
        "    import llama_index.memory.langmem_plugin\n"
        "except MissingExtra as error:\n"
        "    print(error)\n"
    )
    path = [str(Path(langmem_plugin.__file__).parents[1]), str(Path(package.__file__).parents[3])]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "langmem-plugin[llama-index]"' in done.stdout


@pytest.mark.parametrize("name", ["llamaindex_chat_engine", "llamaindex_function_agent"])
def test_examples_run(name, tmp_path):
    """Each example runs offline as it stands and shows that the constraint reached the model."""
    path = [str(Path(langmem_plugin.__file__).parents[1]), str(Path(package.__file__).parents[3])]
    script = str(ROOT / "examples" / f"{name}.py")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            f"import sys, runpy; sys.path[:0] = {path!r}; runpy.run_path({script!r}, run_name='__main__')",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "peanuts" in done.stdout
