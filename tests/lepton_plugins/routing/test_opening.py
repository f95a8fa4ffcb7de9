"""What a router loads when it is opened, and on how many threads its arms run."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lepton_plugins.records.plan import Arm, ArmResources
from lepton_plugins.routing.directory import DeploymentDirectory, write_plan
from lepton_plugins.routing.opening import gpu_of, threads_of
from lepton_plugins.routing.router import Router

from .conftest import CARRIER, TABLE, columns, rows_of


def test_a_router_that_follows_another_loads_only_what_differs(
    build_directory, linear_files, weighted_policy, tmp_path, monkeypatch
):
    from lepton_onnxruntime import backend

    loads: list[str] = []
    real = backend.OnnxRuntimeBackend.load
    monkeypatch.setattr(
        backend.OnnxRuntimeBackend,
        "load",
        lambda self, path, **more: loads.append(path.name) or real(self, path, **more),
    )
    policy = weighted_policy({"1": 1.0})
    first = build_directory(tmp_path / "a", {"1": linear_files["1"], "2": linear_files["2"]}, policy=policy)
    second = build_directory(tmp_path / "b", {"1": linear_files["1"], "2": linear_files["3"]}, policy=policy)
    old = Router.load(first)
    new = Router.load(second)
    assert len(loads) == 3
    old.close()
    np.testing.assert_allclose(new.predict(columns(rows_of(2))).values.sum(axis=1), 1)
    new.close()
    Router.load(first).close()
    assert len(loads) == 5


def test_loading_is_light_and_fast(build_directory, linear_files, segments_policy, tmp_path):
    directory = build_directory(
        tmp_path / "deployment",
        {version: linear_files[version] for version in "123"},
        policy=segments_policy("carrier", TABLE),
        context=[CARRIER],
    )
    script = """
import sys, time
from lepton_plugins.routing.router import Router
import numpy as np
router = Router.load(sys.argv[1])
router.predict({f"x{i}": np.ones(2) for i in range(3)})
elapsed = time.process_time()  # Of all threads: what other processes do doesn't count.
heavy = [m for m in ("mlflow", "pandas", "evidently", "torch", "scipy", "sklearn", "pyarrow") if m in sys.modules]
print(elapsed, *heavy)
"""
    run = subprocess.run([sys.executable, "-c", script, str(directory)], capture_output=True, text=True, check=True)
    seconds, *heavy = run.stdout.split()
    assert heavy == []
    assert float(seconds) < 1.0


@pytest.mark.parametrize(
    ("cpu", "replicas", "processes", "expected"),
    [(None, 1, 1, None), (0.7, 1, 1, None), (3.9, 1, 1, 3), (8.0, 4, 1, 2), (8.0, 1, 2, 4), (64.0, 1, 1, 8)],
)
def test_an_arm_gets_the_threads_of_its_cores(monkeypatch, cpu, replicas, processes, expected):
    monkeypatch.setattr("lepton_plugins.routing.opening.available_cores", lambda: 8.0)
    resources = ArmResources(cpu=cpu, replicas=replicas)
    arm = Arm(version="1", uri="", artifact_digest="", backend="", format="", share=1.0, resources=resources)
    assert threads_of(arm, processes) == expected


def test_each_arm_has_its_own_threads(monkeypatch, build_directory, linear_files, weighted_policy, tmp_path):
    monkeypatch.setattr("lepton_plugins.routing.opening.available_cores", lambda: 8.0)
    models = {version: linear_files[version] for version in ("1", "2", "3")}
    path = build_directory(tmp_path / "deployment", models, policy=weighted_policy({"1": 0.5, "2": 0.5}))
    plan = DeploymentDirectory.open(path).plan
    arms = [
        arm.model_copy(update={"resources": ArmResources(cpu=cpu)})
        for arm, cpu in zip(plan.arms, (4.2, 0.3, None), strict=True)
    ]
    write_plan(plan.model_copy(update={"arms": tuple(arms)}), {}, path)

    def threads(router: Router) -> list[int]:
        sessions = [arm.model._session for arm in router._answerer._arms]
        return [session.get_session_options().intra_op_num_threads for session in sessions]

    with Router.load(path) as router:
        assert threads(router) == [4, 1, 1]
    with Router.load(path, threads=2) as router:
        assert threads(router) == [2, 2, 2]


def test_versions_without_a_gpu_run_beside_it():
    def arm(version: str, gpu: float | None) -> Arm:
        resources = ArmResources(gpu=gpu)
        return Arm(version=version, uri="", artifact_digest="", backend="", format="", share=0.5, resources=resources)

    one, other = arm("1", 1.0), arm("2", None)
    assert [gpu_of(arms, each) for arms in ((one, other), (other,)) for each in arms] == [True, False, None]
