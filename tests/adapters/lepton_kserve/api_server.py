"""What a Kubernetes API server knows of InferenceServices, ConfigMaps and Deployments, and does to them.

`wire.py` speaks of it over HTTP. What it answers is compared with a real server's recorded answers, `data/answers.json`
(test_answers.py). Sources: Kubernetes API concepts; "Server-Side Apply"; k8s.io/apimachinery `api/errors`.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import jsonschema

TOKEN = "token-of-the-test"
CLAIMS = "resourceclaimtemplates"
GROUPS = {"inferenceservices": "serving.kserve.io", "configmaps": "", "deployments": "apps", CLAIMS: "resource.k8s.io"}
KINDS = {"inferenceservices": "InferenceService", "configmaps": "ConfigMap", "deployments": "Deployment"}
KINDS |= {CLAIMS: "ResourceClaimTemplate"}
VERSIONS = {"inferenceservices": "serving.kserve.io/v1beta1", "configmaps": "v1", "deployments": "apps/v1"}
VERSIONS |= {CLAIMS: "resource.k8s.io/v1"}
#: The first resourceVersion; what was before is forgotten.
FIRST = 100
NOW = "2026-01-01T00:00:00Z"
Key = tuple[str, str, str]
Path = tuple[str, ...]


class Refusal(Exception):
    """A Status: what a server says instead of an answer."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
        self.status |= {"reason": reason, "code": code} if reason else {"code": code}
        self.status |= {"details": details} if details is not None else {}


class ApiServer:
    """`ready` is what the controller does: None never says ready, a number says it so many seconds later."""

    def __init__(self, schema: dict[str, Any], pruned: Any, controller: Any, serve: Any) -> None:
        self.control, self.finalize = controller.control, controller.finalize
        self.validator, self.schema, self.pruned = jsonschema.Draft7Validator(schema), schema, pruned
        self.objects: dict[Key, dict[str, Any]] = {}
        self.managers: dict[Key, dict[str, dict[Path, Any]]] = {}
        self.namespaces, self.forbidden = {"default", "ml", "locked"}, {"locked"}
        self.strict = True
        """Unknown fields are refused, as by servers since 1.25 that are asked to; else they are dropped."""
        self.unseen: set[str] = set()
        """Kinds that nobody may read."""
        self.watchable = True
        self.installed, self.ready, self.url = True, 0.2, "http://line.ml.example.com"
        self.denied: str | None = None
        self.cut, self.gone = 0, 0
        """So many watches are broken off, or told that their version is too old."""
        self.away: list[int] = []
        """What the next requests after a watch that was broken off are answered with: the server starts anew."""
        self.starting: list[int] = []
        self.requests: list[tuple[str, str, str]] = []
        self.log: list[tuple[int, str, Key, dict[str, Any]]] = []
        self.changed = threading.Condition(threading.RLock())
        self.http: ThreadingHTTPServer = serve(self)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    # --- verbs -----------------------------------------------------------------------------

    def apply(
        self, key: Key, body: dict[str, Any], manager: str, force: bool, dry: bool = False
    ) -> tuple[int, dict[str, Any]]:
        plural = key[0]
        dropped = self._check(key, body)
        parts = {part: value for part, value in body.items() if part not in ("apiVersion", "kind")}
        unowned = (("metadata", "name"), ("metadata", "namespace"))
        wanted = {path: value for path, value in leaves(parts) if path not in unowned}
        with self.changed:
            live = self.objects.get(key)
            managers = self.managers.setdefault(key, {})
            taken = self._check_conflicts(key, live, managers, wanted, manager, force)
            new = copy.deepcopy(live) if live else self._new(key)
            for path in set(managers.get(manager, {})) - set(wanted):
                if not any(path in owned for other, owned in managers.items() if other != manager):
                    _remove(new, path)
            for path, value in wanted.items():
                _set(new, path, value)
            self._validate(key, live, new)
            if dry:
                return (200 if live else 201), new
            for other, path in taken:
                del managers[other][path]
            managers[manager] = wanted
            if dropped:  # As it is recorded: what is dropped has been a change.
                new["metadata"]["generation"] += 1
            self._change(key, live, new)
        if plural == "inferenceservices":
            threading.Thread(target=self.control, args=(self, key), daemon=True).start()
        return (200 if live else 201), self.get(key)

    def merge(self, key: Key, body: dict[str, Any], status: bool) -> dict[str, Any]:
        """A merge patch, of the status alone or of all but it."""
        with self.changed:
            live = self.get(key)
            new = _merged(live, {part: body[part] for part in body if (part == "status") is status})
            if live["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
                self.gone_for_good(key, copy.deepcopy(new))
                return new
            self._change(key, live, new)
        return new

    def take(self, key: Key, manager: str, path: Path, value: Any) -> None:
        """As if somebody else had applied a field by force."""
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
                item["metadata"] |= {"deletionTimestamp": NOW, "deletionGracePeriodSeconds": 0}
                item["metadata"]["generation"] += 1
                self.store(key, item, "MODIFIED")
                threading.Thread(target=self.finalize, args=(self, key), daemon=True).start()
                return item
            self.gone_for_good(key, item)
        details = {**_details(key), "uid": item["metadata"]["uid"]}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def gone_for_good(self, key: Key, item: dict[str, Any]) -> None:
        """What has no finalizer any more goes, and the garbage collector takes what it owns."""
        del self.objects[key]
        self.managers.pop(key, None)
        self.store(key, item, "DELETED")
        for other, owned in list(self.objects.items()):  # The garbage collector.
            if any(owner["uid"] == item["metadata"]["uid"] for owner in owned["metadata"].get("ownerReferences", [])):
                self.gone_for_good(other, owned)

    def get(self, key: Key) -> dict[str, Any]:
        if key not in self.objects:
            raise Refusal(404, "NotFound", f'{_resource(key[0])} "{key[2]}" not found', _details(key))
        return copy.deepcopy(self.objects[key])

    def list(self, plural: str, namespace: str, query: dict[str, str]) -> dict[str, Any]:
        with self.changed:
            items = [
                copy.deepcopy(item)
                for key, item in sorted(self.objects.items())
                if _matches(key, item, plural, namespace, query)
            ]
            metadata = {"resourceVersion": str(FIRST + len(self.log))}
        if plural == "inferenceservices":
            metadata["continue"] = ""
        else:  # Kinds that are built in aren't said again for each.
            items = [{part: item[part] for part in item if part not in ("apiVersion", "kind")} for item in items]
        return {"kind": f"{KINDS[plural]}List", "apiVersion": VERSIONS[plural], "metadata": metadata, "items": items}

    def watch(self, plural: str, namespace: str, query: dict[str, str]) -> Iterator[dict[str, Any]]:
        since, end = int(query.get("resourceVersion") or FIRST), time.monotonic() + float(query["timeoutSeconds"])
        if self.gone or since < FIRST:
            self.gone = max(self.gone - 1, 0)
            status = Refusal(410, "Expired", f"too old resource version: {since} ({FIRST + len(self.log)})").status
            yield {"type": "ERROR", "object": status}
            return
        seen = since - FIRST
        while (left := end - time.monotonic()) > 0:
            with self.changed:
                if len(self.log) <= seen:
                    self.changed.wait(min(left, 0.5))
                new, seen = self.log[seen:], len(self.log)
            for _, kind, key, item in new:
                if _matches(key, item, plural, namespace, query):
                    yield {"type": kind, "object": item}

    def store(self, key: Key, item: dict[str, Any], kind: str) -> None:
        """Write an object as a controller does, and tell those who watch."""
        item["metadata"]["resourceVersion"] = str(FIRST + len(self.log) + 1)
        if kind != "DELETED":
            self.objects[key] = item
        self.log.append((len(self.log) + 1, kind, key, copy.deepcopy(item)))
        self.changed.notify_all()

    # --- inside ----------------------------------------------------------------------------

    def _check(self, key: Key, body: dict[str, Any]) -> bool:
        """Whether something was dropped."""
        plural, namespace, name = key
        if (found := body["metadata"].get("name")) != name:
            told = f"the name of the object ({found}) does not match the name on the URL ({name})"
            raise Refusal(400, "BadRequest", told)
        if namespace not in self.namespaces:
            details = {"name": namespace, "kind": "namespaces"}
            raise Refusal(404, "NotFound", f'namespaces "{namespace}" not found', details)
        if plural != "inferenceservices":
            return False
        unknown = list(self.pruned(body, self.schema))
        if unknown and self.strict:
            kind = f"({namespace}/{name}; serving.kserve.io/v1beta1, Kind=InferenceService)"
            told = f"failed to create typed patch object {kind}: {unknown[0]}: field not declared in schema"
            raise Refusal(500, "", told)
        for place in unknown:
            _remove(body, tuple(place.strip(".").split(".")))
        if self.denied is not None:
            webhook = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '
            raise Refusal(403, "Forbidden", webhook + self.denied)
        return bool(unknown)

    def _validate(self, key: Key, live: Any, new: dict[str, Any]) -> None:
        causes: list[dict[str, str]] = []
        if key[0] == "inferenceservices":
            causes = [_cause(error) for error in self.validator.iter_errors(new)]
        elif live is not None and live.get("immutable") and live.get("data") != new.get("data"):
            told = "Forbidden: field is immutable when `immutable` is set"
            causes = [{"reason": "FieldValueForbidden", "message": told, "field": "data"}]
        if causes:
            group = GROUPS[key[0]]
            kind = f"{KINDS[key[0]]}.{group}" if group else KINDS[key[0]]
            found = [f"{cause['field']}: {cause['message']}" for cause in causes]
            told = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
            details = {**_details(key), "kind": KINDS[key[0]], "causes": causes}
            raise Refusal(422, "Invalid", f'{kind} "{key[2]}" is invalid: {told}', details)

    def _check_conflicts(
        self, key: Key, live: Any, managers: dict[str, Any], wanted: dict[Path, Any], manager: str, force: bool
    ) -> list[tuple[str, Path]]:
        """What others own and is to be another; by force it is taken from them."""
        found = [
            (other, path)
            for other, owned in sorted(managers.items())
            if other != manager
            for path in sorted(owned)
            if path in wanted and wanted[path] != _at(live, path)
        ]
        if not found or force:
            return found
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{other}"', "field": "." + ".".join(path)}
            for other, path in found
        ]
        told = []
        for message in dict.fromkeys(cause["message"] for cause in causes):
            fields = [cause["field"] for cause in causes if cause["message"] == message]
            alone = f"{message}: {fields[0]}"
            told += [alone] if len(fields) == 1 else [message.replace("conflict", "conflicts", 1) + ":"]
            told += [] if len(fields) == 1 else [f"- {field}" for field in fields]
        count = f"{len(found)} conflict{'s' * (len(found) > 1)}"
        raise Refusal(409, "Conflict", f"Apply failed with {count}: " + "\n".join(told), {"causes": causes})

    def _change(self, key: Key, live: Any, new: dict[str, Any]) -> None:
        """Store what has changed; a new specification has a new generation."""
        if live is None:
            self.store(key, new, "ADDED")
        elif new != live:
            if "generation" in new["metadata"] and new.get("spec") != live.get("spec"):
                new["metadata"]["generation"] += 1
            self.store(key, new, "MODIFIED")

    def _new(self, key: Key) -> dict[str, Any]:
        plural, namespace, name = key
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{len(self.log)}-{name}"}
        metadata |= {"creationTimestamp": NOW} | ({"generation": 1} if plural != "configmaps" else {})  # type: ignore[dict-item]
        return {"apiVersion": VERSIONS[plural], "kind": KINDS[plural], "metadata": metadata}


_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


def _cause(error: jsonschema.ValidationError) -> dict[str, str]:
    """In the words of a server: field paths have no indices, a wrong type is told by the name of what it is."""
    field, rule, found = (
        ".".join(str(part) for part in error.path if isinstance(part, str)),
        error.validator,
        error.instance,
    )
    if rule == "required":
        missing = next(name for name in error.validator_value if name not in found)
        return {"reason": "FieldValueRequired", "message": "Required value", "field": f"{field}.{missing}"}
    if rule == "enum":
        known = ", ".join(f'"{value}"' for value in error.validator_value)
        told = f"Unsupported value: {json.dumps(found)}: supported values: {known}"
        return {"reason": "FieldValueNotSupported", "message": told, "field": field}
    wrong = {
        "type": f"must be of type {error.validator_value}",
        "minLength": f"should be at least {error.validator_value} chars long",
        "minimum": f"should be greater than or equal to {error.validator_value}",
    }.get(str(rule), f"isn't as {rule} wants it")
    shown = json.dumps(_TYPES[type(found)] if rule == "type" else found)
    told = f"Invalid value: {shown}: {field} in body {wrong}" + (f": {shown}" if rule == "type" else "")
    return {"reason": "FieldValueInvalid", "message": told, "field": field}


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Fields with their values; lists are atomic, as KServe's CRD has them where Lepton writes any."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    else:
        yield path, value


def _resource(plural: str) -> str:
    return f"{plural}.{GROUPS[plural]}" if GROUPS[plural] else plural


def _details(key: Key) -> dict[str, Any]:
    plural, _, name = key
    return {"name": name, "kind": plural} | ({"group": GROUPS[plural]} if GROUPS[plural] else {})


def _at(item: Any, path: Path) -> Any:
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _set(item: dict[str, Any], path: Path, value: Any) -> None:
    for part in path[:-1]:
        item = item.setdefault(part, {})
    item[path[-1]] = copy.deepcopy(value)


def _remove(item: Any, path: Path) -> None:
    for part in path[:-1]:
        item = item.get(part, {})
    item.pop(path[-1], None)


def _merged(live: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(live) if isinstance(live, dict) else {}
    for name, item in patch.items():
        if item is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), item)
    return found


def _matches(key: Key, item: dict[str, Any], plural: str, namespace: str, query: dict[str, str]) -> bool:
    if key[:2] != (plural, namespace):
        return False
    field = query.get("fieldSelector", "")
    if field and field != f"metadata.name={key[2]}":
        return False
    labels = item["metadata"].get("labels") or {}
    wanted = [pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair]
    return all(labels.get(name) == value for name, value in wanted)
