"""An API server's part that is HTTP: paths, verbs, tokens, content types, streams of events."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import yaml

SERVED = ("apis/serving.kserve.io/v1beta1/inferenceservices", "api/v1/configmaps", "apis/apps/v1/deployments")
SERVED += ("apis/resource.k8s.io/v1/resourceclaimtemplates",)
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"


class Asked(NamedTuple):
    plural: str
    namespace: str
    name: str
    part: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self[:3]


def serve(module: Any, api: Any) -> ThreadingHTTPServer:
    """Answer on loopback for an ApiServer of the module."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Handler(module, api, *given))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
    return http


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, module: Any, api: Any, *given: Any) -> None:
        self.module, self.api = module, api
        super().__init__(*given)

    def log_message(self, *given: Any) -> None: ...

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.api.requests.append((self.command, parts.path, self.headers.get("content-type") or ""))
        try:
            asked, known = self._asked(parts.path)
            if self.api.starting:
                raise self.module.Refusal(self.api.starting.pop(0), "", "server is starting")
            watching = query.get("watch") in ("true", "True", "1")
            selected = query.get("fieldSelector", "").removeprefix("metadata.name=")
            self._authorise(asked._replace(name=asked.name or selected), watching)
            if not known or (asked.plural == "inferenceservices" and not self.api.installed):
                self._send(404, "404 page not found\n")
            elif self.command == "GET" and not asked.name and watching:
                self._stream(self.api.watch(asked.plural, asked.namespace, query))
            elif self.command == "GET":
                listed = not asked.name
                found = self.api.list(asked.plural, asked.namespace, query) if listed else self.api.get(asked.key)
                self._send(200, found)
            elif self.command == "DELETE":
                self._send(200, self.api.delete(asked.key))
            else:
                self._send(*self._patch(asked, body, query))
        except self.module.Refusal as refusal:
            self._send(refusal.code, refusal.status)

    do_PATCH = do_DELETE = do_GET

    def _patch(self, asked: Asked, body: bytes, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        kind = self.headers.get("content-type")
        if kind == MERGE:
            return 200, self.api.merge(asked.key, json.loads(body), asked.part == "status")
        if kind != APPLY:
            told = "the body of the request was in an unknown format - accepted media types include: "
            raise self.module.Refusal(
                415, "UnsupportedMediaType", f"{told}application/json-patch+json, {MERGE}, {APPLY}"
            )
        if "fieldManager" not in query:
            cause = {"reason": "FieldValueRequired", "message": "Required value: is required for apply patch"}
            told = f'PatchOptions.meta.k8s.io "" is invalid: fieldManager: {cause["message"]}'
            details = {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [{**cause, "field": "fieldManager"}]}
            raise self.module.Refusal(422, "Invalid", told, details)
        force, dry = query.get("force") == "true", query.get("dryRun") == "All"
        found: tuple[int, dict[str, Any]] = self.api.apply(
            asked.key, yaml.safe_load(body), query["fieldManager"], force, dry
        )
        return found

    def _asked(self, path: str) -> tuple[Asked, bool]:
        """What a path is about, and whether there is such a thing."""
        words = path.strip("/").split("/")
        root, rest = (words[:2], words[2:]) if words[0] == "api" else (words[:3], words[3:])
        known = len(rest) in (3, 4, 5) and rest[0] == "namespaces" and "/".join([*root, rest[2]]) in SERVED
        _, namespace, plural, name, part = (*rest, *[""] * 5)[:5]
        return Asked(plural, namespace, name, part), known

    def _authorise(self, asked: Asked, watching: bool) -> None:
        if self.headers.get("authorization") != f"Bearer {self.module.TOKEN}":
            raise self.module.Refusal(401, "Unauthorized", "Unauthorized")
        other = self.headers.get("impersonate-user")
        locked = asked.namespace in self.api.forbidden or (watching and not self.api.watchable)
        if other is None and not locked and asked.plural not in self.api.unseen:
            return
        verb = {"PATCH": "patch", "DELETE": "delete"}.get(self.command, "get")
        if verb == "get" and (watching or not asked.name):
            verb = "watch" if watching else "list"
        group = self.module.GROUPS[asked.plural]
        resource = f"{asked.plural}.{group}" if group else asked.plural
        named = f' "{asked.name}"' if asked.name else ""
        who = f'User "{other or "tester"}" cannot {verb} resource "{asked.plural}" in API group "{group}"'
        message = f'{resource}{named} is forbidden: {who} in the namespace "{asked.namespace}"'
        details = {"name": asked.name, "group": group, "kind": asked.plural}
        raise self.module.Refusal(403, "Forbidden", message, {key: value for key, value in details.items() if value})

    def _send(self, code: int, content: Any) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        kind = "text/plain; charset=utf-8" if isinstance(content, str) else "application/json"
        self.send_response(code)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            if self.api.cut:
                self.api.cut -= 1
                self.api.starting = list(self.api.away)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
