"""MLflow model directories: registered as they are."""

from __future__ import annotations

from pathlib import Path

from lepton_mlflow.layouts.layout import Layout
from lepton_mlflow.model_files import FileFacts
from lepton_plugins.errors import FrameworkMismatch
from lepton_plugins.routing.mlmodel import MLMODEL, read_mlmodel


def is_model(path: Path) -> bool:
    return (path / MLMODEL).is_file()


def lay_out(path: Path, framework: str | None) -> Layout:
    """`framework` may be any flavour of the model, or None for its first."""
    content = read_mlmodel(path)
    assert content is not None
    if not content.flavors:
        found = "an MLflow model without any flavor"
        raise FrameworkMismatch(path, framework or "pyfunc", found, "at least one flavor in its MLmodel file")
    facts = FileFacts(tuple(content.flavors), content.signature)
    known = {
        facts.framework or "pyfunc",
        *content.flavors,
        *(["pyfunc"] if "python_function" in content.flavors else []),
    }
    if framework is not None and framework not in known:
        found = f"an MLflow model with the flavors {', '.join(content.flavors)}"
        raise FrameworkMismatch(path, framework, found, "a model with that flavor")
    return Layout(framework=facts.framework or "pyfunc", complete=path)
