"""`segment_best` by quantile bins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton_plugins.errors import ColumnMissing, PolicyUnfit
from lepton_plugins.routing.policy import column_of
from lepton_plugins.testing.evidence import column_from
from lepton_plugins.testing.policy import PolicyContract
from lepton_selection.bins import Bins
from lepton_selection.segment_best import SegmentBest
from lepton_selection.segment_params import SegmentBestParams


class TestContract(PolicyContract):
    policy = SegmentBest
    params = {"by": ["carrier", "distance:3"]}
    columns = {"carrier": ["AA", "UA", None], "distance": [100, 251.5, 700, 2000]}


def test_edges_are_values_and_ends_are_open():
    bins = Bins.found_in(np.r_[np.arange(100.0), np.nan], 4)
    assert bins.labels == ["< 24", "[24, 49)", "[49, 74)", "≥ 74"]
    assert [bins.one(value) for value in (-5, 24, 48.9, 10**400, None, "far")] == [
        "< 24",
        "[24, 49)",
        "[24, 49)",
        "≥ 74",
        None,
        None,
    ]
    assert Bins.found_in(np.array([7, 7, 7]), 3).labels == ["any number"]
    assert Bins.found_in(column_from(["a", None]), 2) is None


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_one_is_as_a_column(value):
    bins = Bins([-1.5, 0.0, 3.0])
    assert (
        bins.one(value)
        == bins.column(column_of(value) if not isinstance(value, int) else column_from([None, value])[1:])[0]
    )


def test_the_better_version_of_each_bin(paired_of):
    rng = np.random.default_rng(3)
    distance = rng.exponential(500, 6000)
    paired = paired_of([[0.0], [0.0]], rows=6000, extra={"distance": distance})
    paired.values[:, 1] -= np.where(distance > 1000, 0.2, -0.05)
    paired.utility[:] = 1 - paired.values / 1.2
    params = SegmentBestParams(by="distance:8")
    proposal = SegmentBest.propose(params, paired)
    better = [name for name, allowed in zip(proposal.segments, proposal.allowed[:, 1], strict=True) if allowed]
    edges = proposal.detail["segments"].bins["distance"].edges
    assert better == [proposal.detail["segments"].bins["distance"].labels[-1]]
    assert edges[-1] == pytest.approx(np.quantile(distance, 7 / 8), rel=0.01)


def test_what_cannot_be(paired_of):
    with pytest.raises(ValidationError, match="2 to 100 bins"):
        SegmentBestParams(by="distance:1")
    with pytest.raises(ValidationError, match="each column once"):
        SegmentBestParams(by=("distance:3", "distance"))
    paired = paired_of([[0.0], [0.0]], rows=100)
    with pytest.raises(PolicyUnfit, match="expected by: segment"):
        SegmentBest.propose(SegmentBestParams(by="segment:3"), paired)
    with pytest.raises(ColumnMissing):
        SegmentBest.propose(SegmentBestParams(by="nowhere:3"), paired)
