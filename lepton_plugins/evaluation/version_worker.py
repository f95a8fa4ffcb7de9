"""What a version's own process runs: it loads the version once and does with it whatever is asked.

    python -P -m lepton_plugins.evaluation.version_worker

Requests come on stdin, each is answered on what was stdout. Before the memory is measured nothing is
imported that the backend doesn't need.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from numpy.typing import NDArray

from lepton_plugins.errors import BackendUnseen, OutputUnavailable
from lepton_plugins.evaluation.memory import gpu_memory, peak_memory
from lepton_plugins.evaluation.message import receive, send, told

if TYPE_CHECKING:
    from lepton_plugins.routing.backend import LoadedModel

Columns = dict[str, NDArray[Any]]
Answer = tuple[dict[str, Any], Columns]


class VersionWorker:
    """One version, loaded by the first request. Each method answers one kind of request."""

    def __init__(self) -> None:
        self._path = Path()
        self._loaded: LoadedModel | None = None

    @property
    def _model(self) -> LoadedModel:
        if self._loaded is None:
            raise RuntimeError("the version isn't loaded")
        return self._loaded

    def load(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        from importlib import import_module

        module, name = asked["target"].split(":")
        try:
            backend = getattr(import_module(module), name)()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise BackendUnseen(asked["backend"], asked["target"], reason) from error
        self._path = Path(asked["path"])
        self._loaded = backend.load(self._path)
        signature = self._model.signature
        return {"signature": None if signature is None else signature.model_dump_json(), **self._classes()}, {}

    def memory(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        """The most that this process has held once it has answered these rows."""
        for kind in asked["kinds"]:
            try:
                self._model.predict(columns, kind)
                break
            except OutputUnavailable:
                continue
        return {"peak_memory": peak_memory(), "gpu_memory": gpu_memory()}, {}

    def predict(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        import numpy as np

        values = np.asarray(self._model.predict(columns, asked["output"]))
        return self._classes(), {"values": values}

    def latency(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        from lepton_plugins.evaluation.cost import measure_latency

        found = measure_latency(self._model, columns, asked["output"], seconds=asked["seconds"])
        return {"latency": [item.model_dump() for item in found]}, {}

    def parameters(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        from lepton_plugins.evaluation.cost import count_parameters

        return {"parameters": count_parameters(self._path, self._model)}, {}

    def gpu(self, asked: Mapping[str, Any], columns: Columns) -> Answer:
        from lepton_plugins.gpu.estimate import estimated

        found = estimated(self._path, self._model, columns)
        return {"gpu_estimate": None if found is None else found.model_dump()}, {}

    def _classes(self) -> dict[str, Any]:
        """Some models know their classes only once they have answered."""
        return {"classes": list(self._model.classes)}


def main() -> None:
    requests, answers = _own_streams()
    waiting: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, waiting), daemon=True).start()
    worker = VersionWorker()
    while True:
        asked, columns = waiting.get()
        answer: Callable[[Mapping[str, Any], Columns], Answer] = getattr(worker, asked["do"])
        try:
            reply, arrays = answer(asked, columns)
        except BaseException as error:  # SystemExit too: leaving isn't an answer.
            reply, arrays = told(error), {}
        send(answers, reply, arrays, pickled=False)


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """A model that prints, or reads what is typed, must not get between us and who asks."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return requests, answers


def _read(requests: IO[bytes], waiting: queue.SimpleQueue[Answer]) -> None:
    while (received := receive(requests, pickled=True)) is not None:
        waiting.put(received)
    # Who asked is gone: so is the version, even if it is at work, and what it started (see `start_new_session`).
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
