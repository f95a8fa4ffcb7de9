"""What a request to the router may look like, and what is said of one that does not fit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import (
    InputInvalid,
    InputMissing,
    InputUnknown,
    OutputInvalid,
    RequestInvalid,
)

from .conftest import columns, rows_of


@pytest.mark.parametrize("many", [1, 5])
def test_a_column_of_the_policy_that_is_not_there_is_told_once_and_counted(by_carrier, caplog, many):
    for _ in range(2):
        by_carrier.predict(columns(rows_of(many)))
    told = [record.getMessage() for record in caplog.records if "'carrier'" in record.getMessage()]
    assert len(told) == 1
    assert "has no column 'carrier'" in told[0]
    assert "the default is version 1" in told[0]
    assert by_carrier.missing == {"carrier": 2 * many}


def test_a_missing_value_is_no_missing_column(by_carrier, caplog):
    by_carrier.predict(columns(rows_of(2), carrier=np.array([None, None], dtype=object)))
    by_carrier.predict(columns(rows_of(2)), version="2")
    assert not caplog.records
    assert by_carrier.missing == {}


@pytest.mark.parametrize("others", [0, 4])
def test_the_null_input_is_named_and_its_row_where_nobody_has_an_answer(by_carrier, others):
    rows = np.vstack([rows_of(others).reshape(-1, 3), [1.0, np.nan, np.nan]])
    carriers = np.array([*["UA", "WN", "UA", "AA"][:others], "UA"], dtype=object)
    with pytest.raises(OutputInvalid) as raised:
        by_carrier.predict(columns(rows, carrier=carriers))
    said = f"Inputs 'x1', 'x2' are null in row {others}; version 2 and the fallback 1 gave no finite answer."
    assert str(raised.value).startswith(said)


@pytest.mark.parametrize("others", [0, 4])
def test_a_null_that_the_fallback_has_no_answer_for_is_the_requests_fault(
    make_router, linear_files, weighted_policy, others
):
    """Also where the version that was chosen doesn't give NaN for it but fails, as scikit-learn's do."""
    models = {"1": linear_files["1"], "2": linear_files["fails"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}))
    rows = np.vstack([np.abs(rows_of(others)).reshape(-1, 3), [-1.0, np.nan, 0.0]]).astype(np.float32)
    with pytest.raises(OutputInvalid) as raised:
        router.predict(columns(rows))
    assert str(raised.value).startswith("Input 'x1' is null in row ")
    assert "version 2 and the fallback 1 gave no finite answer" in str(raised.value)
    with pytest.raises(OutputInvalid, match=f"null in row {others};"):
        router.predict(columns(rows), version="1")


def test_a_null_that_every_version_raises_for_is_the_requests_fault_and_leaves_no_version_out(
    make_router, linear_files, weighted_policy
):
    """scikit-learn's models raise ValueError for NaN: a client that sends nulls takes no version from the others."""
    models = {"1": linear_files["1"], "2": linear_files["2"]}
    router = make_router(models=models, policy=weighted_policy({"2": 1.0}), around={"breaker": {"failures": 2}})
    for arm in router._answerer._arms:
        arm.model = _RefusesNull(arm.model)
    null = np.array([[-1.0, np.nan, 0.0]])
    for _ in range(3):
        with pytest.raises(OutputInvalid, match=r"Input 'x1' is null in row 0; version 2 and the fallback 1 gave no"):
            router.predict(columns(null))
    answer = router.predict(columns(rows_of(3)))
    assert answer.versions == ("2",)
    assert router._answerer.left_out == ()


class _RefusesNull:
    def __init__(self, model):
        self.model, self.classes, self.signature = model, model.classes, model.signature

    def predict(self, given, output):
        if any(np.isnan(column).any() for column in given.values()):
            raise ValueError("Input X contains NaN.")
        return self.model.predict(given, output)

    def close(self):
        self.model.close()


@pytest.mark.parametrize("kind", ["frame", "dict", "lists", "nullable"])
def test_data_comes_as_frame_dict_or_lists(by_carrier, positive, kind):
    rows = rows_of(5)
    data = columns(rows, carrier=np.array(["UA"] * 5, dtype=object))
    if kind == "frame":
        data = pd.DataFrame(data)
    elif kind == "lists":
        data = {name: list(values) for name, values in data.items()}
    elif kind == "nullable":
        data = pd.DataFrame(data).convert_dtypes()
        data["carrier"] = data["carrier"].astype("category")
    np.testing.assert_allclose(by_carrier.predict(data).values[:, 1], positive("2", rows), rtol=1e-5)


def test_a_matrix_is_taken_in_the_signatures_order(make_router, weighted_policy, positive):
    router = make_router(policy=weighted_policy({"2": 1.0}))
    rows = rows_of(4)
    np.testing.assert_allclose(router.predict(rows).values[:, 1], positive("2", rows), rtol=1e-5)
    with pytest.raises(RequestInvalid, match=r"\(4, 2\).*x0, x1, x2"):
        router.predict(rows[:, :2])


def test_no_rows_give_no_answers(by_carrier):
    answer = by_carrier.predict(pd.DataFrame(columns(rows_of(0), carrier=np.array([], dtype=object))))
    assert answer.values.shape == (0, 2)
    assert answer.decisions == []


def test_the_number_of_keys_is_checked(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"1": 1.0}))
    for n in (1, 3):
        with pytest.raises(RequestInvalid, match="2 keys"):
            router.predict(columns(rows_of(n)), keys=["a", "b"])


def test_wrong_requests_name_the_field(by_carrier):
    rows = rows_of(2)
    good = columns(rows)
    with pytest.raises(InputMissing, match="'x1'"):
        by_carrier.predict({name: good[name] for name in ("x0", "x2")})
    with pytest.raises(InputUnknown, match=r"'x9'.*Known: carrier, x0"):
        by_carrier.predict(good | {"x9": rows[:, 0]})
    with pytest.raises(InputInvalid, match=r"'x1'.*strings") as caught:
        by_carrier.predict(good | {"x1": np.array(["a", "b"])})
    assert caught.value.field == "x1"
    with pytest.raises(InputInvalid, match=r"'x2'.*3 rows"):
        by_carrier.predict(good | {"x2": np.zeros(3)})
    with pytest.raises(InputInvalid, match=r"'carrier'.*int"):
        by_carrier.predict(good | {"carrier": np.array(["AA", 7], dtype=object)})


def test_integers_do_for_doubles_and_missing_context_is_the_policys_business(by_carrier):
    answer = by_carrier.predict({f"x{i}": np.array([1, 2]) for i in range(3)})
    assert {d.served for d in answer.decisions} == {"1"}
    assert {d.context["carrier"] for d in answer.decisions} == {None}
