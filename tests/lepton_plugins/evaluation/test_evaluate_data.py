"""The data of an evaluation: files, digests, slices, inputs, classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import DataEmpty, DataUnreadable, InputInvalid, InvalidInput, PathMissing
from lepton_plugins.evaluation.classes import align_classes
from lepton_plugins.evaluation.dataset import digest_frame, read_evaluation_data
from lepton_plugins.evaluation.features import model_inputs
from lepton_plugins.evaluation.slices import MISSING, slice_frame
from lepton_plugins.evaluation.table import read_table
from lepton_plugins.records.signature import Field, Signature


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "x": rng.normal(size=50),
            "n": rng.integers(0, 1000, size=50),
            "name": rng.choice(["a", "b", None], size=50),
            "flag": rng.random(50) > 0.5,
            "y": rng.integers(0, 2, size=50),
        }
    )


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz", "tsv", "jsonl", "directory"])
def test_every_kind_of_file_gives_the_same_rows_and_the_same_digest(
    table: pd.DataFrame, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"june.{ending}"
    if ending == "parquet":
        table.to_parquet(path)
    elif ending == "directory":
        path.mkdir()
        table[:30].to_parquet(path / "0.parquet")
        table[30:].to_parquet(path / "1.parquet")
    elif ending == "jsonl":
        table.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        table.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    data = read_evaluation_data(path, target="y", task="classification")
    pd.testing.assert_frame_equal(data.frame, table, check_dtype=False)
    assert data.dataset.name == "june"
    if ending != "jsonl":  # JSON keeps 15 digits only.
        assert data.dataset.digest == read_evaluation_data(table, target="y", task="classification").dataset.digest


def test_digests_are_of_the_content(table: pd.DataFrame) -> None:
    digest = digest_frame(table)
    assert digest == digest_frame(table[["y", "name", "x", "n", "flag"]].copy()), "the order of columns doesn't matter"
    assert digest == digest_frame(table.astype({"n": "int32", "name": "category"}))
    assert digest == digest_frame(table.set_index(np.arange(50) + 7)), "nor does the index"
    changed = [
        table.assign(x=table.x.where(table.index != 3, 0.5)),
        table.assign(name=table.name.where(table.name.notna(), "")),
        table.iloc[::-1],
        table.rename(columns={"x": "z"}),
        table.astype({"n": "float"}),
        table.astype({"n": "str"}),
        table[:49],
        table.assign(name=[*table.name[:-2], f"{table.name[48]}b", "a"]),
    ]
    assert len({digest, *map(digest_frame, changed)}) == len(changed) + 1
    target = [read_evaluation_data(table, target=name, task="regression").dataset.digest for name in ("y", "x")]
    assert target[0] != target[1], "another target is another question"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("none.csv", None, PathMissing),
        ("empty.csv", "", DataEmpty),
        ("head.csv", "x,y\n", DataEmpty),
        ("bad.parquet", "x,y\n1,2\n", DataUnreadable),
        ("bad.jsonl", "{x\n", DataUnreadable),
        ("data.xlsx", "x", DataUnreadable),
    ],
)
def test_files_without_a_table_are_clear_errors(
    tmp_path: Path, name: str, content: str | None, error: type[Exception]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(error, match=name.partition(".")[0]):
        read_evaluation_data(path, target="y", task="classification")


def test_two_columns_of_one_name_are_an_error() -> None:
    with pytest.raises(InvalidInput, match="several columns named 'a'"):
        read_table(pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]))


def test_classes_are_in_order_of_their_values_and_the_positive_one_last() -> None:
    def classes(values: list[Any], **more: Any) -> tuple[str, ...]:
        return read_evaluation_data(pd.DataFrame({"y": values}), target="y", task="classification", **more).classes

    assert classes([10, 9, 2]) == ("2", "9", "10")
    assert classes([True, False]) == ("False", "True")
    assert classes(["yes", "no", None]) == ("no", "yes")
    assert classes(["yes", "no"], positive="no") == ("yes", "no")
    assert classes([1.0, 0.0, np.nan]) == ("0", "1")


def test_slices_by_value_crossed_and_by_bins() -> None:
    frame = pd.DataFrame(
        {
            "carrier": ["UA", "AA", None, "UA"],
            "month": [10, 9, 9, 10],
            "far": [1.0, 2.0, 3.0, np.nan],
            "a,b:2": [0, 1, 0, 1],
        }
    )
    found = slice_frame(frame, ["carrier", "month,carrier", "far:2", "a,b:2"])
    assert found[("carrier",)].values == [("AA",), ("UA",), (MISSING,)]
    assert found[("carrier",)].codes.tolist() == [1, 0, 2, 1]
    assert found[("month", "carrier")].values == [("9", "AA"), ("9", MISSING), ("10", "UA")]
    assert found[("far",)].values == [("[1, 2)",), ("[2, 3]",), (MISSING,)]
    assert found[("far",)].codes.tolist() == [0, 1, 1, 2]
    assert found[("a,b:2",)].values == [("0",), ("1",)], "a column of this very name comes first"


def test_bins_of_a_column_with_few_values_fall_together() -> None:
    found = slice_frame(pd.DataFrame({"n": [0] * 90 + [1] * 10}), ["n:4"])[("n",)]
    assert found.values == [("[0, 1]",)]
    assert slice_frame(pd.DataFrame({"n": [5.0, 5.0]}), ["n:4"])[("n",)].values == [("[5, 5]",)]


def test_inputs_are_cast_as_a_router_casts_and_never_with_loss(table: pd.DataFrame) -> None:
    def inputs(*fields: Field, layout: Any = "columns", **more: Any) -> dict[str, Any]:
        signature = Signature(layout=layout, inputs=fields)
        return model_inputs(table.assign(**more), signature, "1", {"y"}).arrays

    found = inputs(
        Field(name="n", dtype="float32"), Field(name="name", dtype="str"), Field(name="no", dtype="str", required=False)
    )
    assert found["n"].dtype == np.float32
    assert set(found) == {"n", "name"}
    assert None in found["name"].tolist()
    with pytest.raises(InputInvalid, match="'x'"):
        inputs(Field(name="x", dtype="int64"))
    with pytest.raises(InputInvalid, match="missing"):
        inputs(Field(name="n", dtype="int64"), n=table.n.astype("Int64").mask(table.index == 2).astype(object))

    matrix = inputs(Field(name="X", dtype="float32", shape=(-1, 2)), layout="tensors", flag="text")
    assert matrix["X"].tolist() == table[["x", "n"]].to_numpy("float32").tolist()
    with pytest.raises(InputInvalid, match="exactly 5"):
        inputs(Field(name="X", dtype="float32", shape=(-1, 5)), layout="tensors")
    lists = inputs(Field(name="v", dtype="float32", shape=(-1, 3)), layout="tensors", v=[[1.0, 2.0, 3.0]] * 50)
    assert lists["v"].shape == (50, 3)


def test_classes_of_a_model_are_found_in_the_data_whatever_their_order_or_spelling() -> None:
    proba = np.array([[0.2, 0.8], [0.6, 0.4]])
    aligned, classes, _ = align_classes(proba, "proba", ("b", "a"), ("a", "b"), "1")
    assert (aligned.tolist(), classes) == ([[0.8, 0.2], [0.4, 0.6]], ("a", "b"))
    aligned, _, _ = align_classes(proba, "proba", ("False", "True"), ("0", "1"), "1")
    assert aligned.tolist() == proba.tolist()
    labels, classes, _ = align_classes(np.array([1.0, 0.0]), "label", (), ("False", "True"), "1")
    assert labels.tolist() == ["True", "False"]
    wider, classes, notes = align_classes(proba, "proba", ("a", "c"), ("a", "b"), "1")
    assert classes == ("a", "b", "c")
    assert wider.tolist() == [[0.2, 0.0, 0.8], [0.6, 0.0, 0.4]]
    assert "b" in notes[0]
    with pytest.raises(Exception, match="classes x, y; the data's are a, b"):
        align_classes(proba, "proba", ("x", "y"), ("a", "b"), "1")
