"""What a version costs: latency and throughput by batch size, its bytes, its parameters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.report import BatchLatency
from lepton_plugins.routing.backend import LoadedModel

BATCH_SIZES = (1, 8, 64, 512)

#: Enough for a p99 of a steady function; more would only take time.
_MOST_CALLS = 2000


def measure_latency(
    model: LoadedModel,
    columns: Mapping[str, NDArray[Any]],
    output: OutputKind,
    *,
    seconds: float = 2.0,
    batch_sizes: Sequence[int] = BATCH_SIZES,
) -> tuple[BatchLatency, ...]:
    """Time calls of each batch size on rows of the data, after a warm-up call that doesn't count.

    `seconds` bounds all batch sizes together; each gets an equal part of what is left, and at least one
    call (a call that was begun is finished). Percentiles are of single calls in this process.
    """
    rows = len(next(iter(columns.values())))
    deadline = time.perf_counter() + seconds
    found = []
    for index, size in enumerate(batch_sizes):
        left = (deadline - time.perf_counter()) / (len(batch_sizes) - index)
        # A few different batches: a model that caches its last answer would look too good.
        batches = [
            {name: values.take(range(start, start + size), axis=0, mode="wrap") for name, values in columns.items()}
            for start in (i * size % rows for i in range(8))
        ]
        until = time.perf_counter() + left
        model.predict(batches[-1], output)
        took: list[float] = []
        while not took or (time.perf_counter() < until and len(took) < _MOST_CALLS):
            batch = batches[len(took) % len(batches)]
            begun = time.perf_counter()
            model.predict(batch, output)
            took.append(time.perf_counter() - begun)
        p50, p95, p99 = (float(value) * 1000 for value in np.percentile(took, (50, 95, 99)))
        found.append(
            BatchLatency(
                batch_size=size, p50_ms=p50, p95_ms=p95, p99_ms=p99, rows_per_second=size * len(took) / sum(took)
            )
        )
    return tuple(found)


def artifact_bytes(path: Path) -> int:
    """Size of a version's files."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def count_parameters(path: Path, model: LoadedModel) -> int | None:
    """Learned numbers in a version: of ONNX graphs, and of scikit-learn estimators where that is known.

    ONNX: initialisers, and numbers in the attributes of nodes (where converted trees and linear models
    keep theirs). scikit-learn: see `sklearn_parameters`. None where neither says.
    """
    graphs = [path] if path.is_file() else sorted(path.rglob("*.onnx"))
    graphs = [file for file in graphs if file.suffix == ".onnx"]
    if len(graphs) == 1:
        return _onnx_parameters(graphs[0])
    native = getattr(model, "native", None)
    return sklearn_parameters(native) if native is not None else None


def _onnx_parameters(path: Path) -> int | None:
    try:
        import onnx
    except ModuleNotFoundError:
        return None

    def count(graph: Any) -> int:
        total = sum(math.prod(tensor.dims) for tensor in graph.initializer)
        total += sum(math.prod(tensor.values.dims) for tensor in graph.sparse_initializer)
        for node in graph.node:
            for attribute in node.attribute:
                total += len(attribute.floats) + math.prod(attribute.t.dims) * attribute.HasField("t")
                if attribute.HasField("g"):
                    total += count(attribute.g)
        return int(total)

    try:
        return count(onnx.load(str(path), load_external_data=False).graph)
    except Exception:  # protobuf's own DecodeError has no public home; a figure for information never fails a report.
        return None


def sklearn_parameters(estimator: Any) -> int | None:
    """Learned numbers of a fitted scikit-learn estimator; None where it isn't one or keeps them elsewhere.

    Linear models: coefficients and intercepts. Neural networks: weights and biases. Trees and ensembles
    of trees: threshold and outputs of each node. Pipelines and searches: their parts.
    """
    steps = getattr(estimator, "steps", None)
    if steps is not None:
        return _sum(sklearn_parameters(step) for _, step in steps if not isinstance(step, str) and step is not None)
    if hasattr(estimator, "best_estimator_"):
        return sklearn_parameters(estimator.best_estimator_)
    if hasattr(estimator, "coefs_"):
        return sum(int(np.size(part)) for part in (*estimator.coefs_, *estimator.intercepts_))
    if hasattr(estimator, "coef_"):
        return int(np.size(estimator.coef_)) + int(np.size(getattr(estimator, "intercept_", ())))
    if hasattr(estimator, "tree_"):
        tree = estimator.tree_
        return int(tree.node_count + tree.value.size)
    if hasattr(estimator, "_predictors"):  # Histogram gradient boosting.
        return sum(2 * int(p.get_n_leaf_nodes()) - 1 for stage in estimator._predictors for p in stage)
    if hasattr(estimator, "estimators_"):
        return _sum(sklearn_parameters(part) for part in np.ravel(np.asarray(estimator.estimators_, dtype=object)))
    return None


def _sum(counts: Any) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
