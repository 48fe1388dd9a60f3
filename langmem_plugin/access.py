"""Keys to sessions, for applications that hand them to browsers: a secret that opens one owner's sessions."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from langmem_plugin.engine import Engine, check_name
from langmem_plugin.errors import InvalidSetting, KeyRefused, StoreClosed
from langmem_plugin.lasting import as_ttl
from langmem_plugin.records import AccessKey, SessionKey

_FORM = re.compile(r"lmk_([0-9a-f]{24})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"").hexdigest()
"""What an absent key is compared with, so that it takes as long as one that is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A key as it is handed out, once: only its digest is kept."""

    secret: str = field(repr=False)
    """What opens the session: 256 random bits. Treat it as a password."""
    id: str
    """Names it in lists and to revoke it."""
    owner: str
    session: str | None
    expires_at: datetime | None


class Access:
    """The part of a memory that issues and revokes keys."""

    _engine: Engine
    _closed: bool

    def issue_key(
        self, *, owner: str, session: str | None = None, expires_in: timedelta | float | None = None
    ) -> IssuedKey:
        """Issue a key that opens an owner's session, to be handed to a browser or another service.

        Args:
            owner: Whose sessions it opens.
            session: The one session that it opens; without it, any of the owner's.
            expires_in: How long it is good for, as a timedelta or in seconds; None: until it is revoked.

        Returns:
            The key with its secret, which is kept nowhere: it cannot be shown again.

        Raises:
            InvalidSetting: An argument cannot work.
        """
        if self._closed:
            raise StoreClosed
        check_name("owner", owner)
        if session is not None:
            check_name("session", session)
        try:
            lasts = as_ttl(expires_in)
        except InvalidSetting as error:
            raise InvalidSetting("expires_in", error.given, error.want) from None
        now = self._engine.clock()
        id, random = secrets.token_hex(12), secrets.token_urlsafe(32)
        ends = None if lasts is None else now + lasts
        self._engine.store.add_key(
            AccessKey(id=id, owner=owner, session=session, digest=_digest(random), created_at=now, expires_at=ends)
        )
        return IssuedKey(secret=f"lmk_{id}_{random}", id=id, owner=owner, session=session, expires_at=ends)

    def list_keys(self, *, owner: str, session: str | None = None) -> list[AccessKey]:
        """An owner's keys, or those of one session alone, in the order of issue, expired ones included.

        Raises:
            InvalidSetting: A name cannot be one.
        """
        check_name("owner", owner)
        if session is not None:
            check_name("session", session)
        return self._engine.store.access_keys(owner=owner, session=session)

    def revoke_keys(self, *, owner: str, session: str | None = None, id: str | None = None) -> int:
        """Revoke an owner's keys, those of one session, or that one; in force at once, in every process.

        Args:
            owner: Whose.
            session: Only keys of this session alone.
            id: Only this one; of another owner's, nothing is revoked.

        Returns:
            How many.

        Raises:
            InvalidSetting: A name cannot be one.
        """
        for name, value in (("owner", owner), ("session", session), ("id", id)):
            if value is not None or name == "owner":
                check_name(name, value)
        return self._engine.store.end_keys(owner=owner, session=session, id=id)


def opened_by(engine: Engine, secret: object, session: str | None) -> SessionKey:
    """The session that a key opens.

    Raises:
        KeyRefused: It opens none, or another one.
    """
    form = _FORM.fullmatch(secret) if isinstance(secret, str) else None
    access = None if form is None else engine.store.key_of(form[1])
    known = access is not None and (access.expires_at is None or access.expires_at > engine.clock())
    same = hmac.compare_digest(_digest("" if form is None else form[2]), _NOBODY if access is None else access.digest)
    if access is None or not known or not same:
        raise KeyRefused
    wanted = access.session if session is None else session
    if wanted is None or access.session not in (None, wanted):
        raise KeyRefused
    return SessionKey(access.owner, wanted)


def _digest(random: str) -> str:
    return hashlib.sha256(random.encode()).hexdigest()
