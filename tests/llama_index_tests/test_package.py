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


def test_we_warn_of_nothing():
    """Imports and uses of the adapter are silent with warnings as errors, once LlamaIndex itself is imported."""
    path = [str(Path(langmem_plugin.__file__).parents[1]), str(Path(package.__file__).parents[3])]
    code = (
        "import pickle, warnings\n"
        "import llama_index.core, llama_index.core.agent.workflow, llama_index.core.chat_engine\n"
        "import llama_index.core.storage.chat_store.base_db, llama_index.core.memory\n"
        "warnings.simplefilter('error')\n"
        "import importlib, pkgutil, llama_index.memory.langmem_plugin as package\n"
        "for one in pkgutil.iter_modules(package.__path__):\n"
        "    importlib.import_module(f'llama_index.memory.langmem_plugin.{one.name}')\n"
        "from llama_index.core.base.llms.types import ChatMessage\n"
        "buffer = package.HybridChatMemoryBuffer.from_defaults()\n"
        "buffer.put(ChatMessage(role='user', content='a'))\n"
        "again = pickle.loads(pickle.dumps(buffer))\n"
        "print(again.get()[0].content, buffer.to_dict()['owner'], package.HybridAsyncChatStore.__doc__ is not None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "a default True", done.stderr
