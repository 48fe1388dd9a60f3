"""The documentation as a site: it builds offline without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("mkdocs", reason="the site needs mkdocs")
pytest.importorskip("material", reason="the site needs mkdocs-material")
pytest.importorskip("mkdocstrings", reason="the site needs mkdocstrings")


def test_the_site_builds(repository, tmp_path):
    """Strict: each page is in the navigation, each link and anchor leads somewhere, each name of the API is found."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.search(
            r"<(?:script|link|img|iframe)[^>]*(?:src|href)=.?(?:https?:)?//(?![^>]*canonical)", text
        ), page
    engine = (tmp_path / "site" / "api" / "engine.html").read_text(encoding="utf-8")
    for name in (
        "langmem_plugin.Memory.open",
        "langmem_plugin.Session.context",
        "langmem_plugin.errors.BudgetTooSmall",
    ):
        assert f'id="{name}"' in engine
