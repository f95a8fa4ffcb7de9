"""The contract of backends."""

from __future__ import annotations

import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.routing.backend import Backend, LoadedModel
from lepton_plugins.testing.contract import Contract, at_once, require

_KINDS: tuple[OutputKind, ...] = ("label", "proba", "score", "value")
_INSPECT = """
import importlib, sys
from pathlib import Path
module, name = sys.argv[1].split(":")
backend = getattr(importlib.import_module(module), name)()
assert backend.inspect(Path(sys.argv[2])) is not None
print(",".join(sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[3].split(",")))))
"""


class BackendContract(Contract):
    """What every backend keeps. Name it, the packages that load its formats, and give it a model."""

    #: The class that the BackendOffer's target names.
    backend: ClassVar[type[Backend]]
    #: Packages that `inspect` must not import.
    loaders: ClassVar[Sequence[str]]
    #: What the model given by `write_model` can be asked for.
    outputs: ClassVar[Sequence[OutputKind]]

    @abstractmethod
    def write_model(self, folder: Path) -> Path:
        """Write a model of a kind that the backend runs into the empty `folder`; returns its path."""

    @abstractmethod
    def inputs(self, rows: int) -> Mapping[str, NDArray[Any]]:
        """So many rows for that model, by input name, batch axis first, rows differing from each other."""

    def test_it_inspects_its_own_kind_only(self) -> None:
        with TemporaryDirectory() as folder:
            backend = self.backend()
            found = backend.inspect(self._model(folder))
            require(found is not None, "inspect() gave None for a model that it is to run")
            assert found is not None
            require(found.format, "inspect() tells no format")
            stranger = Path(folder) / "stranger"
            stranger.mkdir()
            require(backend.inspect(stranger) is None, "inspect() claims an empty directory")
            (stranger / "notes.txt").write_text("nothing that a model consists of")
            require(backend.inspect(stranger) is None, "inspect() claims a directory with a text file")

    def test_inspecting_imports_no_loader(self) -> None:
        with TemporaryDirectory() as folder:
            target = f"{self.backend.__module__}:{self.backend.__qualname__}"
            command = [sys.executable, "-c", _INSPECT, target, str(self._model(folder)), ",".join(self.loaders)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            require(done.returncode == 0, f"inspect() failed in a fresh process: {done.stderr[-600:]}")
            imported = done.stdout.strip()
            require(not imported, f"inspect() imported {imported}: a format must be known before any loader runs")

    def test_answers_have_the_shapes_of_their_kind(self) -> None:
        with TemporaryDirectory() as folder:
            model = self._load(folder)
            for rows in (1, 3):
                for kind in self.outputs:
                    _check_answer(model.predict(self.inputs(rows), kind), kind, rows, model)
            model.close()

    def test_a_kind_it_cannot_give_is_a_clear_error(self) -> None:
        with TemporaryDirectory() as folder:
            model = self._load(folder)
            for kind in set(_KINDS) - set(self.outputs):
                try:
                    model.predict(self.inputs(2), kind)
                except OutputUnavailable:
                    continue
                require(False, f"asked for {kind!r}, which it isn't to give, predict() raised no OutputUnavailable")
            model.close()

    def test_a_batch_equals_its_rows(self) -> None:
        with TemporaryDirectory() as folder:
            model = self._load(folder)
            columns = self.inputs(5)
            for kind in self.outputs:
                together = model.predict(columns, kind)
                for row in range(5):
                    alone = model.predict({name: column[row : row + 1] for name, column in columns.items()}, kind)
                    require(_close(together[row : row + 1], alone), f"{kind}: row {row} alone differs from the batch")
            model.close()

    def test_several_threads_get_the_same_answer(self) -> None:
        with TemporaryDirectory() as folder:
            model = self._load(folder)
            columns, kind = self.inputs(16), self.outputs[0]
            expected = model.predict(columns, kind)
            for found in at_once(lambda: model.predict(columns, kind)):
                require(_close(expected, found), "it answered differently when several threads asked at once")
            model.close()

    def test_the_inputs_are_left_as_they_were(self) -> None:
        with TemporaryDirectory() as folder:
            model = self._load(folder)
            columns = self.inputs(4)
            before = {name: column.copy() for name, column in columns.items()}
            model.predict(columns, self.outputs[0])
            for name, column in columns.items():
                require(column.tolist() == before[name].tolist(), f"predict() changed the input {name!r}")
            model.close()

    def test_threads_are_taken(self) -> None:
        with TemporaryDirectory() as folder:
            model = self.backend().load(self._model(folder), threads=1)
            _check_answer(model.predict(self.inputs(2), self.outputs[0]), self.outputs[0], 2, model)
            model.close()
            model.close()  # Closing twice is no error: a router closes what it shares.

    def _model(self, folder: str) -> Path:
        home = Path(folder) / "model"
        home.mkdir()
        return self.write_model(home)

    def _load(self, folder: str) -> LoadedModel:
        return self.backend().load(self._model(folder))


def _check_answer(answer: NDArray[Any], kind: OutputKind, rows: int, model: LoadedModel) -> None:
    require(isinstance(answer, np.ndarray), f"{kind}: found a {type(answer).__name__}, expected a numpy array")
    require(answer.shape[:1] == (rows,), f"{kind}: found the shape {answer.shape} for {rows} rows")
    if kind == "proba":
        require(
            answer.ndim == 2 and answer.shape[1] >= 2,
            f"proba: found the shape {answer.shape}, expected (rows, classes)",
        )
        require(np.allclose(answer.sum(axis=1), 1, atol=1e-3), "proba: a row doesn't sum to 1")
        if model.classes:
            require(
                answer.shape[1] == len(model.classes), f"proba: {answer.shape[1]} columns, {len(model.classes)} classes"
            )
    if kind in ("label", "score"):
        require(answer.ndim == 1, f"{kind}: found the shape {answer.shape}, expected (rows,)")
    if kind != "label":
        require(answer.dtype == np.float64, f"{kind}: found the dtype {answer.dtype}, expected float64")


def _close(a: NDArray[Any], b: NDArray[Any]) -> bool:
    if a.dtype.kind in "fc":
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True))
    return bool(a.tolist() == b.tolist())
