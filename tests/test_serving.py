"""`langmem-plugin serve`: loopback only, read-only unless told otherwise, nothing but its own forms."""

from __future__ import annotations

import http.client
import re
import threading
from urllib.parse import urlencode

import pytest

from langmem_plugin import Memory
from langmem_plugin.cli import main
from langmem_plugin.cli.serving import Site
from langmem_plugin.inspection.opening import opened
from langmem_plugin.messages import assistant


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with Memory.open(url) as memory:
        memory.session("trip & <b>", owner="ann").add("Never suggest flights.", assistant("<script>alert(1)</script>"))
    return url


@pytest.fixture(params=[False, True], ids=["read-only", "write"])
def site(url, request):
    with opened(url) as engine, Site(engine, port=0, write=request.param) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.shutdown()
        thread.join()


def ask(site, method, path, form=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", site.server_address[1], timeout=10)
    body = urlencode(form) if form is not None else None
    connection.request(method, path, body, {"Host": f"127.0.0.1:{site.server_address[1]}", **headers})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


SESSION = "/session?" + urlencode({"owner": "ann", "id": "trip & <b>"})


def test_pages(site):
    """Sessions, a session and an earlier request are shown, escaped, with headers that forbid everything else."""
    for path, part in (
        ("/", "trip &amp; &lt;b&gt;"),
        (SESSION, "Never suggest flights."),
        (SESSION + "&at=1", "Request"),
    ):
        answer, text = ask(site, "GET", path)
        assert answer.status == 200
        assert part in text
        assert "<script" not in text
        assert answer.getheader("Content-Security-Policy").startswith("default-src 'none'")
    for path in ("/nothing", "/session?owner=ann&id=absent", SESSION + "&at=99", SESSION + "&at=x"):
        assert ask(site, "GET", path)[0].status == 404


def test_it_answers_to_its_own_name_alone(site):
    """A name that somebody lets point here gets nothing (DNS rebinding); it listens on the loopback address."""
    assert site.server_address[0] == "127.0.0.1"
    assert ask(site, "GET", "/", Host="evil.example")[0].status == 403


def test_changes(site, url):
    """Without --write nothing changes; with it a form of the page revokes, and no other form does."""
    _, text = ask(site, "GET", SESSION)
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', text))
    if not site.write:
        assert form == {}
        assert ask(site, "POST", "/revoke", {"token": site.token})[0].status == 403
        return
    form |= {"id": "trip & <b>"}
    for wrong, status in (
        ({**form, "token": "x"}, 403),
        ({**form, "constraint": "c0"}, 404),
        ({**form, "id": "y"}, 404),
    ):
        assert ask(site, "POST", "/revoke", wrong)[0].status == status
    assert ask(site, "POST", "/forget", form)[0].status == 404
    assert ask(site, "POST", "/revoke", {**form, "more": "x" * 5_000})[0].status == 413
    assert ask(site, "POST", "/revoke", form)[0].status == 303
    assert "revoked at version" in ask(site, "GET", SESSION)[1]


def test_the_command(url, monkeypatch, capsys):
    """It says where it listens and ends with Ctrl-C; a port that is taken is one line."""

    def interrupted(self, timeout=None):
        raise KeyboardInterrupt

    with opened(url) as engine, Site(engine, port=0, write=False) as site:
        assert main(("serve", url, "--port", str(site.server_address[1]))) == 1
        assert "cannot be used" in capsys.readouterr().err
    monkeypatch.setattr("langmem_plugin.cli.serving.threading.Thread.join", interrupted)
    assert main(("serve", url, "--port", "0")) == 130
    assert "http://127.0.0.1:" in capsys.readouterr().out
