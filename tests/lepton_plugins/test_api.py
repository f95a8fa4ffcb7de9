"""The facade: one object over one registry, on a real database."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from pydantic import BaseModel

from lepton_plugins import ModelRegistry, hookimpl
from lepton_plugins.errors import (
    InvalidInput,
    LabelTaken,
    NothingToPromote,
    PathMissing,
    PlaceTaken,
    PlanNotFound,
    SpecInvalid,
    UnknownPlugin,
)
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.plugins import Plugins
from lepton_plugins.records.event import Event
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.plugin import TargetOffer
from lepton_plugins.records.record import Record
from lepton_plugins.testing import write_deployment


class Listening:
    """A plugin that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[Event] = []

    @hookimpl
    def lepton_event(self, event: Event) -> None:
        self.heard.append(event)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    listening, found = Listening(), Plugins()
    found.register(listening, "listening")
    monkeypatch.setattr("lepton_plugins.events.plugins", lambda: found)
    return listening.heard


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Two versions of a line, as bare ONNX files: y = 2x + 1 and y = 3x - 1."""
    plan = write_deployment(tmp_path / "lines")
    folder = tmp_path / "lines" / "models"
    return [folder / arm.artifact_digest.removeprefix("sha256:") / "model.onnx" for arm in plan.arms]


@pytest.fixture
def data() -> pd.DataFrame:
    """In the north version 1 is right, in the south version 2."""
    x = np.linspace(-1, 1, 600).astype("float32")
    region = np.where(np.arange(600) % 2, "north", "south")
    noise = np.random.default_rng(0).normal(scale=0.2, size=600)
    return pd.DataFrame({"x": x, "region": region, "y": np.where(region == "north", 2 * x + 1, 3 * x - 1) + noise})


def test_the_whole_path(
    sqlite_uri: str,
    models: list[Path],
    data: pd.DataFrame,
    heard: list[Event],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = ModelRegistry(sqlite_uri)
    for number, path in enumerate(models, 1):
        registry.register_model("line", path, model_version=f"v{number}", model_framework="onnx")
    assert [model.model for model in registry.list_models()] == ["line"]
    assert [version.label for version in registry.list_versions("line")] == ["v1", "v2"]
    options = EvaluationOptions(cost=False)
    reports = registry.evaluate(
        "line", data, target="y", task="regression", versions=[1, "v2"], slices=["region"], options=options
    )
    assert [report.version for report in reports] == ["1", "2"]
    assert [report.version for report in registry.reports("line")] == ["1", "2"]
    assert registry.reports("line").notes == ()
    assert len(registry.compare("line", by="region").slices) == 2

    spec = {"model": "line", "policy": {"kind": "segment_best", "params": {"by": ["region"]}}}
    assert registry.diff_with(spec)
    planned = registry.plan(spec)
    assert registry.plan_of("line").digest == planned.plan.digest
    assert registry.diff("line").old is None
    registry.promote("line", why="north and south")
    assert not registry.diff("line")
    with pytest.raises(NothingToPromote):
        registry.promote("line")
    assert not registry.diff_with(spec)

    registry.pin("line", "v2")
    assert registry.diff("line", 1, 2).changes
    registry.unpin("line")
    assert [entry.action for entry in registry.history("line")] == ["promote", "pin", "unpin"]

    explanation = registry.explain("line", {"x": 0.5, "region": "north"})
    assert explanation.chosen == "1"
    router = registry.router("line", directory=tmp_path / "deployment")
    answers = router.predict(data[["x", "region"]])
    router.close()
    assert float(np.abs(answers.values - data["y"]).mean()) < 0.2

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    short_lived = registry.router("line")
    np.testing.assert_array_equal(short_lived.predict(data[["x", "region"]]).values, answers.values)
    short_lived.close()
    assert list((tmp_path / "temporary").glob("lepton-*"))
    del short_lived
    gc.collect()
    assert not list((tmp_path / "temporary").glob("lepton-*"))

    # One report that can't be read doesn't hide the others.
    MlflowClient(registry_uri=sqlite_uri).set_model_version_tag("line", "2", "lepton.report", "{")
    found = registry.reports("line")
    assert [report.version for report in found] == ["1"]
    (note,) = found.notes
    assert note.startswith("version 2: its report can't be read. The tag lepton.report of version 2 of 'line'")
    assert note in str(found)
    assert "can&#x27;t be read" in found._repr_html_()

    for shown in (registry.list_models(), registry.list_versions("line"), reports, registry.history("line"), planned):
        assert "<table>" in shown._repr_html_()
    kinds = [event.kind for event in heard]
    assert kinds == [
        *(["registered"] * 2 + ["evaluated"] * 2),
        *("planned", "promoted", "failed", "promoted", "promoted"),
    ]
    failed = heard[kinds.index("failed")]
    assert (failed.detail["action"], failed.detail["code"]) == ("promote", NothingToPromote.code)


def test_register_takes_the_seed_documents_call(sqlite_uri: str, models: list[Path]) -> None:
    registry = ModelRegistry(sqlite_uri)
    version = registry.register_model(
        model_name="my_model",
        model_version="v1",
        model_framework="onnx",
        model_path=str(models[0]),
        model_metadata={"description": "My first AI model", "stage": 3},
    )
    assert (version.version, version.label, version.framework) == ("1", "v1", "onnx")
    assert version.metadata["stage"] == "3"
    with pytest.raises(LabelTaken):
        registry.register_model("my_model", models[1], "v1")
    with pytest.raises(PathMissing):
        registry.register_model("my_model", "/no/such/model")
    assert len(registry.list_versions("my_model")) == 1


def test_what_is_not_there_is_a_clear_error(sqlite_uri: str, models: list[Path]) -> None:
    registry = ModelRegistry(sqlite_uri)
    registry.register_model("line", models[0], model_framework="onnx")
    with pytest.raises(PlanNotFound):
        registry.plan_of("line")
    with pytest.raises(PlanNotFound):
        registry.pull("line", "/tmp/never-made")
    with pytest.raises(SpecInvalid, match="polcy"):
        registry.plan({"model": "line", "polcy": "weighted"})
    assert registry.reports("line")._repr_html_() == "<p>No version has a report.</p>"


class UnitOptions(Record):
    user: str = "lepton"
    port: int = 8080


class SystemdUnit:
    """A target: a systemd unit that serves the deployment."""

    Options: ClassVar[type[BaseModel]] = UnitOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, UnitOptions)
        unit = f"[Service]\nUser={options.user}\nExecStart=lepton serve . --port {options.port}\n"
        (to / f"{plan.model}.service").write_text(unit)
        if options.user == "nobody":
            raise InvalidInput("nobody can't own a service.")
        return [Path(f"{plan.model}.service")]

    def missing(self) -> Mapping[str, str]:
        return {}


class Targets:
    @hookimpl
    def lepton_targets(self) -> list[TargetOffer]:
        return [TargetOffer(name="systemd", summary="A systemd unit", target=f"{__name__}:SystemdUnit")]


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Plugins()
    found.register(Targets(), "targets")
    monkeypatch.setattr(found, "load", lambda family, name: found.offer(family, name) and SystemdUnit)
    monkeypatch.setattr("lepton_plugins.generate.plugins", lambda: found)


@pytest.mark.usefixtures("systemd")
def test_generate_renders_through_a_target_plugin(sqlite_uri: str, heard: list[Event], tmp_path: Path) -> None:
    write_deployment(tmp_path / "deployment")
    registry = ModelRegistry(sqlite_uri)
    made = registry.generate(tmp_path / "deployment", "systemd", tmp_path / "unit", {"port": "9000"})
    assert made == [Path(".lepton-generated"), Path("line.service")]
    assert "--port 9000" in (tmp_path / "unit" / "line.service").read_text()
    assert [(event.kind, event.model, event.detail["target"]) for event in heard] == [("generated", "line", "systemd")]
    with pytest.raises(PlaceTaken, match=r"found deployment, .*expected a new directory"):
        registry.generate(tmp_path / "deployment", "systemd", tmp_path)
    with pytest.raises(InvalidInput, match=r"no option 'prot'.*Did you mean 'port'"):
        registry.generate(tmp_path / "deployment", "systemd", tmp_path / "other", {"prot": "1"})
    with pytest.raises(InvalidInput, match="port: "):
        registry.generate(tmp_path / "deployment", "systemd", tmp_path / "other", {"port": "many"})
    with pytest.raises(UnknownPlugin, match="Did you mean 'systemd'"):
        registry.generate(tmp_path / "deployment", "sistemd", tmp_path / "other")
    with pytest.raises(InvalidInput, match="nobody"):
        registry.generate(tmp_path / "deployment", "systemd", tmp_path / "other", {"user": "nobody"})
    assert not (tmp_path / "other").exists(), "a target that fails leaves nothing"
