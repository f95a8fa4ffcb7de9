"""The contract kit, run on the first-party plugins and on ones that break the rules."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from lepton_files.jsonl import JsonLinesDecisionLog
from lepton_onnxruntime.backend import OnnxRuntimeBackend
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.routing.policy import Batch, Choice, RowChoice, SelectionPolicy
from lepton_plugins.routing.store import DecisionLog
from lepton_plugins.testing import (
    BackendContract,
    ContractBroken,
    PolicyContract,
    StoreContract,
    TargetContract,
    write_deployment,
)
from lepton_selection.segment_best import SegmentBest
from lepton_selection.weighted import Weighted

CARRIERS = ["UA", "DL", "9E", "B6"]


class TestWeighted(PolicyContract):
    policy = Weighted


class TestWeightedByShares(PolicyContract):
    policy = Weighted
    params = {"shares": {"1": 0.25, "2": 0.75}}


class TestSegmentBest(PolicyContract):
    policy = SegmentBest
    params = {"by": ["carrier"]}
    columns = {"carrier": CARRIERS}


class TestSegmentBestCrossed(PolicyContract):
    policy = SegmentBest
    params = {"by": ["carrier", "month"]}
    columns = {"carrier": CARRIERS, "month": [1, 2]}


class TestOnnxRuntime(BackendContract):
    backend = OnnxRuntimeBackend
    loaders = ("onnxruntime", "onnx", "mlflow")
    outputs = ("value", "score")

    def write_model(self, folder: Path) -> Path:
        plan = write_deployment(folder)
        return folder / "models" / plan.arms[0].artifact_digest.removeprefix("sha256:")

    def inputs(self, rows: int) -> Mapping[str, NDArray[Any]]:
        return {"x": np.arange(rows, dtype=np.float32)}


class TestJsonLines(StoreContract):
    def open(self, folder: Path) -> DecisionLog:
        return JsonLinesDecisionLog(f"file://{folder}")


class UnitOptions(Record):
    user: str = "lepton"


class SystemdUnit:
    """A small real target: a systemd unit that serves the deployment."""

    Options: ClassVar[type[BaseModel]] = UnitOptions

    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        assert isinstance(options, UnitOptions)
        command = f"lepton serve /var/lib/lepton/{plan.model}"
        (to / f"{plan.model}.service").write_text(f"[Service]\nUser={options.user}\nExecStart={command}\n")
        (to / "plan.json").write_bytes((directory / "plan.json").read_bytes())
        return [Path(f"{plan.model}.service"), Path("plan.json")]

    def missing(self) -> Mapping[str, str]:
        return {}


class TestSystemdUnit(TargetContract):
    target = SystemdUnit
    options = {"user": "models"}


# --- what breaks a rule is told ----------------------------------------------------------------


class _Loose(BaseModel):
    hour: str = "hour"


class _Broken(SelectionPolicy):
    """Half of each row to arms 1 and 2, as a base for one fault each."""

    def propensities(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        return np.tile([0.5, 0.5, 0.0], (rows, 1))


class _LooseParams(_Broken):
    Params = _Loose


class _SumsToLess(_Broken):
    def propensities(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        return np.tile([0.5, 0.4, 0.0], (rows, 1))


class _ReadsWhatItDoesNotName(_Broken):
    def propensities(self, context: Mapping[str, NDArray[Any]], rows: int) -> NDArray[np.float64]:
        return super().propensities(context, len(context["carrier"]))


class _ChoosesWhatItMustNot(_Broken):
    def choose(self, batch: Batch) -> Choice:
        choice = super().choose(batch)
        choice.arms[:] = 2
        return choice


class _RowsDiffer(_Broken):
    def choose_one(self, context: Mapping[str, Any], draw: int) -> RowChoice:
        return super().choose_one(context, 2**64 - 1 - draw)


class _NotPicklable(_Broken):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.lookup = lambda hour: hour


class _HidesAnArm(_Broken):
    def explain(self, context: Mapping[str, Any]) -> Any:
        return super().explain(context)[:2]


class _Random(_Broken):
    def choose(self, batch: Batch) -> Choice:
        return super().choose(Batch(batch.rows, batch.context, np.random.default_rng().permutation(batch.draws)))


@pytest.mark.parametrize(
    ("broken", "check", "told"),
    [
        (_LooseParams, "test_unknown_parameters_are_errors", "no_such_parameter"),
        (_SumsToLess, "test_propensities_sum_to_one", "expected 1"),
        (_ReadsWhatItDoesNotName, "test_features_are_columns_of_the_evidence", "reads 'carrier', but needs()"),
        (_ReadsWhatItDoesNotName, "check", "test_a_batch_equals_its_rows: KeyError: 'carrier'"),
        (_ChoosesWhatItMustNot, "test_arms_of_propensity_zero_are_never_chosen", "propensity zero"),
        (_RowsDiffer, "test_a_batch_equals_its_rows", "the same row in a batch"),
        (_HidesAnArm, "test_explain_shows_every_arm", "expected ['1', '2', '3']"),
        (_Random, "test_a_logged_draw_replays_the_choice", "chose differently"),
    ],
)
def test_a_broken_policy_is_told_what_it_breaks(broken: type[SelectionPolicy], check: str, told: str) -> None:
    contract = type("Contract", (PolicyContract,), {"policy": broken, "columns": {"carrier": CARRIERS}})
    with pytest.raises(ContractBroken, match=None) as caught:
        getattr(contract(), check)()
    assert told in str(caught.value)


def test_check_runs_everything_without_pytest_and_lists_all_that_failed() -> None:
    contract = type("Contract", (PolicyContract,), {"policy": _SumsToLess})
    with pytest.raises(ContractBroken) as caught:
        contract.check()
    assert "test_propensities_sum_to_one" in str(caught.value)
    type("Contract", (TargetContract,), {"target": SystemdUnit}).check()


def test_a_policy_that_does_not_pickle_fails() -> None:
    contract = type("Contract", (PolicyContract,), {"policy": _NotPicklable})
    with pytest.raises((ContractBroken, AttributeError, TypeError)):
        contract().test_it_pickles()


class _Leaky(SystemdUnit):
    def render(self, plan: DeploymentPlan, directory: Path, to: Path, options: BaseModel) -> Sequence[Path]:
        import os
        import time

        (to / "unit").write_text(json.dumps({"from": str(directory), "at": time.time_ns(), **os.environ}))
        return [Path("unit")]


@pytest.mark.parametrize(
    "check",
    ["test_two_renders_give_the_same_bytes", "test_it_names_nothing_of_this_machine", "test_it_holds_no_secret"],
)
def test_a_leaky_target_is_caught(check: str) -> None:
    contract = type("Contract", (TargetContract,), {"target": _Leaky})
    with pytest.raises(ContractBroken):
        getattr(contract(), check)()


def test_the_kits_deployment_is_served_by_the_real_router(tmp_path: Path) -> None:
    from lepton_plugins import Router

    write_deployment(tmp_path / "deployment")
    router = Router.load(tmp_path / "deployment")
    prediction = router.predict({"x": np.arange(100, dtype=np.float32)}, keys=[f"unit-{i}" for i in range(100)])
    router.close()
    versions = np.array([decision.served for decision in prediction.decisions])
    x = np.arange(100)
    assert set(versions) == {"1", "2"}
    np.testing.assert_allclose(prediction.values, np.where(versions == "1", 2 * x + 1, 3 * x - 1), rtol=1e-6)
