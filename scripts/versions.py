"""The adapters' tests against the oldest and newest versions of both frameworks: make versions.

Each row gets a virtual environment of its own, pip resolves it, the tests of both adapters
run in it, and a table in Markdown is printed at the end. Needs a package index and some
minutes a row; nothing here is part of `make check`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTED = ("tests/langchain", "tests/llama_index_tests")
NEEDED = ("langchain", "langchain-classic", "llama-index", "cli", "otel")
"""The package's extras that the tests need."""
ALSO = ("openai>=1", "pytest>=8.4", "pytest-asyncio>=1.0", "hypothesis>=6.130", "langchain-tests>=1")
SHOWN = ("langchain", "langchain-core", "langgraph", "llama-index-core", "llama-index-workflows", "pydantic")
TABLE = ROOT / "tests" / "matrix" / "versions.md"
ROWS = {
    "oldest": "the lower bounds of pyproject.toml",
    "oldest, newest pydantic": "the frameworks' lower bounds, pydantic as pip resolves it",
    "newest, pydantic 2.12": "what pip resolves, with pydantic's oldest",
    "newest": "what pip resolves",
    "newest released": "the newest of each, past what pip resolves",
}


def floors() -> dict[str, str]:
    """The oldest version that pyproject.toml allows, of each framework and of pydantic."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["langchain"], *extras["llama-index"]]
    found = (re.match(r"([\w-]+)>=([\d.]+)", requirement) for requirement in wanted)
    lowest = {match[1]: match[2] for match in found if match is not None}
    kept = ("langchain", "langchain-core", "llama-index-core", "pydantic")
    return {name: lowest[name] + ".0" * (2 - lowest[name].count(".")) for name in kept}


def pins(row: str) -> list[str]:
    """What the row asks for besides the package itself."""
    lowest = floors()
    if row.startswith("newest"):
        return [f"pydantic=={lowest['pydantic']}"] if "pydantic" in row else []
    if "newest pydantic" in row:
        del lowest["pydantic"]
    return [f"{name}=={version}" for name, version in lowest.items()]


def make(row: str, folder: Path) -> str:
    """Make the row's environment; gives pip's last lines if it cannot be resolved, else ""."""
    venv.create(folder, with_pip=True, clear=True)
    fault = install(folder, "--editable", f"{ROOT}[{','.join(NEEDED)}]", *ALSO, *pins(row))
    if row == "newest released" and not fault:
        return install(folder, "--no-deps", "--upgrade", "langchain<2", "langchain-core<2")
    return fault


def install(folder: Path, *wanted: str) -> str:
    """Have an environment's pip install; gives its last lines if it cannot."""
    pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)  # noqa: S603
    return "" if done.returncode == 0 else " ".join(done.stderr.strip().splitlines()[-3:])


def versions(folder: Path) -> dict[str, str]:
    """What was installed."""
    listed = subprocess.run(  # noqa: S603
        [str(folder / "bin" / "python"), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listed.stdout)}


def run(folder: Path, log: Path, *, old: bool) -> str:
    """Run the tests; gives pytest's last line, and keeps all that it said in `log`.

    Old versions warn of newer ones of what they stand on: warnings fail the newest rows alone.
    """
    warned = ["-W", "ignore"] if old else []
    done = subprocess.run(  # noqa: S603
        [str(folder / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *warned, *TESTED],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    last = done.stdout.strip().splitlines()[-1:] or ["no test ran"]
    return re.sub(r" in [\d.]+s.*", "", last[0])


def main() -> int:
    """Make, test and print; the exit code says whether every row passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "versions", help="where the environments go")
    parser.add_argument("--only", action="append", choices=sorted(ROWS), help="this row; may be repeated")
    parser.add_argument("--keep", action="store_true", help="keep the environments, and use those that are there")
    parser.add_argument("--write", action="store_true", help="keep the table for docs/frameworks.md")
    parser.add_argument("--no-tests", action="store_true", help="only make the environments")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    lines, good = [], True
    for row in asked.only or ROWS:
        folder = asked.folder / re.sub(r"\W+", "-", row)
        fault = "" if asked.keep and (folder / "bin" / "pytest").exists() else make(row, folder)
        if fault:
            print(f"{row}: {fault}", file=sys.stderr)
            result, found = "does not resolve", {}
        else:
            found = versions(folder)
            result = "" if asked.no_tests else run(folder, folder.with_suffix(".log"), old="oldest" in row)
        good = good and not re.search(r"failed|error|not resolve|no test", result)
        lines.append(f"| {row} | " + " | ".join(found.get(name, "-") for name in SHOWN) + f" | {result} |")
        print(lines[-1], file=sys.stderr)
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = page(lines)
    print(text)
    if asked.write:
        TABLE.write_text(text, encoding="utf-8")
    return 0 if good else 1


def page(lines: list[str]) -> str:
    """The section of docs/frameworks.md."""
    python = ".".join(map(str, sys.version_info[:3]))
    run = [row for row in ROWS if any(line.startswith(f"| {row} |") for line in lines)]
    meanings = "\n".join(f"- **{row}**: {ROWS[row]}." for row in run)
    head = "| | " + " | ".join(SHOWN) + " | tests of both adapters |\n|" + "---|" * (len(SHOWN) + 2)
    said = "`make versions` makes an environment for each row, as pip resolves it, and runs both adapters' tests in it."
    when = f"Python {python}, {dt.datetime.now(tz=dt.UTC):%Y-%m-%d}:"
    return "\n".join(["## Versions", "", said, when, "", head, *lines, "", meanings, ""])


if __name__ == "__main__":
    raise SystemExit(main())
