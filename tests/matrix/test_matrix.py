"""Every way into LangChain and LlamaIndex against every promise: the table of docs/frameworks.md, run."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import pytest

for needed in ("langchain", "langchain_classic", "llama_index.core", "deepagents"):
    pytest.importorskip(needed, reason=f"the matrix needs {needed}")

_spec = importlib.util.spec_from_file_location("matrix_table", Path(__file__).parent / "table.py")
table = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(table)
kit, WAYS = table.load_matrix()


def cells():
    fakes = kit.load(kit.FOLDER.parent / "llama_index_tests" / "conftest.py", "matrix_llama_index_fakes")
    for way in WAYS:
        for column in kit.COLUMNS:
            if column in way.absent:
                continue
            marks = []
            if column in way.except_:
                marks.append(pytest.mark.xfail(strict=True, reason=way.except_[column]))
            if way.framework == "LlamaIndex":
                marks += [pytest.mark.filterwarnings(one) for one in fakes.UPSTREAM]
            else:
                marks.append(pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning"))
            yield pytest.param(way, column, id=f"{way.name}: {column}", marks=marks)


@pytest.mark.parametrize(("way", "column"), list(cells()))
def test_cell(way, column, tmp_path):
    """The column's promise holds for this way in."""
    asyncio.run(kit.COLUMNS[column](way, f"sqlite:///{tmp_path / 'memory.db'}"))


def test_the_page_is_the_matrix():
    """docs/frameworks.md is what tests/matrix/table.py writes: no cell is empty and none claims more than was run."""
    assert table.PAGE.read_text(encoding="utf-8") == table.render()


def test_names_of_ways_differ():
    """Each row has a name of its own, and a reason beside every cell that is not a plain tick."""
    assert len({way.name for way in WAYS}) == len(WAYS)
    for way in WAYS:
        assert {*way.absent, *way.except_} <= set(kit.COLUMNS)
        assert all({**way.absent, **way.except_}.values())
