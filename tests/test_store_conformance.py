"""Every backend runs the whole conformance suite."""

from __future__ import annotations

import pytest

from langmem_plugin.testing.stores import StoreConformance


class TestSqliteFile(StoreConformance):
    """A SQLite file."""

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path / 'memory.db'}"


class TestPostgres(StoreConformance):
    """A database of a real PostgreSQL server."""

    @pytest.fixture
    def url(self, postgres_url):
        return postgres_url


class TestRedis(StoreConformance):
    """A key prefix of a real Redis server."""

    @pytest.fixture
    def url(self, redis_url):
        return redis_url
