"""Who may do what: deny by default, decided on the path as it was routed."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from enum import Enum
from typing import Literal
from urllib.parse import urlsplit

from lepton_plugins.errors import Forbidden, TokenRequired
from lepton_plugins.serving.settings import ServingSettings


class Permission(Enum):
    """What a route asks of its caller."""

    PUBLIC = "public"
    """Anyone who reaches the server."""
    FORCE = "force"
    """Choosing the version oneself: as the plan's guard says."""
    ADMIN = "admin"
    """Reading the plan, asking why, telling what became of a decision."""


class Access:
    """Checks a request's headers against a permission.

    With a token set up, force and admin need it. Without one they are for this machine only. Admin
    routes also check Host and Origin against an exact list, on loopback too: a page that rebinds its
    name to 127.0.0.1 is refused.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._token = settings.token.get_secret_value().encode() if settings.token else None
        self._loopback = settings.loopback
        own = settings.host.strip("[]").lower()
        self._hosts = {"localhost", "127.0.0.1", "::1", *(name.lower() for name in settings.allowed_hosts)}
        if own not in ("0.0.0.0", "::", "") and not own.startswith("/"):
            self._hosts.add(own)

    def check(
        self, permission: Permission, headers: Mapping[bytes, bytes], guard: Literal["open", "token", "closed"]
    ) -> None:
        """Raises Forbidden or TokenRequired unless the request has the permission."""
        if permission is Permission.ADMIN:
            self._check_origin(headers)
            self._check_token(headers)
        elif permission is Permission.FORCE:
            if guard == "closed":
                raise Forbidden("This plan lets nobody choose the version (around.guard: closed).")
            if guard == "token" and self._token is None:
                raise Forbidden(
                    "This plan lets only holders of the token choose the version, and the server was started "
                    "without one: set LEPTON_TOKEN."
                )
            self._check_token(headers)

    def _check_token(self, headers: Mapping[bytes, bytes]) -> None:
        if self._token is None:
            if not self._loopback:
                raise Forbidden(
                    "This needs a token, and the server was started without one: set LEPTON_TOKEN, or bind to loopback."
                )
            return
        scheme, _, found = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(found.strip(), self._token):
            raise TokenRequired

    def _check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        if _hostname("//" + host) not in self._hosts:
            found = f"The host {host[:100]!r} isn't one that this server answers admin requests for"
            raise Forbidden(f"{found}; --allowed-host adds one.")
        origin = headers.get(b"origin")
        if origin is not None and _hostname(origin.decode("latin-1")) not in self._hosts:
            raise Forbidden("Requests from other sites' pages are refused here.")


def _hostname(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018  # Raises ValueError for a port that is none.
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname
