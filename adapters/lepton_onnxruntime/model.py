"""A loaded ONNX model: columns in, one kind of output out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from lepton_onnxruntime.feed import SessionInput, feeder
from lepton_onnxruntime.graph import OnnxGraph, with_output
from lepton_plugins.errors import OutputUnavailable
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.signature import Signature
from lepton_plugins.routing import outputs

Reader = Callable[[Any, int], NDArray[Any]]

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

logger = logging.getLogger("lepton_onnxruntime")


def providers(available: Sequence[str], gpu: bool | None) -> list[str]:
    """Where a version runs, the first choice first: without a word of the plan (None) on a GPU that is there."""
    if gpu is False:
        return [_CPU]
    if gpu and _CUDA not in available:
        logger.warning(
            "the plan gives a version a GPU, and this ONNX Runtime has no CUDA provider (found %s): it runs on a CPU. "
            "Install onnxruntime-gpu in the place of onnxruntime where there is a GPU",
            ", ".join(available),
        )
    return [name for name in (_CUDA, _CPU) if name in available]


def open_session(model: Path | bytes, threads: int, gpu: bool | None = None) -> Any:
    """A session with settings for serving, on the device that `providers` says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Threads that spin between requests take the cores from the other sessions.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    where = providers(onnxruntime.get_available_providers(), gpu)
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, sess_options=options, providers=where)


class OnnxModel:
    """One session. Which output answers which kind is decided when it is loaded."""

    def __init__(
        self, file: Path, graph: OnnxGraph, signature: Signature, threads: int, gpu: bool | None = None
    ) -> None:
        self.signature: Signature | None = signature
        self._inner = next(iter(graph.zip_maps.values()), None) if not graph.external_files else None
        if self._inner is not None:
            # The tensor behind a ZipMap, so that no dictionary is made for each row.
            session = open_session(with_output(file.read_bytes(), self._inner), threads, gpu)
        else:
            session = open_session(file, threads, gpu)
        self._session = session
        inputs = [SessionInput(item.name, item.type, item.shape) for item in session.get_inputs()]
        self._feed = feeder(file, signature, inputs)
        roles = _Roles(session.get_outputs(), graph, self._inner)
        self.classes = outputs.class_names(graph.classes) if roles.classifies else ()
        self._class_values = np.asarray(graph.classes) if self.classes else None
        self._described = roles.described
        self._readers: dict[str, tuple[list[str], Reader]] = {}
        for kind, read in (("proba", self._proba), ("label", self._label), ("score", self._score), ("value", _value)):
            reader = read(roles)
            if reader is not None:
                self._readers[kind] = reader

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        reader = self._readers.get(output)
        if reader is None:
            raise OutputUnavailable(None, output, self._described)
        feed = self._feed(columns)
        rows = len(next(iter(feed.values())))
        names, read = reader
        return read(self._session.run(names, feed)[0], rows)

    def close(self) -> None:
        self._session = None

    # --- which output answers, and how it is read --------------------------------------------

    def _proba(self, roles: _Roles) -> tuple[list[str], Reader] | None:
        if roles.proba:
            return [roles.proba], outputs.as_proba
        if roles.maps:
            return [roles.maps], lambda raw, rows: outputs.as_proba(self._unzip(raw), rows)
        if roles.logits:
            return [roles.logits], outputs.proba_of_logits
        if roles.numbers:
            return [roles.numbers], outputs.as_proba
        return None

    def _label(self, roles: _Roles) -> tuple[list[str], Reader] | None:
        if roles.label:
            return [roles.label], outputs.as_label
        source = roles.proba or roles.logits or (roles.numbers if roles.wide else None)
        if not source:
            return None
        if source == roles.logits and not roles.wide:
            return [source], lambda raw, rows: self._best(outputs.proba_of_logits(raw, rows))
        if roles.wide:
            return [source], lambda raw, rows: self._best(raw)
        return [source], lambda raw, rows: self._best(outputs.as_proba(raw, rows))

    def _score(self, roles: _Roles) -> tuple[list[str], Reader] | None:
        if roles.score or roles.logits:
            return [roles.score or roles.logits or ""], outputs.as_score
        if roles.proba:
            return [roles.proba], lambda raw, rows: outputs.score_of_proba(outputs.as_proba(raw, rows))
        if roles.maps:
            return [roles.maps], lambda raw, rows: outputs.score_of_proba(outputs.as_proba(self._unzip(raw), rows))
        if roles.numbers:
            return [roles.numbers], outputs.as_score
        return None

    def _best(self, scores: NDArray[Any]) -> NDArray[Any]:
        return outputs.label_of_scores(scores, self._class_values)

    def _unzip(self, maps: list[dict[Any, float]]) -> NDArray[Any]:
        keys = list(maps[0]) if self._class_values is None and maps else self._class_values
        return np.array([[row[key] for key in keys] for row in maps]) if keys is not None else np.empty((0, 0))


def _value(roles: _Roles) -> tuple[list[str], Reader] | None:
    return ([roles.value], outputs.as_value) if roles.value else None


class _Roles:
    """What each output of a session is, by its name, its type and the operator that makes it."""

    def __init__(self, session_outputs: list[Any], graph: OnnxGraph, inner: str | None) -> None:
        self.label: str | None = None
        self.proba = inner
        self.maps: str | None = None
        self.logits: str | None = None
        self.score: str | None = None
        floats: list[Any] = []
        for item in session_outputs:
            name = item.name.lower()
            maker = graph.makers.get(item.name, "")
            if item.name == inner:
                continue
            if item.type.startswith("seq("):
                self.maps = self.maps or item.name
            elif item.type in ("tensor(string)", "tensor(int64)", "tensor(int32)", "tensor(bool)"):
                self.label = self.label or item.name
            elif "prob" in name or maker == "Softmax":
                self.proba = self.proba or item.name
            elif "logit" in name:
                self.logits = self.logits or item.name
            elif "score" in name:
                self.score = self.score or item.name
            elif item.type in ("tensor(float)", "tensor(double)", "tensor(float16)"):
                floats.append(item)
        first = floats[0] if floats else None
        #: An output of numbers of which neither name nor operator says what they are.
        self.numbers: str | None = first.name if first else self.score
        self.classifies = bool(self.proba or self.maps or self.logits or (self.label and graph.classes))
        width = first.shape[1] if first is not None and len(first.shape) == 2 else 1
        if self.proba or self.logits:
            named = next(item for item in session_outputs if item.name == (self.proba or self.logits))
            width = named.shape[1] if len(named.shape) == 2 else 1
        #: More than one figure a row: one for each class.
        self.wide = not (isinstance(width, int) and width == 1)
        only_label = self.label if len(session_outputs) == 1 else None
        self.value: str | None = first.name if first and not self.classifies else self.score or only_label
        kinds = {
            "labels": self.label,
            "probabilities": self.proba or self.maps,
            "logits": self.logits,
            "numbers": self.numbers,
        }
        self.described = " and ".join(kind for kind, name in kinds.items() if name) or "nothing that is known"
