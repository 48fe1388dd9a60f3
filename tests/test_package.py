"""The built wheel: what is in it, and that it imports elsewhere, with and without each framework."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the package build is not installed")

FRAMEWORKS = ("langchain_core", "langchain", "langchain_classic", "langgraph", "llama_index.core")
ADAPTERS = {
    "langchain_langmem_plugin": (("langchain_core", "langchain", "langchain_classic", "langgraph"), "langchain"),
    "llama_index.memory.langmem_plugin": (("llama_index.core",), "llama-index"),
}

BLOCK = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == absent or name.startswith(absent + ".") for absent in {absent!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def _run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """The wheel, built from this tree without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, repository, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory) -> Path:
    """A fresh environment with the wheel in it; dependencies come from this one, the repository does not."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "env", with_pip=False, symlinks=True)
    folder = "Scripts" if sys.platform == "win32" else "bin"
    python = home / "env" / folder / ("python.exe" if sys.platform == "win32" else "python")
    _run(
        *(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"),
        *("install", "--quiet", "--no-deps", "--no-index", wheel),
        cwd=home,
    )
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    # A path file of ours: those of the other environment (an editable install) are not followed from here.
    paths = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "zz_dependencies.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")
    return python


@pytest.fixture(scope="module")
def python(elsewhere, repository):
    """Runs code in the fresh environment, outside of the repository, with some packages absent."""

    def run(code: str, *, absent: tuple[str, ...] = ()) -> str:
        script = BLOCK.format(absent=absent) + code
        done = subprocess.run(
            [str(elsewhere), "-I", "-c", script],
            cwd=elsewhere.parent,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": "", "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr
        assert str(repository) not in done.stdout
        return done.stdout.strip()

    return run


def _files(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_what_is_in_the_wheel(wheel):
    """The wheel holds the packages, their type marker and the licence; no tests, examples or docs."""
    files = _files(wheel)
    tops = {name.split("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} <= {
        "langmem_plugin",
        "langchain_langmem_plugin",
        "llama_index",
    }
    assert "langmem_plugin/py.typed" in files
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)
    for name in files:
        assert not {"tests", "examples", "docs", "__pycache__"} & set(name.split("/")), name
    for namespace in ("llama_index/__init__.py", "llama_index/memory/__init__.py"):
        assert namespace not in files


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_are_typed(wheel, adapter):
    """Each adapter is in the wheel with its type marker."""
    files = _files(wheel)
    folder = adapter.replace(".", "/")
    if f"{folder}/__init__.py" not in files:
        pytest.skip(f"{adapter} is not in this tree")
    assert f"{folder}/py.typed" in files


def test_the_metadata_has_every_extra(wheel, repository):
    """Every extra of pyproject.toml, the Python bound and the command are in the metadata."""
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
        commands = archive.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert set(metadata.get_all("Provides-Extra") or ()) == set(project["optional-dependencies"])
    assert metadata["Requires-Python"] == project["requires-python"]
    assert metadata["Version"] == project["version"]
    assert "langmem-plugin = langmem_plugin.cli:main" in commands


def test_the_core_imports_without_any_framework(python):
    """With neither framework installed every module of the core imports, from the wheel."""
    code = (
        "import importlib, pkgutil, langmem_plugin\n"
        "from langmem_plugin.errors import MissingExtra\n"
        "for module in pkgutil.walk_packages(langmem_plugin.__path__, 'langmem_plugin.'):\n"
        "    try:\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "    except MissingExtra as error:\n"
        "        assert module.name.startswith(('langmem_plugin.demo', 'langmem_plugin.evaluation')), module.name\n"
        "        assert 'pip install' in str(error)\n"
        "print(langmem_plugin.__file__)\n"
    )
    assert "site-packages" in python(code, absent=(*FRAMEWORKS, "sentence_transformers", "torch", "transformers"))


def test_importing_the_core_imports_no_framework(python):
    """With both frameworks installed, importing the core loads neither of them nor torch."""
    code = (
        "import sys, langmem_plugin, langmem_plugin.config, langmem_plugin.tokens\n"
        "heavy = {'langchain_core', 'langchain', 'langgraph', 'llama_index', 'torch', 'transformers'}\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & heavy))\n"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_without_its_framework_names_the_extra(python, wheel, adapter):
    """Importing an adapter without its framework is a MissingExtra that names the extra to install."""
    if adapter.replace(".", "/") + "/__init__.py" not in _files(wheel):
        pytest.skip(f"{adapter} is not in this tree")
    absent, extra = ADAPTERS[adapter]
    code = (
        "from langmem_plugin.errors import MissingExtra\n"
        f"try:\n    import {adapter}\n"
        "except MissingExtra as error:\n    print(error)\n"
        "else:\n    print('imported')\n"
    )
    assert f'pip install "langmem-plugin[{extra}]"' in python(code, absent=absent)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_needs_only_its_own_framework(python, wheel, adapter):
    """Each adapter imports with its own framework there and the other one absent, all its public names too."""
    if adapter.replace(".", "/") + "/__init__.py" not in _files(wheel):
        pytest.skip(f"{adapter} is not in this tree")
    needed, _ = ADAPTERS[adapter]
    other = tuple(name for name in FRAMEWORKS if name not in needed)
    code = (
        f"import importlib\nmodule = importlib.import_module({adapter!r})\n"
        "for name in module.__all__:\n    getattr(module, name)\n"
        "print(module.__file__)\n"
    )
    try:
        top = needed[0]
        __import__(top)
    except ImportError:
        pytest.skip(f"{top} is not installed")
    assert "site-packages" in python(code, absent=other)
