"""A registry in memory and evaluated versions whose truth is known.

The real registry has its own tests, and `test_with_mlflow.py` here; this one makes many small worlds fast.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.canonical import digest_bytes
from lepton_plugins.errors import PlanNotFound, PlanStale, VersionNotFound
from lepton_plugins.evaluation.predictions import predictions_frame
from lepton_plugins.records.plan import Activation, DeploymentPlan, PlanRevision
from lepton_plugins.records.report import BatchLatency, Dataset, EvaluationReport, Quantity, Resources
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.records.version import ModelVersion

CLASSES = ("no", "yes")


class MemoryRegistry:
    """What planning asks of a registry, as `Registry` documents it."""

    uri = "memory://"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions: dict[str, ModelVersion] = {}
        self.reports: dict[str, EvaluationReport | Exception | None] = {}
        self.files: dict[str, Path] = {}
        self.plans: list[tuple[DeploymentPlan, dict[str, bytes], PlanRevision]] = []
        self.activations: list[Activation] = []

    def list_versions(self, model: str) -> list[ModelVersion]:
        # Search results carry no aliases, as in MLflow.
        return [version.model_copy(update={"aliases": ()}) for version in self.versions.values()]

    def get_version(self, model: str, version: str) -> ModelVersion:
        for known in self.versions.values():
            if version in (known.version, known.label) or version.removeprefix("@") in known.aliases:
                return known
        raise VersionNotFound(model, version, list(self.versions))

    def get_report(self, model: str, version: str) -> EvaluationReport | None:
        found = self.reports.get(version)
        if isinstance(found, Exception):
            raise found
        return found

    def get_report_file(self, report: EvaluationReport, name: str, to: Path) -> Path | None:
        if report.version not in self.files:
            return None
        return Path(shutil.copy(self.files[report.version], to / name))

    def save_plan(self, plan: DeploymentPlan, files: Mapping[str, bytes], summary: str) -> PlanRevision:
        for stored, _, revision in self.plans:
            if stored.digest == plan.digest:
                return revision
        plan = DeploymentPlan.read(plan.content)
        number = len(self.plans) + 1
        revision = PlanRevision(
            model=plan.model,
            digest=plan.digest,
            run_id=f"run{number}",
            number=number,
            parent=plan.parent,
            summary=summary,
        )
        self.plans.append((plan, dict(files), revision))
        return revision

    def get_plan(self, revision: PlanRevision) -> tuple[DeploymentPlan, dict[str, bytes]]:
        for plan, files, stored in self.plans:
            if stored.digest == revision.digest:
                return plan, files
        raise PlanNotFound(revision.model, revision.digest)

    def list_plans(self, model: str) -> list[PlanRevision]:
        return [revision for _, _, revision in self.plans]

    def plan_in_force(self, model: str) -> PlanRevision | None:
        if not self.activations:
            return None
        return next(item for item in self.list_plans(model) if item.digest == self.activations[-1].to_digest)

    def activate(self, activation: Activation, expected: str | None, *, force: bool) -> Activation:
        current = self.activations[-1].to_digest if self.activations else None
        if current != expected and not force:
            raise PlanStale(activation.model, activation.to_digest, str(expected), str(current))
        self.activations.append(activation.model_copy(update={"from_digest": current}))
        return self.activations[-1]

    def list_activations(self, model: str) -> list[Activation]:
        return list(self.activations)


@dataclass
class World:
    """Labelled rows of four carriers, and versions that are good at some of them."""

    registry: MemoryRegistry
    rows: int = 6000
    seed: int = 0
    carriers: Sequence[str] = ("AA", "B6", "DL", "UA")
    frame: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        carrier = rng.choice(self.carriers, self.rows, p=None)
        signal = rng.normal(0, 1.5, self.rows)
        true = 1 / (1 + np.exp(-signal))
        late = rng.random(self.rows) < true
        self.frame = pd.DataFrame({"carrier": carrier, "signal": signal, "late": np.where(late, "yes", "no")})

    def add(
        self,
        version: str,
        skill: Mapping[str, float] | float = 0.5,
        *,
        noise: int = 0,
        label: str | None = None,
        aliases: tuple[str, ...] = (),
        inputs: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        shift: float = 0.0,
        predictions: bool = True,
        **report: object,
    ) -> EvaluationReport:
        """A version whose log odds are `skill` (by carrier) × the true ones, plus `shift`, plus a little noise."""
        by = dict.fromkeys(self.carriers, skill) if isinstance(skill, float | int) else skill
        rng = np.random.default_rng(1000 + int(version) + noise)
        factor = self.frame["carrier"].map(by).to_numpy(dtype=float)
        odds = factor * self.frame["signal"].to_numpy() + shift + rng.normal(0, 0.3, self.rows)
        yes = 1 / (1 + np.exp(-odds))
        signature = Signature(
            inputs=tuple(Field(name=k, dtype=v) for k, v in (inputs or {"signal": "float64"}).items())
        )
        digest = digest_bytes(f"files of {version}".encode())
        self.registry.versions[version] = ModelVersion(
            model="flights",
            version=version,
            label=label,
            uri=f"models:/flights/{version}",
            signature=None if inputs == {} else signature,
            artifact_digest=digest,
            aliases=aliases,
            metadata=dict(metadata or {}),
        )
        facts: dict[str, object] = {
            "model": "flights",
            "version": version,
            "artifact_digest": digest,
            "dataset": Dataset(name="march", digest="sha256:march", rows=self.rows),
            "task": "classification",
            "target": "late",
            "output": "proba",
            "classes": CLASSES,
            "backend": "onnxruntime",
            "format": "onnx",
            "latency": (
                BatchLatency(batch_size=1, p50_ms=1, p95_ms=2, p99_ms=4, rows_per_second=1000),
                BatchLatency(batch_size=64, p50_ms=2, p95_ms=3, p99_ms=5, rows_per_second=30000),
            ),
            "resources": Resources(peak_memory=Quantity(value=2.0**30, how="measured")),
            "evaluated_at": f"2026-01-01T00:00:{int(version):02d}+00:00",
            "run_id": f"report{version}",
        }
        made = EvaluationReport.model_validate(facts | report)
        self.registry.reports[version] = made
        if predictions:
            frame = predictions_frame(
                row_id=np.arange(self.rows),
                target=self.frame["late"].to_numpy(dtype=object),
                output=np.stack([1 - yes, yes], axis=1),
                kind="proba",
                classes=CLASSES,
                groups=None,
                columns=self.frame[["carrier"]],
            )
            path = self.registry.folder / f"{version}.parquet"
            frame.to_parquet(path, index=False)
            self.registry.files[version] = path
        return made


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    return MemoryRegistry(tmp_path)


@pytest.fixture
def new_world(registry: MemoryRegistry) -> Callable[..., World]:
    return partial(World, registry)


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    return new_world()


@pytest.fixture
def split_world(world: World) -> World:
    """Version 1 is better for AA and B6, version 2 for DL and UA, version 3 nowhere."""
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.4, "UA": 0.4}, aliases=("champion",), label="v1")
    world.add("2", {"AA": 0.4, "B6": 0.4, "DL": 1.0, "UA": 1.0}, label="v2")
    world.add("3", 0.3, label="v3")
    return world
