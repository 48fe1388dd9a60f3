"""`langmem-plugin serve`: a small page on this machine to look into a memory.

It listens on the loopback address alone, answers only to its own host name (so that a page
of somewhere else cannot reach it by a name that points here), sends no script and loads
nothing. Without `--write` it changes nothing.
"""

from __future__ import annotations

import argparse
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from langmem_plugin.cli.keys import ring_of
from langmem_plugin.config import Budget
from langmem_plugin.context.request_html import request_html
from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidSetting, LangmemPluginError
from langmem_plugin.inspection import read_session, read_timeline, session_html
from langmem_plugin.inspection.held import Held, request_at
from langmem_plugin.inspection.opening import opened
from langmem_plugin.markup import Html, Part, element, joined, number, page
from langmem_plugin.records import ConstraintState, SessionKey
from langmem_plugin.session import Session

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MOST_BODY = 4_096
_ACTIONS = {"revoke": ConstraintState.ACTIVE, "confirm": ConstraintState.PROPOSED}
"""What can be done, and to a constraint in which state."""


class _Refused(Exception):
    """An answer that is no page."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class Site(ThreadingHTTPServer):
    """The server; `serve_forever` and `shutdown` are those of the standard library.

    Args:
        engine: What it reads.
        port: On 127.0.0.1; 0 for any that is free.
        write: Whether constraints can be confirmed and revoked.
    """

    daemon_threads = True

    def __init__(self, engine: Engine, *, port: int, write: bool) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.engine = engine
        self.write = write
        self.token = secrets.token_urlsafe(24)
        """What a form must bring, so that only a page of ours can send it."""

    @property
    def address(self) -> str:
        """Where to look."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


def serve(arguments: argparse.Namespace) -> int:
    """Show the memory until Ctrl-C."""
    budget = Budget(max_tokens=arguments.budget, completion=0) if arguments.budget else None
    with opened(arguments.url, model=arguments.model, budget=budget, encryption=ring_of(arguments)) as engine:
        try:
            site = Site(engine, port=arguments.port, write=arguments.write)
        except OSError as error:
            raise InvalidSetting("--port", arguments.port, f"it cannot be used ({error.strerror})") from error
        with site:
            print(f"{site.address} ({'confirm and revoke' if arguments.write else 'read-only'}; Ctrl-C ends it)")
            thread = threading.Thread(target=site.serve_forever, daemon=True)
            thread.start()
            try:
                while thread.is_alive():
                    thread.join(0.5)
            finally:
                site.shutdown()
    return 0


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        """A page."""
        self._answer(self._page)

    def do_POST(self) -> None:
        """A change, and back to the page."""
        self._answer(self._change)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses hold names of owners and sessions (guarantee G14)."""

    def _answer(self, make: Any) -> None:
        try:
            self._check_host()
            status, body, headers = make()
        except _Refused as refused:
            status, body, headers = refused.status, page("Refused", element("h3", str(refused))), {}
        except LangmemPluginError as error:
            status, body, headers = HTTPStatus.NOT_FOUND, page("Not found", element("h3", str(error))), {}
        data = body.encode()
        self.send_response(status)
        for name, value in {**_HEADERS, **headers, "Content-Type": "text/html; charset=utf-8"}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _check_host(self) -> None:
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            raise _Refused(HTTPStatus.FORBIDDEN, "ask by 127.0.0.1 or localhost")

    def _page(self) -> tuple[HTTPStatus, str, dict[str, str]]:
        parts = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/":
            return HTTPStatus.OK, page("Sessions", self._sessions(asked.get("owner"))), {}
        if parts.path == "/session":
            key, held = self._held(asked)
            if "at" in asked:
                return HTTPStatus.OK, page(f"{key.session} at {asked['at']}", *self._request(held, asked["at"])), {}
            return HTTPStatus.OK, page(key.session, *self._session(key, held)), {}
        raise _Refused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _sessions(self, owner: str | None) -> Html:
        store = self.server.engine.store
        rows = []
        for key in reversed(store.keys(owner=owner)):
            head = store.head(key)
            rows.append(
                element(
                    "tr",
                    element("td", element("a", key.owner, href="/?" + urlencode({"owner": key.owner}))),
                    element("td", element("a", key.session, href=_address(key))),
                    element("td", number(head.last_seq), class_="num"),
                    element("td", number(len(store.active_constraints(key))), class_="num"),
                )
            )
        head_row = element("tr", *(element("th", name) for name in ("owner", "session")))
        return joined(
            element("h1", f"Sessions of {owner}" if owner else "Sessions"),
            element("nav", element("a", "all owners", href="/")) if owner else None,
            element("table", element("thead", head_row), element("tbody", *rows)) if rows else "none yet",
        )

    def _held(self, asked: dict[str, str]) -> tuple[SessionKey, Held]:
        key = SessionKey(asked.get("owner", ""), asked.get("id", ""))
        if key not in self.server.engine.store.keys(owner=key.owner):
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such session")
        return key, read_session(self.server.engine, key)

    def _session(self, key: SessionKey, held: Held) -> list[Part]:
        timeline = read_timeline(self.server.engine, held)
        actions = [self._action(key, c.id, c.state) for c in held.constraints] if self.server.write else ()
        earlier = [moment.version for moment in timeline.moments if moment.kind == "turn"][-12:]
        links = [(" ", element("a", str(version), href=_address(key, at=version))) for version in earlier]
        return [
            element("nav", element("a", "all sessions", href="/"), " · the request at version", *links),
            session_html(timeline, held, actions=actions),
        ]

    def _request(self, held: Held, version: str) -> list[Part]:
        if not (version.isascii() and version.isdecimal() and int(version) <= held.head.version):
            raise _Refused(HTTPStatus.NOT_FOUND, f"give a version from 0 to {held.head.version}")
        back = element("nav", element("a", "the session", href=_address(held.key)))
        return [back, request_html(request_at(self.server.engine, held, int(version)))]

    def _action(self, key: SessionKey, constraint_id: str, state: ConstraintState) -> Part:
        name = next((name for name, of in _ACTIONS.items() if of is state), None)
        if name is None:
            return None
        fields = {"token": self.server.token, "owner": key.owner, "id": key.session, "constraint": constraint_id}
        inputs = [element("input", type="hidden", name=field, value=value) for field, value in fields.items()]
        return element("form", *inputs, element("button", name), method="post", action=f"/{name}")

    def _change(self) -> tuple[HTTPStatus, str, dict[str, str]]:
        if not self.server.write:
            raise _Refused(HTTPStatus.FORBIDDEN, "this page is read-only; start it with --write")
        size = self.headers.get("Content-Length", "")
        if not size.isdecimal() or int(size) > _MOST_BODY:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the form is too large")
        asked = {
            name: values[0] for name, values in parse_qs(self.rfile.read(int(size)).decode("utf-8", "replace")).items()
        }
        if not secrets.compare_digest(asked.get("token", "").encode(), self.server.token.encode()):
            raise _Refused(HTTPStatus.FORBIDDEN, "the form is not of this page")
        action = urlsplit(self.path).path.removeprefix("/")
        if action not in _ACTIONS:
            raise _Refused(HTTPStatus.NOT_FOUND, "there is no such action")
        key, _ = self._held(asked)
        session = Session(self.server.engine, key)
        (session.revoke if action == "revoke" else session.confirm)(asked.get("constraint", ""))
        return HTTPStatus.SEE_OTHER, page("Done"), {"Location": _address(key)}


def _address(key: SessionKey, **more: object) -> str:
    return "/session?" + urlencode({"owner": key.owner, "id": key.session, **more})
