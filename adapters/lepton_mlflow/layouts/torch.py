"""PyTorch: whole models of `torch.save`, TorchScript archives, and exported programs (`.pt2`)."""

from __future__ import annotations

from pathlib import Path

from lepton_mlflow.layouts.contents import is_torch, require
from lepton_mlflow.layouts.layout import Layout, installed, pyfunc, requirement


def lay_out(path: Path) -> Layout:
    """MLflow's loader wants a folder `data` with `model.pth` and the name of the module that unpickles it."""
    require(is_torch(path), path, "torch", "what torch.save, torch.jit.save or torch.export.save wrote")
    exported = path.suffix == ".pt2"
    name = "data/model.pt2" if exported else "data/model.pth"
    pickle_module = "mlflow.pytorch.pickle_module"
    return Layout(
        framework="torch",
        flavors={
            "pytorch": {
                "model_data": "data",
                "pytorch_version": installed("torch") or "",
                "code": None,
            },
            "python_function": pyfunc(
                "mlflow.pytorch", data="data", pickle_module_name=pickle_module, config={"device": None}
            ),
        },
        files={name: path},
        texts={} if exported else {"data/pickle_module_info.txt": pickle_module},
        requirements=[requirement("torch"), requirement("cloudpickle")],
    )
