"""A Kubernetes API server for InferenceServices and ConfigMaps, over HTTP, with a controller that makes them ready.

It speaks the protocol as far as a client sees it: paths and verbs, bearer tokens, server-side apply with field
managers, schema validation by KServe's own CRD, watches, and the answers' own sentences. Sources: Kubernetes API
concepts; "Server-Side Apply"; k8s.io/apimachinery `api/errors` (Status, causes); the recorded answer to an unknown
field in kubernetes/kubernetes#122480, and the conflicts' wording in #107417 and #80916.
"""

from __future__ import annotations

import copy
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema
import yaml

TOKEN = "token-of-the-test"
PLURALS = {"inferenceservices": "serving.kserve.io", "configmaps": "", "deployments": "apps"}
KINDS = {"inferenceservices": "InferenceService", "configmaps": "ConfigMap", "deployments": "Deployment"}
SERVED = ("apis/serving.kserve.io/v1beta1/inferenceservices", "api/v1/configmaps", "apis/apps/v1/deployments")
Key = tuple[str, str, str]


class Refusal(Exception):
    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self.status |= {"reason": reason, "code": code} if reason else {"code": code}
        self.status |= {"details": details} if details is not None else {}


class ApiServer:
    """`ready` is what the controller does: None never says ready, a number says it so many seconds later."""

    def __init__(self, schema: dict[str, Any], pruned: Any, controller: Any) -> None:
        self.control, self.finalize = controller.control, controller.finalize
        self.validator, self.schema, self.pruned = jsonschema.Draft7Validator(schema), schema, pruned
        self.objects: dict[Key, dict[str, Any]] = {}
        self.managers: dict[Key, dict[str, dict[tuple[str, ...], Any]]] = {}
        self.namespaces, self.forbidden = {"default", "ml", "locked"}, {"locked"}
        self.installed, self.ready, self.url = True, 0.2, "http://line.ml.example.com"
        self.denied: str | None = None
        self.unseen: set[str] = set()
        """Kinds that nobody may read."""
        self.cut, self.gone = 0, 0
        """So many watches are broken off, or told that their version is too old."""
        self.requests: list[tuple[str, str, str]] = []
        self.log: list[tuple[int, str, Key, dict[str, Any]]] = []
        self.changed = threading.Condition(threading.RLock())
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Handler(self, *given))
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    # --- verbs -----------------------------------------------------------------------------

    def apply(self, key: Key, body: dict[str, Any], manager: str, force: bool) -> tuple[int, dict[str, Any]]:
        plural, namespace, name = key
        if namespace not in self.namespaces:
            details = {"name": namespace, "kind": "namespaces"}
            raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found', details)
        self._check(key, body)
        wanted = dict(leaves({part: value for part, value in body.items() if part not in ("apiVersion", "kind")}))
        wanted = {
            path: value
            for path, value in wanted.items()
            if path not in (("metadata", "name"), ("metadata", "namespace"))
        }
        with self.changed:
            live = self.objects.get(key)
            managers = self.managers.setdefault(key, {})
            self._check_conflicts(key, live, managers, wanted, manager, force)
            new = copy.deepcopy(live) if live else self._new(key, body)
            for path in set(managers.get(manager, {})) - set(wanted):
                if not any(path in owned for other, owned in managers.items() if other != manager):
                    _remove(new, path)
            for path, value in wanted.items():
                _set(new, path, value)
            if plural == "inferenceservices":
                found = [(error.json_path, error.message) for error in self.validator.iter_errors(new)]
                if found:
                    raise self._invalid(name, found)
            managers[manager] = wanted
            if live is not None and new.get("spec") != live.get("spec"):
                new["metadata"]["generation"] += 1
            self.store(key, new, "MODIFIED" if live else "ADDED")
        if plural == "inferenceservices":
            threading.Thread(target=self.control, args=(self, key), daemon=True).start()
        return (200 if live else 201), new

    def take(self, key: Key, manager: str, path: tuple[str, ...], value: Any) -> None:
        """As if somebody else had applied a field."""
        with self.changed:
            for owned in self.managers[key].values():
                owned.pop(path, None)
            self.managers[key][manager] = {path: value}
            new = copy.deepcopy(self.objects[key])
            _set(new, path, value)
            self.store(key, new, "MODIFIED")

    def delete(self, key: Key) -> dict[str, Any]:
        with self.changed:
            item = self.get(key)
            if item["metadata"].get("finalizers"):
                item["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}
                self.store(key, item, "MODIFIED")
                threading.Thread(target=self.finalize, args=(self, key), daemon=True).start()
                return item
            self.gone_for_good(key, item)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": key[2]}}

    def gone_for_good(self, key: Key, item: dict[str, Any]) -> None:
        """What has no finalizer any more goes, and the garbage collector takes what it owns."""
        del self.objects[key]
        self.managers.pop(key, None)
        self.store(key, item, "DELETED")
        for other, owned in list(self.objects.items()):
            if any(owner["uid"] == item["metadata"]["uid"] for owner in owned["metadata"].get("ownerReferences", [])):
                self.gone_for_good(other, owned)

    def get(self, key: Key) -> dict[str, Any]:
        plural, _, name = key
        if key not in self.objects:
            group = PLURALS[plural]
            resource = f"{plural}.{group}" if group else plural
            raise Refusal(
                404, "NotFound", f'{resource} "{name}" not found', {"name": name, "group": group, "kind": plural}
            )
        return copy.deepcopy(self.objects[key])

    def list(self, plural: str, namespace: str, query: dict[str, str]) -> dict[str, Any]:
        with self.changed:
            items = [
                copy.deepcopy(item)
                for key, item in sorted(self.objects.items())
                if _matches(key, item, plural, namespace, query)
            ]
            version = str(len(self.log))
        kind = KINDS[plural]
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}

    def watch(self, plural: str, namespace: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        seen, end = int(query.get("resourceVersion") or 0), time.monotonic() + float(query.get("timeoutSeconds") or 60)
        if self.gone:
            self.gone -= 1
            status = Refusal(410, "Expired", "too old resource version: 1 (2)").status
            yield {"type": "ERROR", "object": status}
            return
        while (left := end - time.monotonic()) > 0:
            with self.changed:
                if len(self.log) <= seen:
                    self.changed.wait(min(left, 0.5))
                new, seen = self.log[seen:], len(self.log)
            for _, kind, key, item in new:
                if _matches(key, item, plural, namespace, query):
                    yield {"type": kind, "object": item}

    # --- inside ----------------------------------------------------------------------------

    def _check(self, key: Key, body: dict[str, Any]) -> None:
        plural, namespace, name = key
        if plural != "inferenceservices":
            return
        if unknown := list(self.pruned(body, self.schema)):
            kind = f"({namespace}/{name}; serving.kserve.io/v1beta1, Kind=InferenceService)"
            raise Refusal(
                500, "", f"failed to create typed patch object {kind}: {unknown[0]}: field not declared in schema"
            )
        if self.denied is not None:
            webhook = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
            raise Refusal(403, "Forbidden", webhook + self.denied)

    def _invalid(self, name: str, found: list[tuple[str, str]]) -> Refusal:
        causes = [
            {"reason": "FieldValueInvalid", "message": f"Invalid value: {message}", "field": path.removeprefix("$.")}
            for path, message in found
        ]
        told = ", ".join(f"{cause['field']}: {cause['message']}" for cause in causes)
        details = {"name": name, "group": "serving.kserve.io", "kind": "InferenceService", "causes": causes}
        return Refusal(422, "Invalid", f'InferenceService.serving.kserve.io "{name}" is invalid: {told}', details)

    def _check_conflicts(
        self,
        key: Key,
        live: Any,
        managers: dict[str, Any],
        wanted: dict[tuple[str, ...], Any],
        manager: str,
        force: bool,
    ) -> None:
        found = [
            (other, path)
            for other, owned in sorted(managers.items())
            if other != manager
            for path in sorted(owned)
            if path in wanted and wanted[path] != _at(live, path)
        ]
        if not found:
            return
        if force:
            for other, path in found:
                del managers[other][path]
            return
        version = "serving.kserve.io/v1beta1" if key[0] == "inferenceservices" else "v1"
        fields = ["." + ".".join(path) for _, path in found]
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{other}" using {version}', "field": field}
            for (other, _), field in zip(found, fields, strict=True)
        ]
        told = f"Apply failed with {len(found)} conflict{'s' * (len(found) > 1)}: {causes[0]['message']}: {fields[0]}"
        raise Refusal(409, "Conflict", told, {"causes": causes})

    def _new(self, key: Key, body: dict[str, Any]) -> dict[str, Any]:
        plural, namespace, name = key
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{len(self.log)}-{name}", "generation": 1}
        return {"apiVersion": body["apiVersion"], "kind": KINDS[plural], "metadata": metadata}

    def store(self, key: Key, item: dict[str, Any], kind: str) -> None:
        item["metadata"]["resourceVersion"] = str(len(self.log) + 1)
        if kind != "DELETED":
            self.objects[key] = item
        self.log.append((len(self.log) + 1, kind, key, copy.deepcopy(item)))
        self.changed.notify_all()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: ApiServer, *given: Any) -> None:
        self.api = server
        super().__init__(*given)

    def log_message(self, *given: Any) -> None: ...

    def do_GET(self) -> None:
        self._answer()

    do_PATCH = do_DELETE = do_GET

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts, query = urlsplit(self.path), {}
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.api.requests.append((self.command, parts.path, self.headers.get("content-type") or ""))
        try:
            key = self._key(parts.path)
            self._authorise(key)
            if self.command == "GET" and not key[2] and query.get("watch") in ("true", "True", "1"):
                self._stream(self.api.watch(key[0], key[1], query))
            elif self.command == "GET":
                self._send(200, self.api.get(key) if key[2] else self.api.list(key[0], key[1], query))
            elif self.command == "DELETE":
                self._send(200, self.api.delete(key))
            else:
                self._send(*self._apply(key, body, query))
        except Refusal as refusal:
            self._send(refusal.code, refusal.status)

    def _apply(self, key: Key, body: bytes, query: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if self.headers.get("content-type") != "application/apply-patch+yaml":
            raise Refusal(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
        if "fieldManager" not in query:
            raise Refusal(422, "Invalid", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        content = yaml.safe_load(body)
        return self.api.apply(key, content, query["fieldManager"], query.get("force") == "true")

    def _key(self, path: str) -> Key:
        words = path.strip("/").split("/")
        root, rest = (words[:2], words[2:]) if words[0] == "api" else (words[:3], words[3:])
        known = len(rest) in (3, 4) and rest[0] == "namespaces" and "/".join([*root, rest[2]]) in SERVED
        if not known or (rest[2] == "inferenceservices" and not self.api.installed):
            self._send(404, "404 page not found\n")
            raise ConnectionAbortedError
        return rest[2], rest[1], rest[3] if len(rest) == 4 else ""

    def _authorise(self, key: Key) -> None:
        if self.headers.get("authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "Unauthorized", "Unauthorized")
        plural, namespace, _ = key
        if namespace in self.api.forbidden or plural in self.api.unseen:
            verb = {"GET": "get", "PATCH": "patch", "DELETE": "delete"}[self.command]
            group = PLURALS[plural]
            who = f'User "tester" cannot {verb} resource "{plural}" in API group "{group}"'
            message = f'{plural}.{group} is forbidden: {who} in the namespace "{namespace}"'
            raise Refusal(403, "Forbidden", message, {"group": group, "kind": plural})

    def _send(self, code: int, content: Any) -> None:
        body = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header(
            "content-type", "text/plain; charset=utf-8" if isinstance(content, str) else "application/json"
        )
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

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionAbortedError:
            return


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Fields with their values; lists are atomic, as KServe's CRD has them where Lepton writes any."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def _at(item: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _set(item: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        item = item.setdefault(part, {})
    item[path[-1]] = copy.deepcopy(value)


def _remove(item: Any, path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        item = item.get(part, {})
    item.pop(path[-1], None)


def _matches(key: Key, item: dict[str, Any], plural: str, namespace: str, query: dict[str, str]) -> bool:
    if key[:2] != (plural, namespace):
        return False
    field = query.get("fieldSelector", "")
    if field and field != f"metadata.name={key[2]}":
        return False
    labels = item["metadata"].get("labels") or {}
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    return all(labels.get(name) == value for name, value in wanted)
