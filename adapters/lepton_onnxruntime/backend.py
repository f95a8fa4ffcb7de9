"""ONNX through ONNX Runtime: an MLflow directory of the onnx flavour, or a bare `*.onnx` file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from lepton_onnxruntime.graph import OnnxGraph, read_graph
from lepton_plugins.errors import ModelFilesInvalid
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.backend import Inspection, LoadedModel
from lepton_plugins.routing.mlmodel import read_mlmodel


class OnnxRuntimeBackend:
    """Loads no code: external weights must be inside the directory, native operator libraries are refused."""

    name = "onnxruntime"
    places: Literal[True] = True

    def inspect(self, path: Path) -> Inspection | None:
        file, signature = _find(path)
        if file is None:
            return None
        graph = read_graph(file)
        _check(file, graph)
        missing = () if find_spec("onnxruntime") else ("onnxruntime",)
        return Inspection(
            format="onnx",
            carries_code=False,
            signature=signature or _graph_signature(graph),
            missing=missing,
            install="pip install 'lepton-plugins[onnx]'" if missing else "",
        )

    def load(self, path: Path, *, threads: int | None = None, gpu: bool | None = None) -> LoadedModel:
        """`threads` for one operator, 1 by default: a server has other requests for its other cores.

        `gpu`: whether the plan gives the version one; None: it gets one where this ONNX Runtime has the CUDA provider.
        """
        from lepton_onnxruntime.model import OnnxModel

        file, signature = _find(path)
        if file is None:
            raise ModelFilesInvalid(path, "it holds no ONNX file")
        graph = read_graph(file)
        _check(file, graph)
        return OnnxModel(file, graph, signature or _graph_signature(graph), threads or 1, gpu)


def _find(path: Path) -> tuple[Path | None, Signature | None]:
    """The ONNX file and MLflow's signature of it."""
    if path.is_file():
        return (path if path.suffix == ".onnx" else None), None
    if not path.is_dir():
        return None, None
    mlmodel = read_mlmodel(path)
    if mlmodel is None:
        files = sorted(path.glob("*.onnx"))
        return (files[0] if len(files) == 1 else None), None
    if "onnx" not in mlmodel.flavors:
        return None, None
    file = mlmodel.file(mlmodel.flavors["onnx"].get("data", "model.onnx"))
    if file.is_dir():  # MLflow before 1.29 with external weights: a folder that holds the file.
        file = file / "model.onnx"
    if not file.is_file():
        raise ModelFilesInvalid(path, f"MLmodel names {file.name!r}, which isn't there")
    return file, mlmodel.signature


def _check(file: Path, graph: OnnxGraph) -> None:
    if graph.custom_domains:
        raise ModelFilesInvalid(
            file,
            f"its operators of the domain {', '.join(graph.custom_domains)} need a native library, which is never "
            f"loaded; export it with standard operators",
        )
    folder = file.parent.resolve()
    for name in sorted(graph.external_files):
        weights = (file.parent / name).resolve()
        if Path(name).is_absolute() or not weights.is_relative_to(folder):
            raise ModelFilesInvalid(file, f"its weights are in {name!r}, outside the model's directory")
        if not weights.is_file():
            raise ModelFilesInvalid(file, f"its weights are in {name!r}, which isn't there")


def _graph_signature(graph: OnnxGraph) -> Signature:
    """What the graph says where MLflow doesn't: inputs of one value a row are columns."""
    columns = all(len(item.shape) == 1 or item.shape[1:] == (1,) for item in graph.inputs)
    inputs = tuple(
        Field(name=item.name, dtype=item.dtype or "object", shape=(-1,) if columns else (-1, *item.shape[1:]))
        for item in graph.inputs
    )
    outputs = tuple(
        Field(name=item.name, dtype=item.dtype or "object", shape=(-1, *item.shape[1:])) for item in graph.outputs
    )
    return Signature(layout="columns" if columns else "tensors", inputs=inputs, outputs=outputs)
