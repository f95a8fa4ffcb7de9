"""A version in a fresh process of its own, where it is loaded once, answers, and is measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from lepton_plugins.errors import ModelFailed, ProcessDied
from lepton_plugins.evaluation.message import as_told, receive, send
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.plugin import Offer
from lepton_plugins.records.report import BatchLatency, Quantity
from lepton_plugins.records.signature import Signature

#: What a version was doing, for what is said of its failure.
_ACTIONS = {"memory": "predict", "latency": "be timed", "parameters": "be counted", "gpu": "be sized for a GPU"}

#: `measure_latency` takes its batches from no more rows than these.
_TIMED_ROWS = 8 * 512


class VersionProcess:
    """A LoadedModel that lives elsewhere: what takes a process down (a segmentation fault, out of memory)
    ends that process, and the next call raises ProcessDied.

    Loading begins at once and `wait` waits for it; `signature` and `classes` are known then. The backend
    is imported there by its import string: BackendUnseen where only this process knows it. Calls wait for
    each other, without limit: `close`, from any thread, ends the process and whatever it started.
    """

    def __init__(self, backend: Offer, path: Path, version: str) -> None:
        self.signature: Signature | None = None
        self.classes: tuple[str, ...] = ()
        self._version = version
        self._turn = threading.Lock()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lepton_plugins.evaluation.version_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            start_new_session=True,  # Ctrl-C in a terminal goes to who evaluates; that one ends this one.
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        with suppress(BrokenPipeError):  # It died already: `wait` says so.
            self._send("load", backend=backend.name, target=backend.target, path=str(path))

    def wait(self) -> None:
        """Until the version is loaded. What went wrong with it is raised, as by the other calls."""
        with self._turn:
            found, _ = self._receive("load")
        if found["signature"] is not None:
            self.signature = Signature.model_validate_json(found["signature"])

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        _, arrays = self._ask("predict", columns, output=output)
        return arrays["values"]

    def memory(
        self, columns: Mapping[str, NDArray[Any]], kinds: Sequence[OutputKind]
    ) -> tuple[Quantity, Quantity | None]:
        """Peak memory and GPU memory, in bytes, once these rows are answered; to be asked before other rows."""
        rows = len(next(iter(columns.values())))
        found, _ = self._ask("memory", columns, kinds=list(kinds))
        detail = f"fresh process: load and one batch of {rows} rows"
        gpu = found["gpu_memory"]
        return (
            Quantity(value=found["peak_memory"], how="measured", detail=detail),
            None if gpu is None else Quantity(value=gpu, how="measured", detail=f"nvidia-smi, {detail}"),
        )

    def latency(
        self, columns: Mapping[str, NDArray[Any]], output: OutputKind, *, seconds: float
    ) -> tuple[BatchLatency, ...]:
        """See `measure_latency`, which runs there."""
        first = {name: values[:_TIMED_ROWS] for name, values in columns.items()}
        found, _ = self._ask("latency", first, output=output, seconds=seconds)
        return tuple(BatchLatency.model_validate(item) for item in found["latency"])

    def parameters(self) -> int | None:
        """See `count_parameters`."""
        found, _ = self._ask("parameters")
        count: int | None = found["parameters"]
        return count

    def gpu_estimate(self, columns: Mapping[str, NDArray[Any]]) -> Quantity | None:
        """See `gpu.estimate.estimated`, for these rows at once."""
        found, _ = self._ask("gpu", columns)
        return None if found["gpu_estimate"] is None else Quantity.model_validate(found["gpu_estimate"])

    def close(self) -> None:
        """End the process and what it started."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._turn.acquire(timeout=1):  # A call that was given up has noticed by now.
            for stream in (self._requests, self._answers, self._log):
                with suppress(BrokenPipeError):
                    stream.close()
            self._turn.release()

    def _ask(
        self, do: str, columns: Mapping[str, NDArray[Any]] | None = None, **more: Any
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        with self._turn:
            with suppress(BrokenPipeError):
                self._send(do, columns, **more)
            return self._receive(do)

    def _send(self, do: str, columns: Mapping[str, NDArray[Any]] | None = None, **more: Any) -> None:
        send(self._requests, {"do": do, **more}, columns, pickled=True)

    def _receive(self, do: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        received = receive(self._answers, pickled=False)
        if received is None:
            raise ProcessDied(self._version, self._end())
        found, arrays = received
        if "code" in found:
            raise as_told(found)
        if "error" in found:
            raise ModelFailed(self._version, _ACTIONS.get(do, do), found["error"])
        if "classes" in found:
            self.classes = tuple(found["classes"])
        return found, arrays

    def _end(self) -> str:
        """How the process ended, and the last that it said."""
        try:
            code = self._process.wait(30)  # Writing a core takes its time.
        except subprocess.TimeoutExpired:
            return "it no longer answers"
        if code >= 0:
            return f"it ended with exit code {code} and no answer{self._last_words()}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        hint = ", which the system sends where memory runs out" if -code == signal.SIGKILL else ""
        return f"signal {-code} ({name}){hint}{self._last_words()}"

    def _last_words(self) -> str:
        try:
            size = self._log.seek(0, os.SEEK_END)
            self._log.seek(max(0, size - 2000))
            lines = [" ".join(line.split()) for line in self._log.read().decode(errors="replace").splitlines()]
        except ValueError:  # Closed.
            return ""
        said = [line for line in lines if line]
        return f"; it last said: {said[-1][:200]}" if said else ""
