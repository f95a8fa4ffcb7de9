"""Tables in which some rows hold a null: what is answered, by whom, and what isn't."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lepton_plugins.errors import NullUnanswered, OutputInvalid
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.signature import Field

from .conftest import columns, rows_of


class _Refuses:
    """Raises for a null in some inputs, as scikit-learn's models do, and takes zero for it in others."""

    def __init__(self, model, *names):
        self.model, self.classes, self.signature, self.names = model, model.classes, model.signature, names

    def predict(self, given, output):
        if any(np.isnan(given[name]).any() for name in self.names):
            raise ValueError("Input X contains NaN.")
        return self.model.predict({name: np.nan_to_num(column) for name, column in given.items()}, output)

    def close(self):
        self.model.close()


@pytest.fixture
def refusing(make_router, weighted_policy):
    """A router to whose versions nulls are what `refuses` says."""

    def make(refuses, shares, **settings):
        router = make_router(policy=weighted_policy(shares), **settings)
        for arm in router._answerer._arms:
            arm.model = _Refuses(arm.model, *refuses.get(arm.version, ()))
        return router

    return make


def test_only_rows_whose_null_the_versions_refuse_stay_without_an_answer(refusing, positive, caplog):
    router = refusing({"1": ["x1"], "2": ["x1"]}, {"2": 1.0})
    rows = rows_of(50)
    rows[[7, 21], 1] = np.nan
    rows[[3, 21, 40], 2] = np.nan
    found = router.predict_answerable(pd.DataFrame(columns(rows)))
    assert np.setdiff1d(np.arange(50), found.rows).tolist() == [7, 21]
    assert found.why.startswith("Input 'x1' is null in row 7; version 2 and the fallback 1 gave no finite answer.")
    assert found.prediction.versions == ("2",), "the others' version isn't left for a null that isn't theirs"
    whole = np.nan_to_num(rows[found.rows])
    np.testing.assert_allclose(found.prediction.values[:, 1], positive("2", whole), rtol=1e-5)
    assert not caplog.records, "no stack trace for what the data lacks"


def test_a_null_that_the_chosen_version_takes_is_answered_though_the_default_refuses_it(refusing):
    router = refusing({"1": ["x1"]}, {"1": 0.5, "2": 0.5})
    rows = rows_of(80)
    rows[:40, 1] = np.nan
    found = router.predict_answerable(pd.DataFrame(columns(rows)))
    assert set(range(40, 80)) <= set(found.rows.tolist())
    answered = int((found.rows < 40).sum())
    assert 8 <= answered <= 32, "those of version 2: about a half, whatever is asked again for the others"
    assert [d.served for d in found.prediction.decisions][:answered] == ["2"] * answered


def test_whole_numbers_that_are_null_leave_out_their_rows_alone(make_router, weighted_policy):
    router = make_router(policy=weighted_policy({"2": 1.0}), context=[Field(name="age", dtype="int64")])
    rows = rows_of(6)
    rows[4, 0] = np.nan
    data = pd.DataFrame(columns(rows, age=[30, 41, None, 7, 8, 9]))
    found = router.predict_answerable(data)
    assert found.rows.tolist() == [0, 1, 3, 5]
    assert found.why == "Input 'age' is null in row 2. Expected a value: int64 has no null."
    nobody = router.predict_answerable(data.iloc[[2, 4]])
    assert len(nobody.prediction) == 0


def test_a_row_that_has_no_answer_for_another_reason_refuses_the_table(make_router, linear_files, weighted_policy):
    router = make_router(models={"1": linear_files["nan"]}, policy=weighted_policy({"1": 1.0}))
    rows = np.array([[1.0, 0, 0], [-1.0, 0, 0], [1.0, np.nan, 0]])
    with pytest.raises(OutputInvalid, match="no finite answer for 1 of"):
        router.predict_answerable(pd.DataFrame(columns(rows)))


@pytest.fixture
def asking_several(make_router):
    """A router whose policy, a cascade or an ensemble, asks versions 1 and 2."""

    def make(kind, **settings):
        return make_router(policy=_asking_several(kind), **settings)

    return make


def _asking_several(kind):
    documents = {
        "cascade": {
            "stages": [{"version": "1", "share": 0.5, "threshold": 0.7, "calibration": [1.0, 0.0]}, {"version": "2"}]
        },
        "ensemble": {"how": "mean", "weights": [["1", 0.5], ["2", 0.5]]},
    }
    params = {"cascade": {"stages": ["1", "2"]}, "ensemble": {"members": ["1", "2"]}}
    return PolicyDocument(kind=kind, params=params[kind], document=documents[kind])


@pytest.mark.parametrize("raising", [False, True])
@pytest.mark.parametrize("kind", ["cascade", "ensemble"])
def test_policies_that_ask_several_versions_answer_the_rows_that_they_can(asking_several, kind, raising):
    router = asking_several(kind)
    rows = rows_of(30)
    whole = router.predict(columns(rows)).values
    for arm in router._answerer._arms if raising else ():
        arm.model = _Refuses(arm.model, "x0", "x1", "x2")
    rows[[4, 20], 1] = np.nan
    found = router.predict_answerable(pd.DataFrame(columns(rows)))
    assert np.setdiff1d(np.arange(30), found.rows).tolist() == [4, 20]
    np.testing.assert_allclose(found.prediction.values, whole[found.rows], rtol=1e-5)
    assert {decision.fallback for decision in found.prediction.decisions} == {None}
    assert "null in row 4;" in found.why


@pytest.mark.parametrize("kind", ["cascade", "ensemble"])
def test_held_out_or_not_a_row_is_named_by_its_own_number(asking_several, kind):
    router = asking_several(kind, around=Around(holdout=0.5))
    rows = rows_of(40)
    rows[20:, 1] = np.nan
    found = router.predict_answerable(pd.DataFrame(columns(rows)))
    assert found.rows.tolist() == list(range(20))
    held = [decision.reason == "holdout" for decision in found.prediction.decisions]
    assert 2 <= sum(held) <= 18
    with pytest.raises(NullUnanswered) as refused:
        router.predict(columns(rows))
    assert set(refused.value.rows) <= set(range(20, 40))
