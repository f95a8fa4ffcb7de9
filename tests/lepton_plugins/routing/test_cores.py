"""The cores of a container are those that it was given."""

from __future__ import annotations

import os

import pytest

from lepton_plugins.routing.cores import available_cores, whole_cores

V2, QUOTA, PERIOD = "cpu.max", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    available_cores.cache_clear()
    yield
    available_cores.cache_clear()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({V2: "max 100000\n"}, 8),
        ({V2: "150000 100000\n"}, 1.5),
        ({V2: "6400000 100000\n"}, 8),
        ({QUOTA: "-1\n", PERIOD: "100000\n"}, 8),
        ({QUOTA: "50000\n", PERIOD: "100000\n"}, 0.5),
        ({V2: "something else\n"}, 8),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path, files, expected):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == expected


@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (3, 2), (16, 1)])
def test_processes_share_them(monkeypatch, processes, expected):
    monkeypatch.setattr("lepton_plugins.routing.cores.available_cores", lambda: 8.0)
    assert whole_cores(processes) == expected
