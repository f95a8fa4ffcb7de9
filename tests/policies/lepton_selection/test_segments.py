"""Segments: the same value is the same segment, from a column or from a request."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_plugins.errors import ColumnMissing, TooManySegments
from lepton_selection.segments import LIMIT, Segments, canonical


def test_one_value_has_one_name():
    assert {canonical(value) for value in (1, 1.0, "1", np.int8(1), np.float32(1), b"1")} == {"1"}
    assert {canonical(value) for value in (True, np.bool_(True), "True")} == {"True"}
    assert {canonical(value) for value in (None, float("nan"), np.nan, pd.NA, pd.NaT, np.datetime64("NaT"))} == {None}
    assert canonical(0.1) == "0.1"
    assert canonical(np.datetime64("2026-01-02")) == canonical(datetime(2026, 1, 2)) == "2026-01-02T00:00:00"


@pytest.mark.parametrize("dtype", [object, "U2", "datetime64[ns]", "int64", "float64", "bool"])
def test_a_column_and_a_row_agree(dtype):
    raw = {"U2": ["a", "b", "b"], object: ["a", None, "b"], "bool": [True, False, True]}.get(dtype, [1, 2, 2])
    column = np.array(raw, dtype=dtype)
    segments = Segments.found_in(["x"], {"x": column})
    cells = segments.find({"x": column}, len(column))
    assert cells.tolist() == [segments.find_one({"x": value}) for value in column]
    assert segments.find_one({"x": "never seen"}) == segments.unknown
    assert segments.find_one({}) == segments.missing
    assert segments.find({}, 2).tolist() == [segments.missing] * 2


values = st.one_of(st.none(), st.sampled_from(["a", "b,c", "b", "c", ""]), st.integers(-2, 2), st.floats(-1, 1))


@given(st.lists(st.tuples(values, values), min_size=1, max_size=30), st.tuples(values, values))
def test_crossed_columns(rows, other):
    def table(of):
        columns = {}
        for i, name in enumerate("xy"):
            column = np.empty(len(of), dtype=object)
            column[:] = [row[i] for row in of]
            columns[name] = column
        return columns

    segments = Segments.found_in(["x", "y"], table(rows))
    assert len(set(segments.names)) == len(segments.names)
    cells = segments.find(table([*rows, other]), len(rows) + 1)
    assert cells.tolist() == [segments.find_one({"x": x, "y": y}) for x, y in [*rows, other]]
    for (x, y), cell in zip(rows, cells, strict=False):
        if canonical(x) is None or canonical(y) is None:
            assert cell == segments.missing
        else:
            assert segments.values[cell] == (canonical(x), canonical(y))


def test_a_column_that_is_not_there():
    with pytest.raises(ColumnMissing, match=r"'carier'.*Did you mean 'carrier'.*--context carier"):
        Segments.found_in(["carier"], {"carrier": np.array(["a"])})


def test_a_column_of_too_many_values():
    with pytest.raises(TooManySegments, match=r"distance has 10,001 different values .* at most 10,000"):
        Segments.found_in(["distance"], {"distance": np.arange(LIMIT + 1) / 7})


def test_values_of_any_kind_have_a_cell():
    segments = Segments(["a"], [["1"], ["x"]])
    column = np.empty(8, dtype=object)
    column[:] = [[1], 1, 1.0, True, "x", None, float("nan"), "y"]
    found = segments.find({"a": column}, 8).tolist()
    assert found == [2, 0, 0, 2, 1, 3, 3, 2]
    assert found == [segments.find_one({"a": value}) for value in column]


def test_many_combinations_are_found_without_a_table_of_all():
    rng = np.random.default_rng(0)
    columns = {name: np.array([f"{name}{i}" for i in rng.integers(0, 300, 2000)], dtype=object) for name in "abc"}
    segments = Segments.found_in(list(columns), columns)
    found = segments.find(columns, 2000)
    for row in range(0, 2000, 50):
        value = {name: column[row] for name, column in columns.items()}
        assert segments.find_one(value) == found[row]
        assert segments.values[found[row]] == tuple(value.values())
    strange = {name: np.array(["strange", None], dtype=object) for name in "abc"}
    assert segments.find(strange, 2).tolist() == [segments.unknown, segments.missing]
