"""The address of a Redis database: server and key prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from langmem_plugin.errors import InvalidSetting

_FORM = "give redis://user:password@host:6379/0?prefix=langmem (rediss:// for TLS)"
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    """What an address says."""

    server: str
    """For the client: without the prefix."""
    shown: str
    """For people: the password hidden."""
    prefix: str
    """What every key begins with."""


def parse_redis_url(url: str) -> RedisUrl:
    """Read an address.

    Args:
        url: `redis://...` or `rediss://...`, with `prefix` as a query parameter if wanted.

    Raises:
        InvalidSetting: It is no such address, or a parameter cannot work.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidSetting("url", _without_password(url), _FORM) from error
    shown = _without_password(url)
    if parts.scheme not in ("redis", "rediss") or not host or parts.fragment:
        raise InvalidSetting("url", shown, _FORM)
    if parts.path.strip("/") and not re.fullmatch(r"/[0-9]{1,4}", parts.path):
        raise InvalidSetting("url", shown, f"the path is the number of a database; {_FORM}")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    prefix = given.pop("prefix", "langmem")
    unknown = sorted(given.keys() - set(_TLS if parts.scheme == "rediss" else ()))
    if unknown:
        raise InvalidSetting("url", shown, f"it knows no parameter {unknown[0]!r}; {_FORM}")
    if not _PREFIX.fullmatch(prefix):
        raise InvalidSetting("prefix", prefix, "give 1 to 64 letters, digits or any of _ . : -")
    where = parts.netloc if port else f"{parts.netloc.removesuffix(':')}:6379"
    server = urlunsplit((parts.scheme, where, parts.path or "/0", urlencode(given), ""))
    return RedisUrl(server=server, shown=shown, prefix=prefix)


def _without_password(url: str) -> str:
    return re.sub(r"^(\w+://[^:/?#]*):.*@", r"\1:***@", url)
