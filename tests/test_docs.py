"""README and docs: every Python block runs, every link leads somewhere, every public name is explained."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import shlex
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

import langmem_plugin
from langmem_plugin import errors

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md"]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^)\s]+)\)")
_CODE_SPAN = re.compile(r"`[^`\n]*`")
_LONGEST_EXAMPLE = 15


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    info: str
    code: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start("body")) + 1, found["info"].strip(), found["body"])
        for found in _FENCE.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks, so that a comment in code is no heading and no link."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (candidate := f"{slug}-{number}" if number else slug) in found:
            number += 1
        found.add(candidate)
    return found


# LlamaIndex's workflows look at every attribute of an agent, pydantic's deprecated ones too.
@pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_python_block_runs(page, tmp_path, monkeypatch):
    """The Python blocks of a page run in their order and in one namespace, offline and without a warning."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("docs_" + page.stem.lower())
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in blocks(page):
        if block.info == "python":
            source = "\n" * (block.line - 1) + block.code  # so that a traceback has the page's line
            exec(compile(source, str(page), "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_says_why(page):
    """A Python block is either run or marked `no-run`, and then its first line is a comment with the reason."""
    for block in blocks(page):
        if block.info.startswith("python") and block.info != "python":
            assert block.info == "python no-run", f"{name_of(page)}:{block.line}: {block.info}"
            assert block.code.startswith("# Not run: "), f"{name_of(page)}:{block.line}: say why it is not run"


def test_few_blocks_are_not_run():
    """Not one Python block in ten is left unexecuted."""
    infos = [block.info for page in PAGES for block in blocks(page) if block.info.startswith("python")]
    assert infos.count("python no-run") * 10 < len(infos)


def test_the_readmes_examples_are_short():
    """README has an example for each framework, and each is under 15 lines."""
    examples = [block.code for block in blocks(ROOT / "README.md") if block.info == "python"]
    for name in ("HybridMemoryMiddleware", "HybridChatMemoryBuffer"):
        assert any(name in code for code in examples)
    for code in examples:
        assert len(code.splitlines()) < _LONGEST_EXAMPLE


@pytest.mark.parametrize("page", LINKED, ids=name_of)
def test_links_lead_somewhere(page):
    """Each relative link names a file of the repository, and each anchor a heading of that file."""
    for target in _LINK.findall(_CODE_SPAN.sub("", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)}: {target}"


def test_make_targets_exist():
    """Each `make TARGET` that a page names is in the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)(?=`|$|\s+#)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert named <= targets, f"{name_of(page)}: {named - targets}"


def test_commands_are_understood(tmp_path, monkeypatch):
    """Each `langmem-plugin` command of a shell block is one that the command line takes."""
    arguments = pytest.importorskip("langmem_plugin.cli.arguments")
    monkeypatch.chdir(tmp_path)
    for page in PAGES:
        for block in blocks(page):
            for line in block.code.splitlines() if block.info == "sh" else ():
                words = shlex.split(line, comments=True)
                if words[:1] == ["langmem-plugin"]:
                    for word in words:
                        if word.endswith("/"):
                            Path(word).mkdir(exist_ok=True)
                    try:
                        arguments.parser().parse_args(words[1:])
                    except SystemExit:
                        pytest.fail(f"{name_of(page)}: {line}")


def test_files_that_pages_name_exist():
    """Each test, example and benchmark that a page names in code type is in the repository."""
    for page in PAGES:
        for file in re.findall(r"`((?:tests|examples)/[\w./]+)`", prose(page)):
            assert (ROOT / file).exists(), f"{name_of(page)}: {file}"


def test_each_guarantee_has_its_heading():
    """docs/guarantees.md has one numbered heading for each of G1 to G14, in order, and README a row for each."""
    headings = re.findall(r"^## (G\d+)\. ", prose(ROOT / "docs" / "guarantees.md"), re.MULTILINE)
    assert headings == [f"G{number}" for number in range(1, 15)]
    rows = re.findall(r"^\| \[(G\d+)\]", prose(ROOT / "README.md"), re.MULTILINE)
    assert rows == headings


def mentioned(*pages: Path) -> set[str]:
    return set(re.findall(r"\w+", "\n".join(page.read_text(encoding="utf-8") for page in pages)))


def test_every_public_name_is_mentioned():
    """Whatever `from langmem_plugin import` offers is in the docs."""
    assert set(langmem_plugin.__all__) <= mentioned(*PAGES)


@pytest.mark.parametrize(
    ("module", "page"),
    [("langchain_langmem_plugin", "langchain.md"), ("llama_index.memory.langmem_plugin", "llamaindex.md")],
)
def test_every_name_of_an_adapter_is_on_its_page(module, page):
    """Whatever an adapter offers is on that adapter's page."""
    pytest.importorskip(module)
    assert set(importlib.import_module(module).__all__) <= mentioned(ROOT / "docs" / page)


def test_every_error_is_on_the_errors_page():
    """docs/errors.md has each class of the tree."""
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LangmemPluginError)
    }
    assert tree <= mentioned(ROOT / "docs" / "errors.md")


def public_modules() -> list[str]:
    names = ["langmem_plugin", *(one.name for one in pkgutil.walk_packages(langmem_plugin.__path__, "langmem_plugin."))]
    return [name for name in names if not any(part.startswith("_") for part in name.split("."))]


@pytest.mark.parametrize(
    "name", [*public_modules(), "langchain_langmem_plugin", "llama_index.memory.langmem_plugin.base"]
)
def test_docstrings_run(name, tmp_path, monkeypatch):
    """The examples in a module's docstrings give what they say."""
    monkeypatch.chdir(tmp_path)
    try:
        module = importlib.import_module(name)
    except errors.MissingExtra as error:
        pytest.skip(str(error))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
