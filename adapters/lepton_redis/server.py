"""The connection to a Redis or Valkey server, from a URI."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lepton_plugins.errors import InvalidInput, StateAway

T = TypeVar("T")

_SCHEMES = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}
_PERIOD = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
#: Seconds that an answer may take. Nobody who decides waits for it.
_TIMEOUT = 2.0
#: How long decisions can be rewarded where the URI doesn't say.
_TTL = 86_400


class Server:
    """One server at a URI such as `redis://:password@host:6379/0?ttl=1h`, `rediss://` for TLS.

    `ttl` says how long a decision may be rewarded, 1d where it isn't given. Thread-safe, and safe to fork.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        parts = urlsplit(uri)
        options = dict(parse_qsl(parts.query))
        given = options.pop("ttl", f"{_TTL}s")
        period = re.fullmatch(r"([1-9][0-9]*)(s|min|h|d)", given)
        if period is None:
            raise InvalidInput(f"Found ttl={given} in {self.name!r}, expected a time such as 1h or 7d.")
        self.ttl = int(period[1]) * _PERIOD[period[2]]
        url = urlunsplit((_SCHEMES[parts.scheme.lower()], parts.netloc, parts.path, urlencode(options), ""))
        try:
            self.client: Any = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT,
                socket_connect_timeout=_TIMEOUT,
                # One: a connection may have gone stale. Longer outages are waited out by whoever asks.
                retry=Retry(NoBackoff(), 1),
                client_name="lepton",
            )
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"Found {self.name!r}, which is no address of a server: {error}.") from None

    @property
    def name(self) -> str:
        """The address without what is secret in it."""
        parts = urlsplit(self.uri)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def key(self, model: str, *parts: str) -> str:
        """A key; those of one model are together on one node of a cluster."""
        return ":".join(["lepton", "{" + quote(model, safe="") + "}", *parts])

    def call(self, ask: Callable[[], T]) -> T:
        """What the server answers; StateAway where it doesn't, or can't."""
        try:
            return ask()
        except (redis.RedisError, OSError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise StateAway(self.name, reason) from None

    def close(self) -> None:
        self.client.close()
