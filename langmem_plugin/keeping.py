"""What a memory keeps, for whom, and until when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import get_args

from langmem_plugin.chat_models import as_chat_model
from langmem_plugin.engine import Engine, check_name
from langmem_plugin.errors import InvalidSetting, StoreClosed
from langmem_plugin.profile import Profile, build_profile
from langmem_plugin.records import OwnerInfo, Receipt, SessionInfo, SessionOrder, SessionQuery


class Keeping:
    """The part of a memory that lists and sweeps."""

    _engine: Engine
    _closed: bool

    def sessions(self, *, owner: str) -> list[str]:
        """The ids of an owner's sessions, oldest first."""
        return [key.session for key in self._engine.store.keys(owner=owner)]

    def list_sessions(
        self,
        *,
        owner: str | None = None,
        prefix: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        order: SessionOrder = "created",
        newest_first: bool = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[SessionInfo]:
        """Sessions with what they hold: messages, tokens, constraints, when they were written to and when they end.

        Args:
            owner: Whose; everybody's if not given, which is for administration and not for a user's request.
            prefix: Ids that begin so.
            since: Last written to then or later; an aware time.
            until: Last written to before.
            order: "created", "updated" (last written to) or "name" (by code points).
            newest_first: The other way round.
            limit: At most so many.
            offset: Leave out so many first ones, for pages.

        Raises:
            InvalidSetting: An argument cannot work.

        Example:
            >>> from langmem_plugin import Memory
            >>> with Memory.open() as memory:
            ...     version = memory.session("trip", owner="ann").add("I live in Lyon.")
            ...     [(info.session, info.messages) for info in memory.list_sessions(owner="ann")]
            [('trip', 1)]
        """
        _check_page(limit, offset)
        if owner is not None:
            check_name("owner", owner)
        if prefix:
            check_name("prefix", prefix)
        if order not in get_args(SessionOrder):
            raise InvalidSetting("order", order, f"use one of {', '.join(get_args(SessionOrder))}")
        for name, moment in (("since", since), ("until", until)):
            if moment is not None and (not isinstance(moment, datetime) or moment.tzinfo is None):
                raise InvalidSetting(name, moment, "give a datetime with a time zone")
        return self._engine.store.session_infos(
            SessionQuery(
                owner=owner,
                prefix=prefix,
                since=since,
                until=until,
                order=order,
                newest_first=newest_first,
                limit=limit,
                offset=offset,
            )
        )

    def owners(self, *, prefix: str = "", limit: int | None = None, offset: int = 0) -> list[OwnerInfo]:
        """Who has sessions or constraints here, with their counts, by name; for administration.

        Args:
            prefix: Names that begin so.
            limit: At most so many.
            offset: Leave out so many first ones, for pages.

        Raises:
            InvalidSetting: An argument cannot work.
        """
        _check_page(limit, offset)
        if prefix:
            check_name("prefix", prefix)
        return self._engine.store.owner_infos(prefix=prefix, limit=limit, offset=offset)

    def profile(
        self, *, owner: str, max_tokens: int | None = None, without: str | None = None, model: object | None = None
    ) -> Profile:
        """What the owner's sessions say of them: facts, preferences, goals and the beginnings of summaries.

        Made from what is held now, so a statement that is revoked or forgotten is out of it at once;
        `version` tells whether it is another than before. With `ProfileConfig(enabled=True)` a request
        shows it, as data, with a new message.

        Args:
            owner: Whose; no other owner's session is read.
            max_tokens: For all lines; the configured number if not given.
            without: A session to leave out, such as the one it is for.
            model: Joins and shortens the lines, any model that `Memory.open` takes; called here, so not
                where somebody waits. What it says in other words than the lines' own is not used.

        Raises:
            InvalidSetting: The owner's name cannot be one, `max_tokens` is not more than 0, or no such model.
            ModelFailed: The model failed.

        Example:
            >>> from langmem_plugin import Memory
            >>> with Memory.open() as memory:
            ...     version = memory.session("trip", owner="ann").add("I'm allergic to peanuts.")
            ...     [line.text for line in memory.profile(owner="ann").lines]
            ["I'm allergic to peanuts."]
        """
        check_name("owner", owner)
        settings = self._engine.config.profile
        most = settings.max_tokens if max_tokens is None else max_tokens
        if not isinstance(most, int) or isinstance(most, bool) or most < 1:
            raise InvalidSetting("max_tokens", max_tokens, "give a number of tokens from 1 on")
        return build_profile(
            self._engine,
            owner,
            without=without,
            max_tokens=most,
            sessions=settings.sessions,
            model=as_chat_model(model),
        )

    def sweep(self, *, progress: Callable[[int], object] | None = None) -> tuple[Receipt, ...]:
        """Forget every session whose time to live is over, and look for its bytes in every file.

        As `forget` does for one, for all of them at once: the vector index is built anew once,
        and files are read once for some 64 million characters that were forgotten. A session
        that is written to meanwhile stays. Run it from time to time, in one process.

        Args:
            progress: Called with how many sessions are forgotten, after each hundred at most.

        Returns:
            Receipts, usually one; () if no session's time was over.

        Raises:
            VectorsLocked: Another process has the index open; nothing was forgotten.
        """
        if self._closed:
            raise StoreClosed
        return self._engine.eraser.sweep(progress)


def _check_page(limit: int | None, offset: int) -> None:
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise InvalidSetting(name, value, "give a number from 0 on")
