"""Loaded models by digest: two routers, or two arms, with the same files share one."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

from lepton_plugins.routing.backend import LoadedModel


class ModelKey(NamedTuple):
    """What makes two loaded models the same."""

    digest: str
    backend: str
    trust: str | None
    """Leave to load it: what was loaded with it must not serve a plan without."""
    threads: int | None
    gpu: bool | None = None


class _Entry:
    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.model: LoadedModel | None = None


class ModelCache:
    """Keeps a model as long as somebody uses it. Different models load at the same time, one model once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: dict[ModelKey, _Entry] = {}

    def acquire(self, key: ModelKey, load: Callable[[], LoadedModel]) -> LoadedModel:
        """The model of this key, loaded if nobody has it yet; give it back with `release`."""
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                if entry.model is None:
                    entry.model = load()
                return entry.model
        except BaseException:
            self.release(key)
            raise

    def release(self, key: ModelKey) -> None:
        """One user less; the last one's release closes the model."""
        with self._lock:
            entry = self._entries[key]
            entry.users -= 1
            if entry.users:
                return
            del self._entries[key]
        if entry.model is not None:
            entry.model.close()

    def __len__(self) -> int:
        return len(self._entries)


#: This process's models: a router that replaces another one loads only what differs.
PROCESS_MODELS = ModelCache()
