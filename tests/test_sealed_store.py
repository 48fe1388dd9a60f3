"""The conformance suite on databases whose texts are sealed."""

from __future__ import annotations

import pytest

from langmem_plugin import Memory
from langmem_plugin.keyring import FolderKeyRing
from langmem_plugin.testing.stores import StoreConformance


@pytest.fixture
def sealed(tmp_path, monkeypatch):
    """Every memory is opened with one key ring."""
    ring, plain = FolderKeyRing(tmp_path / "keys"), Memory.open.__func__
    opened = classmethod(lambda cls, *given, **more: plain(cls, *given, encryption=ring, **more))
    monkeypatch.setattr(Memory, "open", opened)


class TestSealedSqlite(StoreConformance):
    """A SQLite file."""

    @pytest.fixture
    def url(self, tmp_path, sealed):
        return f"sqlite:///{tmp_path / 'memory.db'}"


class TestSealedRedis(StoreConformance):
    """A key prefix of a real Redis server."""

    @pytest.fixture
    def url(self, redis_url, sealed):
        return redis_url
