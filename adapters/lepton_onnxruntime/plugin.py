"""What Lepton offers for ONNX Runtime."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import BackendOffer


@hookimpl
def lepton_backends() -> list[BackendOffer]:
    return [
        BackendOffer(
            name="onnxruntime",
            summary="ONNX models, without importing MLflow",
            target="lepton_onnxruntime.backend:OnnxRuntimeBackend",
            requires=("onnxruntime",),
            install="pip install 'lepton-plugins[onnx]'",
            priority=100,
        )
    ]
