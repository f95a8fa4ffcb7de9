"""Memory of one version in a fresh process, which loads it and answers one batch.

    python -P -m lepton_plugins.evaluation.footprint < request.json

This module is what the fresh process runs, so it imports only what the backend needs. It is also where
a version that takes its process down (a segmentation fault, out of memory) does so without harm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lepton_plugins.records.report import Quantity


class Footprint:
    """A fresh process under way: started at once, waited for when its figures are needed."""

    def __init__(
        self,
        target: str,
        path: Path,
        columns: Mapping[str, NDArray[Any]],
        output: str,
        rows: int,
        unsigned: Sequence[str] | None = None,
    ) -> None:
        """`unsigned` names the columns for a model that has no signature once it is loaded (default: all)."""
        request = {
            "target": target,
            "path": str(path),
            "output": output,
            "columns": {name: _encode(values[:rows]) for name, values in columns.items()},
            "unsigned": unsigned,
        }
        self._rows = rows
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request, default=str).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # It died already: `wait` says so.

    def wait(self, version: str, time_limit: float) -> tuple[Quantity | None, Quantity | None, str]:
        """Peak memory, GPU memory, and why there is none; ProcessDied or TimedOut if the version did that."""
        from lepton_plugins.errors import ProcessDied, TimedOut
        from lepton_plugins.records.report import Quantity

        assert self._process.stdout is not None
        try:
            self._process.wait(time_limit)
            answer = self._process.stdout.read()
        except subprocess.TimeoutExpired:
            raise TimedOut(version, "load and answer one batch", time_limit) from None
        finally:
            self.close()
        code = self._process.returncode
        if code < 0:
            raise ProcessDied(version, f"signal {-code} ({_signal_name(-code)})")
        try:
            found = json.loads(answer.splitlines()[-1])
        except (ValueError, IndexError):
            raise ProcessDied(version, f"it ended with exit code {code} and no answer") from None
        if "error" in found:
            return None, None, str(found["error"])
        detail = f"fresh process: load and one batch of {self._rows} rows"
        gpu = found["gpu_memory"]
        return (
            Quantity(value=found["peak_memory"], how="measured", detail=detail),
            None if gpu is None else Quantity(value=gpu, how="measured", detail=f"nvidia-smi, {detail}"),
            "",
        )

    def close(self) -> None:
        """End the process if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _encode(values: NDArray[Any]) -> dict[str, Any]:
    if values.dtype.kind == "M":
        return {"dtype": str(values.dtype), "values": values.astype("datetime64[ns]").astype("int64").tolist()}
    return {"dtype": str(values.dtype), "values": values.tolist()}


def _decode(column: Mapping[str, Any]) -> NDArray[Any]:
    import numpy as np

    values: NDArray[Any] = np.array(column["values"], dtype="int64" if column["dtype"][:1] == "d" else column["dtype"])
    return values.astype(column["dtype"])


def peak_memory() -> int:
    """This process's largest resident size so far, in bytes.

    On Linux from /proc: `ru_maxrss` survives exec, so that a child would report its parent's size.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_memory() -> int | None:
    """Bytes of GPU memory that this process holds, by nvidia-smi; None without a GPU or where it can't tell."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    total = 0
    for line in listed.splitlines():
        pid, _, used = line.partition(",")
        if pid.strip() == str(os.getpid()) and used.strip().isdigit():
            total += int(used) * 2**20
    return total


def main() -> int:
    from importlib import import_module

    request = json.load(sys.stdin)
    # A model that prints must not get between us and the one line that is the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        module, name = request["target"].split(":")
        backend = getattr(import_module(module), name)()
        model = backend.load(Path(request["path"]))
        columns = {name: _decode(column) for name, column in request["columns"].items()}
        if model.signature is None and request["unsigned"] is not None:
            columns = {name: columns[name] for name in request["unsigned"]}
        kinds = {"proba": ("proba", "label")}.get(request["output"], (request["output"],))
        _predict(model, columns, kinds)
    except Exception as error:  # The evaluating process will meet the same and report it in full.
        found: dict[str, Any] = {"error": f"{type(error).__name__}: {error}"}
    else:
        found = {"peak_memory": peak_memory(), "gpu_memory": gpu_memory()}
    print(json.dumps(found), file=answer, flush=True)
    # No clean-up: a runtime's crash at exit says nothing about the version.
    os._exit(0)


def _predict(model: Any, columns: Mapping[str, Any], kinds: tuple[str, ...]) -> None:
    from lepton_plugins.errors import OutputUnavailable

    for kind in kinds:
        try:
            model.predict(columns, kind)
            return
        except OutputUnavailable:
            continue


if __name__ == "__main__":
    sys.exit(main())
