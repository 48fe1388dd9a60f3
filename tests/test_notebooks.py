"""The notebooks of examples/ run as they stand, offline, and show what they promise."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebooks need nbformat")
nbclient = pytest.importorskip("nbclient", reason="the notebooks need nbclient")
pytest.importorskip("ipykernel", reason="the notebooks need ipykernel")

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SHOWN = {
    "langchain_agent.ipynb": (
        "Session dinner of ann",
        "Recalled for the new message",
        "none of them reads or writes it",
    ),
    "llamaindex_chat_engine.ipynb": ("Never suggest flights.", "revoked", "Session trip of ann"),
    "evaluating_memory.ipynb": ("image/png", "compressions in"),
}

pytestmark = pytest.mark.filterwarnings("ignore")  # of Jupyter's own packages


def test_every_notebook_is_here():
    """No notebook is left unrun."""
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    """Each cell runs without an error or a warning; the views and the plots are there."""
    if name == "evaluating_memory.ipynb":
        pytest.importorskip("matplotlib", reason="the plots need matplotlib")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in sys.path if part))
    monkeypatch.setenv("PYTHONWARNINGS", "error:::langmem_plugin")
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "notebooks are kept without outputs"
    # This interpreter, whatever kernels are installed on the machine.
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

    spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="here",
        language="python",
    )
    monkeypatch.setattr(KernelSpecManager, "get_kernel_spec", lambda self, name: spec)
    client = nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    text = str(notebook.cells)
    assert "stderr" not in [out.get("name") for cell in notebook.cells for out in cell.get("outputs", ())], text
    for part in SHOWN[name]:
        assert part in text
