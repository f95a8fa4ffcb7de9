"""Packages that don't install together, by their lines and by a real resolver."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lepton_plugins.planning.installing import apart
from lepton_plugins.planning.plan import make_plan
from lepton_plugins.planning.spec_file import parse_spec


@pytest.fixture(scope="module")
def index():
    """An index that uv can reach."""
    pytest.importorskip("uv")
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "-"]
    done = subprocess.run(command, input="packaging", capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        pytest.skip("uv can't reach a package index here")


def test_lines_that_contradict_each_other():
    found = apart({"1": ["numpy==1.26.4"], "2": ["numpy>=2"], "3": ["numpy==1.26.4  # as 1"]})
    assert set(found) == {("1", "2"), ("3", "2")}
    assert "numpy" in found["1", "2"]


def test_the_same_lines_need_no_resolver(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    assert apart({"1": ["scikit-learn==1.5.0"], "2": ["scikit-learn==1.5.0"]}) == {}


def test_what_packages_want_of_each_other_only_a_resolver_knows(index):
    found = apart({"1": ["scikit-learn==1.5.0"], "2": ["scipy==1.5.0"], "3": ["packaging>=23"]})
    assert set(found) == {("1", "2")}
    assert "scikit-learn==1.5.0 depends on scipy>=1.6.0" in found["1", "2"]


def test_versions_that_do_not_install_together_do_not_run_together(world, index, monkeypatch):
    world.add("1", {"AA": 1.0, "B6": 1.0, "DL": 0.4, "UA": 0.4}, aliases=("champion",))
    world.add("2", 1.0)
    registry, lines = world.registry, {"1": ["scikit-learn==1.5.0"], "2": ["scipy==1.5.0"]}
    for number in lines:
        registry.reports[number] = registry.reports[number].model_copy(update={"backend": "pyfunc"})
    monkeypatch.setattr(type(registry), "requirements", lambda self, version: lines[version.version], raising=False)
    policy = {"kind": "segment_best", "params": {"by": ["carrier"]}}
    plan = make_plan(registry, parse_spec({"model": "flights", "policy": policy}), trust="pickle").plan
    assert [arm.version for arm in plan.arms] == ["1"]
    assert any("versions 1 and 2 can't be installed together" in warning for warning in plan.warnings)
    apart_from = parse_spec({"model": "flights", "policy": policy, "topology": "distributed"})
    assert len(make_plan(registry, apart_from, trust="pickle").plan.arms) == 2
