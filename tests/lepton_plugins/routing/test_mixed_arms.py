"""Arms of different formats and class orders in one router."""

from __future__ import annotations

import mlflow.onnx
import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression

from lepton_plugins.errors import ClassesDiffer
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.loaded_arm import class_order

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(RANDOM.normal(size=(300, 2)), columns=["a", "b"])
LABELS = np.where(FRAME["a"] + 0.5 * RANDOM.normal(size=300) > 0, "yes", "no")


class Named(mlflow.pyfunc.PythonModel):
    """Probabilities in columns named by class, in an order of its own."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self.order = order

    def predict(self, context, model_input, params=None):
        p = 1 / (1 + np.exp(-model_input["a"].to_numpy()))
        by_name = {"yes": p, "no": 1 - p}
        return pd.DataFrame({f"proba_{name}": by_name[name] for name in self.order})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    signature = infer_signature(FRAME, LABELS)
    fitted = LogisticRegression().fit(FRAME, LABELS)
    array = LogisticRegression().fit(FRAME.to_numpy(dtype=np.float32), LABELS)
    more = {"signature": signature, "pip_requirements": ["numpy"]}
    mlflow.onnx.save_model(to_onnx(array, FRAME.to_numpy(dtype=np.float32)[:1]), folder / "onnx", **more)
    mlflow.sklearn.save_model(fitted, folder / "sklearn", serialization_format="skops", **more)
    for name, order in (("straight", ("no", "yes")), ("turned", ("yes", "no"))):
        mlflow.pyfunc.save_model(folder / name, python_model=Named(order), **more)
    expected = {"onnx": fitted.predict_proba(FRAME)[:, 1], "sklearn": fitted.predict_proba(FRAME)[:, 1]}
    expected["straight"] = expected["turned"] = 1 / (1 + np.exp(-FRAME["a"].to_numpy()))
    return folder, expected


@pytest.mark.parametrize("classes", [("no", "yes"), ("yes", "no"), ("maybe", "no", "yes")])
def test_every_arm_answers_in_the_plans_order_of_classes(make_router, weighted_policy, models, classes):
    folder, expected = models
    names = list(expected)
    router = make_router(
        models={str(i + 1): folder / name for i, name in enumerate(names)},
        policy=weighted_policy({str(i + 1): 0.25 for i in range(4)}),
        classes=classes,
        # What a pyfunc doesn't name it must give for every class: with a third class only those that know theirs do.
        trust={"3": "pickle", "4": "pickle"},
    )
    for rows in (slice(0, 300), slice(0, 1)):
        for number, name in enumerate(names):
            answer = router.predict(FRAME[rows], version=str(number + 1))
            assert {d.fallback for d in answer.decisions} == {None}
            np.testing.assert_allclose(answer.values[:, classes.index("yes")], expected[name][rows], atol=1e-5)
            assert answer.values.shape[1] == len(classes)
            assert answer.classes == classes


def test_labels_of_one_router_may_come_from_any_arm(make_router, weighted_policy, models):
    folder, expected = models
    router = make_router(
        models={"1": folder / "onnx", "2": folder / "sklearn"},
        policy=weighted_policy({"1": 0.5, "2": 0.5}),
        output="label",
    )
    labels = router.predict(FRAME).values
    assert labels.tolist() == np.where(expected["onnx"] > 0.5, "yes", "no").tolist()


def test_an_arm_whose_inputs_have_another_type_gets_it(make_router, weighted_policy, models):
    """The plan's signature says doubles; one arm takes single precision, which mlflow itself would refuse."""
    folder, expected = models
    single = Signature(inputs=(Field(name="a", dtype="float32"), Field(name="b", dtype="float32")))
    router = make_router(
        models={"1": folder / "onnx", "3": folder / "straight"},
        policy=weighted_policy({"1": 0.5, "3": 0.5}),
        classes=("no", "yes"),
        signatures={"1": single},
        trust={"3": "pickle"},
        default="3",
    )
    answer = router.predict(FRAME, version="3")
    np.testing.assert_allclose(answer.values[:, 1], expected["straight"], atol=1e-5)


def test_a_version_without_signature_gets_all_but_the_context(make_router, weighted_policy, segments_policy, models):
    folder, expected = models
    mlflow.sklearn.save_model(
        LogisticRegression().fit(FRAME, LABELS),
        folder / "unsigned",
        serialization_format="skops",
        pip_requirements=["numpy"],
    )
    router = make_router(
        models={"1": folder / "onnx", "2": folder / "unsigned"},
        policy=segments_policy("carrier", {"AA": "2"}),
        context=[Field(name="carrier", dtype="str", required=False)],
        classes=("no", "yes"),
    )
    answer = router.predict(FRAME.assign(carrier="AA"))
    assert answer.versions == ("2",)
    np.testing.assert_allclose(answer.values[:, 1], expected["sklearn"], atol=1e-6)


def test_classes_are_matched_by_name():
    assert class_order(("a", "b"), ("a", "b"), "1") is None
    assert class_order((), ("a", "b"), "1") is None
    assert class_order(("False", "True"), ("0", "1"), "1") is None
    turned = class_order(("True", "False"), ("0", "1"), "1")
    assert turned.apply(np.array([[0.9, 0.1]])).tolist() == [[0.1, 0.9]]
    assert class_order(("b",), ("a", "b"), "1").apply(np.array([[1.0]])).tolist() == [[0.0, 1.0]]
    with pytest.raises(ClassesDiffer, match="a, c"):
        class_order(("a", "c"), ("a", "b"), "1")
