"""The guard that keeps tests off the network."""

import asyncio
import socket
import threading

import pytest


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80, 0, 0)])
def test_other_machines_are_refused(address):
    """A connection to another machine is refused at once with a clear error."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client, pytest.raises(OSError, match="tests have no network"):
        client.connect(address)
    with socket.socket(family) as client, pytest.raises(OSError, match="tests have no network"):
        client.connect_ex(address)
    with socket.socket(family, socket.SOCK_DGRAM) as client, pytest.raises(OSError, match="tests have no network"):
        client.sendto(b"x", address)


def test_names_are_not_looked_up():
    """Looking up a name of another machine asks no server."""
    with pytest.raises(OSError, match=r"example\.org"):
        socket.create_connection(("example.org", 443), timeout=1)


async def test_asyncio_is_guarded():
    """asyncio's connections pass the same guard."""
    with pytest.raises(OSError, match="tests have no network"):
        await asyncio.open_connection("192.0.2.1", 80)


def test_loopback_passes():
    """Servers of this machine are reached, by number and by name."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answering = threading.Thread(target=lambda: [server.accept()[0].close() for _ in range(2)])
        answering.start()
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
        answering.join(5)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this platform has no Unix sockets")
def test_unix_sockets_pass(tmp_path):
    """Unix sockets are reached."""
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
