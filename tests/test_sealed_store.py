"""The conformance suite on a SQLite file whose texts are sealed."""

from __future__ import annotations

import pytest

from langmem_plugin import Memory
from langmem_plugin.keyring import FolderKeyRing
from langmem_plugin.testing.stores import StoreConformance


class TestSealedSqlite(StoreConformance):
    """A SQLite file, opened with a key ring each time."""

    @pytest.fixture
    def url(self, tmp_path, monkeypatch):
        ring, plain = FolderKeyRing(tmp_path / "keys"), Memory.open.__func__
        sealed = classmethod(lambda cls, *given, **more: plain(cls, *given, encryption=ring, **more))
        monkeypatch.setattr(Memory, "open", sealed)
        return f"sqlite:///{tmp_path / 'memory.db'}"
