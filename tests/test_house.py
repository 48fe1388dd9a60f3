"""The rules of the house that no linter holds."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("langmem_plugin", "integrations")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST = 450
UNSAFE_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
UNSAFE_CALLS = {("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("torch", "load"), ("os", "system")}

every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))


@every_module
def test_a_module_holds_one_idea(path):
    """No module is longer than 450 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@every_module
def test_nothing_stored_is_ever_executed(path):
    """No module reads a format that runs code: pickle and its kin, yaml.load, eval, exec."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                assert not {name.name.partition(".")[0] for name in names} & UNSAFE_IMPORTS
            case ast.ImportFrom(module=str(module)):
                assert module.partition(".")[0] not in UNSAFE_IMPORTS
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr=name)):
                assert (owner, name) not in UNSAFE_CALLS
            case ast.Call(func=ast.Name(id=name)):
                assert name not in {"eval", "exec", "__import__"}


@every_module
def test_public_names_are_sorted(path):
    """Where a module lists its public names they are sorted as ruff does, constants and classes first; none twice."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            names = list(ast.literal_eval(node.value))
            assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
            assert len(names) == len(set(names))


def test_the_packages_below_a_namespace_have_no_init():
    """Nothing of ours shadows the namespace that LlamaIndex's packages share."""
    for folder in ("integrations", "integrations/llama_index", "integrations/llama_index/memory"):
        assert not (ROOT / folder / "__init__.py").exists()


def test_the_changelog_knows_this_version():
    """CHANGELOG.md has a section for what is unreleased or for the version in pyproject.toml."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    sections = re.findall(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert "Unreleased" in sections or version[1] in sections


def test_ci_runs_what_developers_run():
    """.ci/run is executable and calls make check."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make --no-print-directory check" in script.read_text(encoding="utf-8")
