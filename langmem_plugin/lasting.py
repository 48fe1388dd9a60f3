"""How long a session lives."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from langmem_plugin.config import MAX_TTL_S
from langmem_plugin.engine import Engine
from langmem_plugin.errors import InvalidSetting
from langmem_plugin.records import SessionInfo, SessionKey, SessionQuery


def as_ttl(ttl: timedelta | float | None) -> timedelta | None:
    """A time to live as it was given; None for none.

    Raises:
        InvalidSetting: It is not a timedelta or a number of seconds, not more than 0, or longer than a hundred years.
    """
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    known = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not known or not 0.000_001 <= seconds <= MAX_TTL_S:
        raise InvalidSetting("ttl", ttl, f"give a timedelta, or seconds from 0.000001 to {MAX_TTL_S:,.0f}")
    return timedelta(seconds=seconds)


class Lasting:
    """The part of a session that is about its life."""

    _engine: Engine
    _key: SessionKey

    @property
    def info(self) -> SessionInfo | None:
        """What the session holds, when it was written to and when it ends; None if nobody wrote to it."""
        query = SessionQuery(owner=self._key.owner, session=self._key.session)
        return next(iter(self._engine.store.session_infos(query)), None)

    @property
    def expires_at(self) -> datetime | None:
        """When the session ends if nobody writes to it; None if it has no end, or does not exist yet."""
        info = self.info
        return None if info is None else info.expires_at

    def set_ttl(self, ttl: timedelta | float | None) -> None:
        """Let the session end so long after each write, or never.

        From then on it reads as one that nobody wrote to, and a write begins it anew; its bytes
        go with that write, or with the next `Memory.sweep`. Turns, their messages and
        constraints prolong it; reading, forgetting a message, summaries and embeddings do not.
        The owner's constraints that were stated in it stay. The time is kept with the session,
        for every process, and the id keeps it when it begins anew. Nothing is written if the
        session has this time already.

        Args:
            ttl: A timedelta or seconds; None for no end.

        Raises:
            InvalidSetting: It is not a time, not more than 0, or longer than a hundred years.
        """
        wanted = as_ttl(ttl)
        info = self.info
        if info is None or info.ttl != wanted:
            self._engine.store.set_ttl(self._key, wanted, now=self._engine.clock())
