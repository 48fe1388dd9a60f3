"""The package's surface: names, missing extras, examples."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import langchain_langmem_plugin

EXAMPLES = {
    "langchain_middleware.py": "prohibition: Never suggest anything with peanuts.",
    "langchain_history.py": "Human: Who am I?\nAI: You are Ann.",
    "langchain_with_memory.py": "4471",
}


def run(code, *arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments, *(["-c", code] if code else [])],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def test_every_public_name_is_there():
    """`__all__` is sorted and each of its names can be had."""
    names = langchain_langmem_plugin.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(langchain_langmem_plugin, name) for name in names)
    with pytest.raises(AttributeError):
        _ = langchain_langmem_plugin.nonsense


def test_without_langchain_core_the_error_names_the_extra():
    """Importing without langchain-core says what to install."""
    done = run("import sys; sys.modules['langchain_core'] = None; import langchain_langmem_plugin")
    assert "MissingExtra" in done.stderr
    assert 'pip install "langmem-plugin[langchain]"' in done.stderr


def test_without_langchain_only_the_middleware_is_missing():
    """With langchain-core alone history, runnable, retriever and tools work, and the middleware names the extra."""
    done = run(
        "import sys\n"
        "for name in ('langchain', 'langgraph'): sys.modules[name] = None\n"
        "import langchain_langmem_plugin as plugin\n"
        "history = plugin.HybridChatMessageHistory()\n"
        "history.add_user_message('a')\n"
        "assert len(history.messages) == 1\n"
        "plugin.HybridMemoryMiddleware"
    )
    assert done.stderr.strip().endswith('pip install "langmem-plugin[langchain]"')
    assert "HybridMemoryMiddleware needs langchain" in done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name, repository, tmp_path):
    """The example runs without a network, warns of nothing, and shows what it promises."""
    done = run("", str(repository / "examples" / name), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert EXAMPLES[name] in done.stdout


def test_the_adapter_outlives_langchains_history_classes():
    """With what langchain-core 2.0 will remove gone, all is imported, the history works, and nothing warns."""
    done = run(
        "import asyncio, importlib, pkgutil, sys\n"
        "sys.modules['langchain_core.chat_history'] = None\n"
        "sys.modules['langchain_core.runnables.history'] = None\n"
        "import langchain_langmem_plugin as plugin\n"
        "for one in pkgutil.iter_modules(plugin.__path__):\n"
        "    if one.name != 'chain_memory': importlib.import_module(f'langchain_langmem_plugin.{one.name}')\n"
        "history = plugin.HybridChatMessageHistory()\n"
        "history.add_user_message('a')\n"
        "history.add_ai_message('b')\n"
        "assert [m.content for m in asyncio.run(history.aget_messages())] == ['a', 'b']\n"
        "assert 'Human: a' in str(history)\n"
        "history.clear()\n"
        "assert history.messages == []\n"
        "print(plugin.HybridChatMessageHistory.__mro__[1].__name__)"
    )
    assert done.stdout.strip() == "object", done.stderr
