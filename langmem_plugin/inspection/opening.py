"""Opening a memory to look at it: nothing works behind, nothing is made, no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.engine import Engine
from langmem_plugin.erasure import Eraser
from langmem_plugin.errors import InvalidSetting, StoreUnavailable
from langmem_plugin.keyring import KeyRing
from langmem_plugin.recall.recaller import Recaller
from langmem_plugin.records import Head, SessionKey
from langmem_plugin.store.opening import open_store
from langmem_plugin.tokens import as_counter


def _utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def opened(
    url: str,
    *,
    model: str = "gpt-4o",
    budget: Budget | None = None,
    clock: Callable[[], datetime] = _utc_now,
    encryption: KeyRing | None = None,
) -> Iterator[Engine]:
    """An engine for reading; recall is by keyword.

    Args:
        url: As for `Memory.open`; the database must be there.
        model: Whose tokens are counted.
        budget: Limits of the requests that are built; the defaults if not given.
        clock: The present moment.
        encryption: The key ring, if the database is encrypted.

    Raises:
        KeyUnavailable: The database is encrypted, and there is no ring.
        InvalidSetting: `sqlite://` names a database that ends with its process.
        StoreUnavailable: There is no such database.
    """
    prefix = "sqlite:///"
    if url == "sqlite://":
        raise InvalidSetting("url", url, "a memory without a file ends with its process; name a file")
    if url.startswith(prefix) and not Path(url.removeprefix(prefix).partition("?")[0]).is_file():
        raise StoreUnavailable(url, "there is no such file", "check the path; four slashes begin an absolute one")
    store = open_store(url, ring=encryption)
    try:
        config = MemoryConfig(budget=budget) if budget is not None else MemoryConfig()
        yield Engine(
            store=store,
            counter=as_counter(model),
            config=config,
            clock=clock,
            recaller=Recaller(store, config.recall),
            note=_nothing,
            erase=_nothing,
            eraser=Eraser(store, None, None, clock=clock, let_go=_nothing),
        )
    finally:
        store.close()


def find_session(engine: Engine, session_id: str, *, owner: str | None = None) -> SessionKey:
    """The key of a session that exists.

    Args:
        engine: Where to look.
        session_id: The session's id.
        owner: Whose; may be left out where only one owner has a session of this id.

    Raises:
        InvalidSetting: No owner, or more than one, has such a session.
    """
    found = [key for key in engine.store.keys(owner=owner) if key.session == session_id]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InvalidSetting("session", session_id, "no such session; without one, all of them are listed")
    owners = ", ".join(sorted(key.owner for key in found)[:5])
    raise InvalidSetting("owner", owner, f"several owners have a session {session_id!r} ({owners}); name one")


def _nothing(_key: SessionKey, _head: Head | None = None) -> None:
    """Reading leaves everything as it is."""
