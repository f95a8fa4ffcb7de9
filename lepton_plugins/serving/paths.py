"""From a request's method and path to its route."""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.types import Scope

from lepton_plugins.errors import MethodNotAllowed, RequestInvalid, RouteNotFound
from lepton_plugins.serving.access import Permission
from lepton_plugins.serving.route import Route
from lepton_plugins.serving.routes import ROUTES

_ENCODED_SEPARATOR = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)

Match = tuple[Route, dict[str, str]]


class Paths:
    """The routes of one served model. `direct` are predictions that anyone may ask for, by the path as it comes: what
    needs no decoding.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._exact: dict[tuple[str, str], Match] = {}
        for route in ROUTES:
            if "{version}" not in route.path:
                params = {"model": model} if "{model}" in route.path else {}
                self._exact[route.method, route.path.replace("{model}", model)] = (route, params)
        self.direct: dict[bytes, Match] = {
            path.encode(): match
            for (_, path), match in self._exact.items()
            if match[0].predicts
            and not match[0].streams
            and match[0].permission is Permission.PUBLIC
            and quote(path, safe="/:") == path
        }

    def match(self, scope: Scope) -> Match:
        """The route of a path. Decided on the decoded path; what could be decoded twice is refused."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        method: str = scope["method"]
        if method == "HEAD":
            method = "GET"
        raw: bytes = scope.get("raw_path") or b""
        if b"%" in raw and ("%" in path or _ENCODED_SEPARATOR.search(raw)):
            raise RequestInvalid("The path holds an encoded separator or is encoded twice")
        found = self._exact.get((method, path))
        if found is not None:
            return found
        allowed = []
        for route in ROUTES:
            matched = route.pattern.fullmatch(path)
            if matched is not None:
                if route.method == method:
                    return route, matched.groupdict()
                allowed.append(route.method)
        if allowed:
            raise MethodNotAllowed(method[:20], allowed)
        raise RouteNotFound(self._model)
