"""Casting without loss, and saying which field doesn't fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import InputInvalid
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.inputs import InputChecker, fit_column


def objects(*values: object) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        ("float64", np.array([1, 2], dtype=np.int32), [1.0, 2.0]),
        ("float64", objects(1, None, 2.5), [1.0, np.nan, 2.5]),
        ("float64", objects(1, pd.NA, 2.5), [1.0, np.nan, 2.5]),
        ("float32", np.array([0.1, 0.5]), np.array([0.1, 0.5], dtype=np.float32)),
        ("int64", np.array([1.0, 2.0]), [1, 2]),
        ("int64", objects(1, 2), [1, 2]),
        ("int32", np.array([1, 2], dtype=np.int64), [1, 2]),
        ("uint8", np.array([0, 255]), [0, 255]),
        ("bool", objects(True, False), [True, False]),
        ("bool", np.array([True]), [True]),
        ("str", np.array(["a", "b"]), ["a", "b"]),
        ("str", objects("a", None, float("nan"), pd.NA), ["a", None, None, None]),
        ("bytes", objects(b"a"), [b"a"]),
        ("datetime64[ns]", objects("2026-01-02T03:04:05Z", None), ["2026-01-02T03:04:05", "NaT"]),
        ("datetime64[ns]", np.array(["2026-01-02"], dtype="M8[D]"), ["2026-01-02"]),
        ("datetime64[ns]", objects("1677-09-22", "1969-12-31T23:59:59.5"), ["1677-09-22", "1969-12-31T23:59:59.5"]),
        ("object", objects({"a": 1}), [{"a": 1}]),
    ],
)
def test_what_fits_is_cast(dtype, given, expected):
    column = fit_column(Field(name="x", dtype=dtype), given)
    if dtype.startswith("datetime"):
        expected = np.array(expected, dtype="M8[ns]")
    wanted = np.asarray(expected) if dtype not in ("str", "bytes", "object") else objects(*expected)
    assert column.dtype == (np.dtype(dtype) if dtype not in ("str", "bytes", "object") else np.dtype(object))
    np.testing.assert_array_equal(column, wanted)


@pytest.mark.parametrize(
    ("dtype", "given"),
    [
        ("float64", np.array(["1.5"])),
        ("float64", objects("1.5")),
        ("float64", np.array([True])),
        ("float64", np.array([2**53 + 1])),
        ("float32", np.array([1e300])),
        ("int64", np.array([1.5])),
        ("int64", np.array([np.nan])),
        ("int64", np.array([2.0**63])),
        ("int64", np.array([2**63], dtype=np.uint64)),
        ("uint64", np.array([-1])),
        ("int64", objects(1, None)),
        ("int32", np.array([2**31])),
        ("uint8", np.array([-1])),
        ("bool", np.array([1])),
        ("bool", objects(True, None)),
        ("str", objects("a", 7)),
        ("str", np.array([7])),
        ("bytes", objects("a")),
        ("datetime64[ns]", objects("yesterday")),
        ("datetime64[ns]", objects("9999-12-31")),
        ("datetime64[ns]", np.array(["2026-01-02", "9999-12-31"])),
        ("datetime64[ns]", np.array(["0001-01-01", "NaT"], dtype="M8[us]")),
        ("datetime64[ns]", np.array([7])),
        ("float64", np.zeros((2, 2))),
    ],
)
def test_what_would_lose_something_is_refused(dtype, given):
    with pytest.raises(InputInvalid, match="'x'") as caught:
        fit_column(Field(name="x", dtype=dtype), given)
    assert caught.value.field == "x"


@pytest.mark.parametrize("given", [objects("2026-01-02", None, "yesterday"), np.array(["2026-01-02Z", "yesterday"])])
def test_a_text_that_is_no_date_is_named(given):
    with pytest.raises(InputInvalid, match="the text 'yesterday'"):
        fit_column(Field(name="x", dtype="datetime64[ns]"), given)


@pytest.mark.parametrize(
    ("dtype", "given", "told"),
    [
        ("bool", np.array([0, 1]), "found int64 such as 0; expected bool"),
        ("str", np.array([True]), "found bool such as True; expected str"),
        ("bool", np.array(["a"]), "'a'"),
    ],
)
def test_what_was_found_stands_there_as_its_owner_writes_it(dtype, given, told):
    with pytest.raises(InputInvalid) as caught:
        fit_column(Field(name="x", dtype=dtype), given)
    assert told in str(caught.value)
    assert "np." not in str(caught.value)


def test_a_float_that_a_double_holds_exactly_may_be_a_large_integer():
    assert fit_column(Field(name="x", dtype="float64"), np.array([2**60]))[0] == 2.0**60


def test_tensors_are_checked_by_shape():
    field = Field(name="image", dtype="float32", shape=(-1, 3, -1))
    assert fit_column(field, np.zeros((2, 3, 7))).shape == (2, 3, 7)
    for shape in ((2, 4, 7), (2, 3), (2,)):
        with pytest.raises(InputInvalid, match="shape"):
            fit_column(field, np.zeros(shape))


def test_a_tables_column_of_lists_is_a_tensor(tmp_path):
    matrix, nested = [[1.0, 2.0], [3.0, 4.0]], [[[1.0], [2.0]], [[3.0], [4.0]]]
    pd.DataFrame({"x": matrix, "y": nested}).to_parquet(tmp_path / "rows.parquet")
    columns, _ = InputChecker(None).columns_of(pd.read_parquet(tmp_path / "rows.parquet"))
    field = Field(name="x", dtype="float32", shape=(-1, 2))
    for given in (columns["x"], objects(*matrix)):
        np.testing.assert_array_equal(fit_column(field, given), np.array(matrix, dtype=np.float32))
    deep = Field(name="y", dtype="float32", shape=(-1, 2, 1))
    np.testing.assert_array_equal(fit_column(deep, columns["y"]), np.array(nested, dtype=np.float32))
    with pytest.raises(InputInvalid, match="arrays of one shape"):
        fit_column(field, objects([1.0, 2.0], [3.0]))


def test_one_column_of_a_table_may_have_two_dimensions():
    checker = InputChecker(Signature(inputs=(Field(name="x", dtype="float64"),)))
    assert checker.check({"x": np.zeros((3, 1))}, 3)["x"].shape == (3,)


def test_frames_keep_their_types_through_pandas():
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None], dtype="Int64"),
            "whole": pd.array([1, 2], dtype="Int64"),
            "text": pd.array(["a", None], dtype="string"),
            "kind": pd.Categorical(["x", "y"]),
            "when": pd.to_datetime(["2026-01-02T03:00Z", "2026-01-03T03:00Z"]),
            "flag": pd.array([True, False], dtype="boolean"),
        }
    )
    columns, rows = InputChecker(None).columns_of(frame)
    assert rows == 2
    assert columns["whole"].tolist() == [1, 2]
    assert columns["whole"].dtype.kind == "i"
    assert np.isnan(columns["nullable"][1])
    assert columns["text"].tolist() == ["a", None]
    assert columns["kind"].tolist() == ["x", "y"]
    assert columns["when"].dtype.kind == "M"
    assert str(columns["when"][0]).startswith("2026-01-02T03:00")
    assert columns["flag"].dtype == bool
