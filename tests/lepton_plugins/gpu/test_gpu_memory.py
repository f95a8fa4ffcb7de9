"""GPU memory without a GPU: graphs whose peak is known by hand, torch modules beside torch's own profiler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lepton_plugins.errors import InvalidInput, ShapeUnknown
from lepton_plugins.gpu.accelerators import accelerator, accelerators, read_table
from lepton_plugins.gpu.memory import GpuMemory, Margins, advice
from lepton_plugins.gpu.onnx_graph import gpu_memory

NONE = Margins(workspace=0, least_workspace=0, context=0)
GIB = 2**30


@pytest.fixture
def graph(tmp_path) -> Path:
    """x (n, 100) → 400 → 400, reshaped → 10: the two layers of 400 are alive at the same time."""
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(size=(100, 400)).astype(np.float32),
        "b": rng.normal(size=(400, 400)).astype(np.float32),
        "c": rng.normal(size=(400, 10)).astype(np.float32),
        "shape": np.array([-1, 400]),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"]),
        helper.make_node("MatMul", ["h", "b"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "c"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", float32, ["n", 100])],
        [helper.make_tensor_value_info("y", float32, ["n", 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def test_weights_and_the_widest_place_of_a_graph(graph):
    found = gpu_memory(graph, batch=8, margins=NONE)
    assert found.weights == 4 * (100 * 400 + 400 * 400 + 400 * 10) + 8 * 2
    assert found.activations == 4 * 8 * (400 + 400)
    assert gpu_memory(graph, batch=16, margins=NONE).activations == 2 * found.activations


def test_half_precision_halves_what_floats_take(graph):
    full, half = gpu_memory(graph, margins=NONE), gpu_memory(graph, precision="float16", margins=NONE)
    assert half.weights - 16 == (full.weights - 16) / 2
    assert half.activations == full.activations / 2


def test_margins_are_named_and_configurable(graph):
    found = gpu_memory(graph, margins=Margins(workspace=0.5, least_workspace=100, context=1000))
    assert found.context == 1000
    assert found.workspace == found.activations // 2
    assert found.total == found.weights + found.activations + found.workspace + found.context
    assert found.quantity.how == "estimated"
    assert "context 1000 B" in found.quantity.detail


def test_a_shape_that_depends_on_the_data_is_said_so(graph, tmp_path):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(graph))
    model.graph.node.extend([onnx.helper.make_node("NonZero", ["y"], ["z"])])
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.INT64, None))
    onnx.save(model, tmp_path / "data.onnx")
    with pytest.raises(ShapeUnknown, match="'z' depends on the data"):
        gpu_memory(tmp_path / "data.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "width"
    onnx.save(model, tmp_path / "wide.onnx")
    with pytest.raises(ShapeUnknown, match="its dimension width has no size"):
        gpu_memory(tmp_path / "wide.onnx")


def memory_of(gib: float) -> GpuMemory:
    return GpuMemory(weights=int(gib * GIB), activations=0, workspace=0, context=0)


@pytest.mark.parametrize(
    ("gib", "name", "kind", "key"),
    [
        (4, "nvidia-a100-40gb", "mig", "nvidia.com/mig-1g.5gb"),
        (9, "nvidia-a100-40gb", "mig", "nvidia.com/mig-2g.10gb"),
        (30, "nvidia-a100-40gb", "whole", "nvidia.com/gpu"),
        (4, "nvidia-l4", "shared", "nvidia.com/gpu"),
        (20, "nvidia-l4", "whole", "nvidia.com/gpu"),
        (30, "nvidia-l4", "too_large", None),
        (100, "amd-mi300x", "whole", "amd.com/gpu"),
    ],
)
def test_advice(gib, name, kind, key):
    found = advice(memory_of(gib), accelerator(name))
    assert (found.kind, found.key) == (kind, key)
    assert name in found.text


def test_the_table_is_data():
    assert all(
        item.mig == () or max(part.memory for part in item.mig) <= item.memory for item in accelerators().values()
    )
    (mine,) = read_table("acme-x1: {memory: 8, key: acme.com/x, mig: {1g.2gb: 2}}").values()
    assert mine.mig[0].key == "acme.com/mig-1g.2gb"
    with pytest.raises(InvalidInput, match=r"'nvidia-a100-40g'.*nvidia-a100-40gb"):
        accelerator("nvidia-a100-40g")


def profiled(module, inputs) -> int:
    """The most bytes alive at once in a pass by torch's own profiler, the inputs' included."""
    import torch

    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        module(inputs)
    held = most = 0
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most + inputs.numel() * inputs.element_size()


@pytest.mark.parametrize("kind", ["normed", "residual", "transformer", "normalised", "wide"])
def test_a_torch_module_beside_torchs_profiler(kind):
    torch = pytest.importorskip("torch", reason="torch isn't installed: the torch estimate can't be compared")
    from torch import nn

    from lepton_plugins.gpu.torch_module import gpu_memory as of_module

    class Residual(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(16, 64, 3, padding=1), nn.Conv2d(64, 16, 3, padding=1)

        def forward(self, x):
            return x + self.second(torch.relu(self.first(x)))

    modules = {
        "normed": (nn.Sequential(nn.Conv2d(16, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()), (4, 16, 64, 64)),
        "residual": (nn.Sequential(nn.Conv2d(3, 16, 1), Residual(), Residual()), (2, 3, 64, 64)),
        "transformer": (nn.TransformerEncoderLayer(64, 4, 256, batch_first=True), (4, 100, 64)),
        "normalised": (nn.Sequential(nn.Linear(32, 500), nn.LayerNorm(500), nn.GELU(), nn.Linear(500, 5)), (64, 32)),
        "wide": (nn.Sequential(nn.Linear(100, 4000), nn.ReLU(), nn.Linear(4000, 10)), (256, 100)),
    }
    module, shape = modules[kind]
    module, inputs = module.eval(), torch.randn(*shape)
    found = of_module(module, [inputs], margins=NONE)
    assert found.weights + found.activations == pytest.approx(found.weights + profiled(module, inputs), rel=0.15)
    assert of_module(module, [inputs], precision="float16", margins=NONE).weights == pytest.approx(
        found.weights / 2, rel=0.01
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "vit_b_16"])
def test_an_architecture_of_torchvision_beside_torchs_profiler(name):
    torch = pytest.importorskip("torch", reason="torch isn't installed: the torch estimate can't be compared")
    models = pytest.importorskip("torchvision.models", reason="torchvision isn't installed")
    from lepton_plugins.gpu.torch_module import gpu_memory as of_module

    module, inputs = getattr(models, name)(weights=None).eval(), torch.randn(1, 3, 224, 224)
    found = of_module(module, [inputs], margins=NONE)
    assert found.weights + found.activations == pytest.approx(found.weights + profiled(module, inputs), rel=0.15)


@pytest.mark.long
@pytest.mark.parametrize("name", ["Bert", "DistilBert", "GPT2"])
def test_an_architecture_of_transformers_beside_torchs_profiler(name):
    torch = pytest.importorskip("torch", reason="torch isn't installed: the torch estimate can't be compared")
    transformers = pytest.importorskip("transformers", reason="transformers isn't installed")
    from lepton_plugins.gpu.torch_module import gpu_memory as of_module

    # GPT-2's output layer is its embedding: a weight that is tied is held once.
    kind = f"{name}LMHeadModel" if name == "GPT2" else f"{name}Model"
    module = getattr(transformers, kind)(getattr(transformers, f"{name}Config")()).eval()
    inputs = torch.randint(0, 1000, (2, 64))
    found = of_module(module, [inputs], margins=NONE)
    assert found.weights == sum(value.numel() * 4 for value in module.parameters()) + sum(
        value.numel() * value.element_size() for value in module.buffers()
    )
    assert found.weights + found.activations == pytest.approx(found.weights + profiled(module, inputs), rel=0.15)
