"""Planning on real components: an MLflow registry, ONNX models, measured reports, the router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import PlanStale
from lepton_plugins.evaluation.evaluate import EvaluationOptions, evaluate
from lepton_plugins.evaluation.row_metrics import row_values
from lepton_plugins.planning import lifecycle
from lepton_plugins.planning.diff import diff
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.registry import open_registry
from lepton_plugins.routing.directory import pull
from lepton_plugins.routing.router import Router

INPUTS = ("a", "b")
SPEC = {
    "model": "delays",
    "policy": {"kind": "segment_best", "params": {"by": ["carrier"]}},
    "resources": {"budget": {"cpu": 2, "memory": "8Gi"}, "load": "50/s", "slo": {"p99": "500ms"}},
}


def rows_of(seed: int, rows: int) -> pd.DataFrame:
    """Carrier X is late by `a`, carrier Y by `b`, carrier Z by both."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(0, 1, (rows, 2)), columns=list(INPUTS)).astype("float32")
    frame["carrier"] = rng.choice(["X", "Y", "Z"], rows)
    odds = np.select([frame["carrier"] == "X", frame["carrier"] == "Y"], [2 * frame["a"], 2 * frame["b"]])
    odds = odds + (frame["carrier"] == "Z") * (frame["a"] + frame["b"])
    frame["late"] = (rng.random(rows) < 1 / (1 + np.exp(-odds))).astype(int)
    return frame


@pytest.fixture
def registered(sqlite_uri: str, tmp_path: Path):
    """Three versions, each trained on one carrier's flights, evaluated on later ones."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    registry = open_registry(sqlite_uri)
    train = rows_of(0, 6000)
    for carrier in "XYZ":
        own = train[train["carrier"] == carrier]
        model = LogisticRegression().fit(own[list(INPUTS)].to_numpy(), own["late"])
        graph = to_onnx(model, own[list(INPUTS)].to_numpy()[:1], options={"zipmap": False})
        file = tmp_path / f"{carrier}.onnx"
        file.write_bytes(graph.SerializeToString())
        registry.register("delays", file, framework="onnx", label=carrier.lower(), metadata={})
    return registry


@pytest.mark.timeout(300)
def test_from_registry_to_routed_answers(registered, tmp_path):
    reports = evaluate(
        registered,
        "delays",
        rows_of(1, 5000),
        target="late",
        task="classification",
        slices=["carrier"],
        options=EvaluationOptions(cost_seconds=0.3, dataset_name="later"),
    )
    assert [report.failure for report in reports] == [None] * 3
    planned = make_plan(registered, parse_spec({**SPEC, "default": 3}))
    answers = {item.segment: next(iter(item.shares)) for item in planned.segments}
    assert answers == {"X": "1", "Y": "2", "Z": "3"}
    assert planned.plan.gain.low > 0.02
    assert 0 < planned.plan.allocation.used["memory"] < 8 * 2**30

    first = lifecycle.save(registered, planned)
    rival = lifecycle.save(registered, make_plan(registered, parse_spec({"model": "delays", "default": 3})))
    activation = lifecycle.promote(registered, "delays", str(first.number), why="better by carrier")
    assert registered.plan_in_force("delays").digest == planned.plan.digest
    assert registered.get_version("delays", "@lepton-champion").version == "3"
    with pytest.raises(PlanStale):
        lifecycle.promote(registered, "delays", str(rival.number))
    assert make_plan(registered, parse_spec(SPEC)).plan.digest == make_plan(registered, parse_spec(SPEC)).plan.digest

    held_out = rows_of(2, 30_000)
    data = held_out[[*INPUTS, "carrier"]]
    router = Router.load(pull(registered, "delays", tmp_path / "deployment"))
    target = held_out["late"].to_numpy().astype(str).astype(object)
    losses = {
        version: row_values("log_loss", target, router.predict(data, version=version).values, ("0", "1"))
        for version in (None, "1", "2", "3")
    }
    gained = losses["3"] - losses[None]
    # The stated interval is of the evaluation's rows; these are others, with an error of their own.
    error = 2 * gained.std() / np.sqrt(len(gained))
    assert planned.plan.gain.low - error < gained.mean() < planned.plan.gain.high + error
    assert all(losses[None].mean() < losses[version].mean() for version in "123")

    pin = lifecycle.pin(registered, "delays", "y", why="incident")
    pinned = registered.get_plan(registered.plan_in_force("delays"))[0]
    assert diff(planned.plan, pinned)
    router = Router.load(pull(registered, "delays", tmp_path / "deployment"))
    assert (np.asarray(router.predict(data).block.chosen) == router.plan.arms.index(pinned.arm("2"))).all()
    assert lifecycle.unpin(registered, "delays").to_digest == activation.to_digest
    trail = lifecycle.history(registered, "delays")
    assert [(entry.action, entry.why) for entry in trail] == [
        ("promote", activation.why),
        ("pin", pin.why),
        ("unpin", ""),
    ]
