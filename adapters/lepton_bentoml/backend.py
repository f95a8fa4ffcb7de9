"""The backend `bentoml`: versions that services of the same bento run, which the router's service depends on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lepton_plugins.canonical import canonical_json
from lepton_plugins.errors import BentoServiceUnavailable, ModelFilesInvalid
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing.backend import Inspection, LoadedModel

if TYPE_CHECKING:
    from _bentoml_sdk import Service  # type: ignore[import-untyped]

FILE = "bento.json"
#: Calls that may wait for one service at once: as many as a client of BentoML's keeps connections for.
_CONNECTIONS = 16
#: Seconds.
_CLOSING = 5.0

#: What the router's service in this process depends on, by the service's name: `RouterService` fills it.
DEPENDENCIES: dict[str, Service[Any]] = {}


class Depended(Record):
    """Which service of the bento runs a version, and what that version takes and gives."""

    service: str
    signature: Signature | None = None
    classes: tuple[str, ...] = ()

    def write(self, to: Path) -> None:
        """Write it as the version's files."""
        (to / FILE).write_bytes(canonical_json(self.model_dump(mode="json")))


class BentomlBackend:
    """Asks a service through BentoML's own client, wherever BentoML runs it: beside this one, or elsewhere."""

    name = "bentoml"

    def inspect(self, path: Path) -> Inspection | None:
        found = _read(path)
        if found is None:
            return None
        return Inspection(format="bentoml", carries_code=False, signature=found.signature)

    def load(self, path: Path, *, threads: int | None = None) -> LoadedModel:
        """The service isn't asked before the first call: a router starts while one of them is away."""
        found = _read(path)
        if found is None:
            raise ModelFilesInvalid(path, f"it holds no {FILE}")
        return DependedModel(found)


class DependedModel:
    """A version that a service runs, in the shape of a loaded model."""

    connections = _CONNECTIONS

    def __init__(self, depended: Depended) -> None:
        self.signature = depended.signature
        self.classes = depended.classes
        self._service = depended.service
        self._lock = Lock()
        self._proxy: Any = None

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        """BentoServiceUnavailable for whatever keeps the service from answering."""
        proxy = self._found()
        try:
            if _is_here(proxy):
                return np.asarray(proxy.predict(columns))  # In this process, where BentoML serves no other service.
            answer = proxy.to_async.call("answer", columns=dict(columns))
            return np.asarray(asyncio.run_coroutine_threadsafe(answer, _loop()).result())
        except Exception as error:
            raise BentoServiceUnavailable(self._service, f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        proxy, self._proxy = self._proxy, None
        if proxy is not None and not _is_here(proxy):
            asyncio.run_coroutine_threadsafe(proxy.close(), _loop()).result(_CLOSING)

    def _found(self) -> Any:
        import bentoml

        with self._lock:
            if self._proxy is None:
                service = DEPENDENCIES.get(self._service)
                if service is None:
                    known = ", ".join(DEPENDENCIES) or "none"
                    raise BentoServiceUnavailable(self._service, f"this process depends on other services: {known}")
                # Not the class's own dependency: its client belongs to the server's event loop.
                self._proxy = bentoml.depends(service).get()
            return self._proxy


def _is_here(proxy: Any) -> bool:
    from lepton_bentoml.version import VersionService

    return isinstance(proxy, VersionService)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """An event loop in a thread of its own: BentoML's client has no other way, and a router asks from any thread."""
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="lepton-bentoml", daemon=True).start()
    return loop


def _read(path: Path) -> Depended | None:
    file = path / FILE if path.is_dir() else path
    if file.name != FILE or not file.is_file():
        return None
    try:
        return Depended.model_validate(json.loads(file.read_bytes()))
    except ValidationError as error:
        raise ModelFilesInvalid(path, f"{FILE} can't be read: {validation_lines(error)[:500]}") from None
    except ValueError:
        raise ModelFilesInvalid(path, f"{FILE} isn't JSON") from None
