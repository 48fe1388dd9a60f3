"""The command line: help, exit codes, errors in one line, extras that are missing."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace

import numpy as np
import pytest

from langmem_plugin import __version__
from langmem_plugin.cli import main
from langmem_plugin.cli.evaluations import EVALUATIONS


def leave(*arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return caught.value.code


def test_the_version(capsys):
    """--version prints the package's version."""
    assert leave("--version") == 0
    assert capsys.readouterr().out == f"langmem-plugin {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("demo",),
        ("chat",),
        ("inspect",),
        ("forget",),
        ("export",),
        ("import",),
        ("verify",),
        ("rebuild",),
        ("rotate",),
        ("eval",),
        ("eval", "overhead"),
    ],
)
def test_every_command_has_help(arguments, capsys):
    """Each command explains itself."""
    assert leave(*arguments, "--help") == 0
    assert "usage: langmem-plugin" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nothing",),
        ("chat",),
        ("demo", "--budget", "0"),
        ("demo", "--budget", "x"),
        ("inspect",),
        ("inspect", "sqlite:///x.db", "s", "--at", "-1"),
        ("eval",),
        ("eval", "constraints"),
        ("eval", "recall", "--data", "/nowhere"),
        ("eval", "overhead", "--messages", "a"),
    ],
)
def test_a_wrong_command_line(arguments, capsys):
    """A wrong command line is exit code 2, with the usage on standard error."""
    assert leave(*arguments) == 2
    assert "usage: langmem-plugin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chat", "--base-url", "x", "--model", "m"), "give an address such as http://localhost:1234/v1"),
        (
            ("chat", "--base-url", "http://h", "--model", "m", "--tokenizer", "gpt-4o", "--database", "nosql://x"),
            "nosql",
        ),
        (
            (
                "chat",
                "--base-url",
                "http://h",
                "--model",
                "m",
                "--tokenizer",
                "gpt-4o",
                "--database",
                "sqlite:////proc/nowhere/x.db",
            ),
            "/proc/nowhere",
        ),
        (("demo", "--base-url", "http://h"), "--model"),
        (("demo", "--folder", "/proc/nowhere"), "give one that can be written"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys, monkeypatch, tmp_path):
    """An error of this package is one line on standard error and exit code 1, never a traceback."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("langmem-plugin: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_home_that_cannot_be_written(capsys, monkeypatch):
    """The default database's folder that cannot be made is a typed error, too."""
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert main(("chat", "--base-url", "http://h", "--model", "m")) == 1
    assert "give --database" in capsys.readouterr().err


def test_ctrl_c(monkeypatch, capsys):
    """An interrupted command is exit code 130."""
    from langmem_plugin.evaluation import overhead

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(overhead, "measure", interrupted)
    assert main(("eval", "overhead")) == 130
    assert "interrupted" in capsys.readouterr().err


def test_overhead(capsys, tmp_path):
    """An evaluation prints a table and writes the same figures as JSON."""
    file = tmp_path / "figures.json"
    assert main(("eval", "overhead", "--messages", "10,20", "--rounds", "2", "--json", str(file))) == 0
    assert "| 20 |" in capsys.readouterr().out
    assert [row["messages"] for row in json.loads(file.read_text())] == [10, 20]


def test_json_that_cannot_be_written(capsys):
    """A file for the figures that cannot be written is told after the table."""
    arguments = ("eval", "overhead", "--messages", "2", "--rounds", "1", "--json", "/proc/nowhere/x.json")
    assert main(arguments) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_constraints(capsys, tmp_path, data_dir):
    """The constraints' evaluation runs on the folder of the data sets."""
    file = tmp_path / "figures.json"
    assert main(("eval", "constraints", "--data", str(data_dir), "--json", str(file))) == 0
    assert "|" in capsys.readouterr().out
    assert json.loads(file.read_text())


@pytest.fixture
def talk_file(tmp_path):
    """A short conversation of two speakers with one question, in LoCoMo's layout."""
    from langmem_plugin.evaluation.loaders import load

    words = ["I bought a red kayak.", "Nice!", "We go to the lake on Sunday.", "Have fun.", "Thanks.", "Bye."]
    session = [
        {"speaker": ("Ann", "Bob")[place % 2], "dia_id": f"D1:{place + 1}", "text": text}
        for place, text in enumerate(words)
    ]
    talk = {
        "sample_id": "one",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": session,
        },
        "qa": [{"question": "What did Ann buy?", "answer": "a kayak", "evidence": ["D1:1"], "category": 4}],
    }
    file = tmp_path / "talk.json"
    file.write_text(json.dumps([talk]))
    assert len(load(file)[0].turns) == 6
    return file


def test_frameworks(capsys, talk_file):
    """The adapters' evaluation reads a file of conversations."""
    assert main(("eval", "frameworks", "--data", str(talk_file), "--budget", "1000")) == 0
    out = capsys.readouterr().out
    assert "| langchain | 1,000 | 1 | " in out
    assert "| llama-index | 1,000 | 1 | " in out


def test_histories(capsys, tmp_path):
    """Random histories pass through both adapters; a fault would end with a code of its own and name the seed."""
    file = tmp_path / "figures.json"
    assert main(("eval", "histories", "--count", "3", "--seed", "5", "--json", str(file))) == 0
    assert "| LangChain agent | " in capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert sum(row["histories"] for row in figures) == 6
    gate = next(evaluation.gate for evaluation in EVALUATIONS if evaluation.name == "histories")
    assert gate(Namespace(), figures) == ""
    assert figures[0]["way"] in gate(Namespace(), [{**figures[0], "clean": False}])


def test_the_vectors_evaluation(capsys):
    """Both searches are timed at each size, and what Chroma misses is a share."""
    arguments = ("eval", "vectors", "--sessions", "30,60", "--total", "90", "--dimensions", "8")
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "90 vectors of 8" in printed
    assert "| 30 |" in printed
    assert "| 60 |" in printed


def test_an_evaluations_embeddings_are_kept_by_model(tmp_path):
    """A second run embeds nothing again; another model's file is not read."""
    from langmem_plugin.evaluation.embedding import CachedEmbedder

    class Counting:
        def __init__(self, name):
            self.name, self.texts = name, []

        def embed(self, texts):
            self.texts += texts
            return np.ones((len(texts), 4), np.float32) / 2

    file = tmp_path / "kept.npz"
    models = [Counting("a"), Counting("a"), Counting("b")]
    for model in models:
        cached = CachedEmbedder(model, cache=file)
        assert cached.embed(["one", "two", "one"]).shape == (3, 4)
        assert cached.embed_query("one").shape == (4,)
        cached.save()
    assert [len(model.texts) for model in models] == [3, 0, 3]


@pytest.mark.parametrize("level", ["requests", "turns"])
def test_recall(level, capsys, talk_file, tmp_path):
    """Recall's evaluation finds the one evidence of a short conversation."""
    pytest.importorskip("langmem_plugin.evaluation.requests", reason="not in this tree")
    file = tmp_path / "figures.json"
    arguments = ("eval", "recall", "--data", str(talk_file), "--budget", "500", "--level", level)
    assert main((*arguments, "--json", str(file))) == 0
    assert "|" in capsys.readouterr().out
    assert any(value == 1.0 for row in json.loads(file.read_text()) for value in row.values())


def test_a_folder_of_data_sets_is_enough(tmp_path):
    """--data takes the folder that holds the locomo folder as well as that one."""
    from langmem_plugin.cli.evaluations import _conversations

    (tmp_path / "locomo").mkdir()
    assert _conversations(str(tmp_path)) == tmp_path / "locomo"
    assert _conversations(str(tmp_path / "locomo")) == tmp_path / "locomo"


def test_names_of_evaluations_differ():
    """Each evaluation has a name of its own."""
    assert len({evaluation.name for evaluation in EVALUATIONS}) == len(EVALUATIONS)


@pytest.mark.parametrize(
    ("absent", "arguments"),
    [
        ("rich", ("chat", "--base-url", "http://h", "--model", "m")),
        ("httpx", ("chat", "--base-url", "http://h", "--model", "m")),
        ("rich", ("demo",)),
    ],
)
def test_a_missing_extra_is_named(absent, arguments, tmp_path):
    """Without rich or httpx the command line says which extra brings it; help and version need neither."""
    code = (
        "import importlib.abc, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {absent!r}:\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from langmem_plugin.cli import main\n"
        f"sys.exit(main({arguments!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 1
    assert 'pip install "langmem-plugin[cli]"' in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_is_installed_as_a_module():
    """`python -m langmem_plugin.cli` is the same command."""
    done = subprocess.run(
        [sys.executable, "-m", "langmem_plugin.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == f"langmem-plugin {__version__}"
