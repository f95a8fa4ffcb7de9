"""The target `mlflow`: what it renders and how it loads; `conformance/` serves it without Lepton beside it."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.pyfunc.model import PythonModelContext
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from lepton_mlflow.router_model import RouterModel
from lepton_mlflow.router_signature import router_signature
from lepton_mlflow.target import MlflowTarget
from lepton_plugins.api import ModelRegistry
from lepton_plugins.errors import (
    EnvironmentUnknown,
    InvalidInput,
    LeptonNotRequired,
    RequirementInvalid,
    RequirementsConflict,
    RequirementsUnpinned,
)
from lepton_plugins.generate import generate
from lepton_plugins.plugins import plugins
from lepton_plugins.records.around import Around
from lepton_plugins.records.plan import DeploymentPlan, PolicyDocument
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.routing.loading import find_backend
from lepton_plugins.routing.router import Router
from lepton_plugins.testing import TargetContract, write_deployment
from lepton_plugins.testing.deployment import place_version

ROWS = pd.DataFrame({"x": np.linspace(-2, 2, 200), "unit": [f"customer-{i}" for i in range(200)]})


class TestContract(TargetContract):
    target = MlflowTarget


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target") / "deployment"
    write_deployment(folder)
    return folder


@pytest.fixture(scope="module")
def rendered(deployment: Path) -> Path:
    to = deployment.parent / "rendered"
    generate(deployment, "mlflow", to, {})
    return to


@pytest.fixture(scope="module")
def expected(deployment: Path) -> Any:
    with Router.load(deployment) as router:
        return router.predict(ROWS)


def test_a_loaded_model_answers_as_the_router(rendered: Path, expected: Any) -> None:
    model = mlflow.pyfunc.load_model(str(rendered))
    np.testing.assert_allclose(model.predict(ROWS), expected.values, atol=1e-6)
    table = model.predict(ROWS, params={"lepton_decisions": True})
    assert list(table["lepton_version"]) == [decision.served for decision in expected.decisions]
    assert set(table["lepton_version"]) == {"1", "2"}
    np.testing.assert_allclose(table["prediction"], expected.values, atol=1e-6)
    assert set(table["lepton_propensity"].round(1)) == {0.4, 0.6}


def test_threads_share_one_model(rendered: Path, expected: Any) -> None:
    model = mlflow.pyfunc.load_model(str(rendered))
    with ThreadPoolExecutor(8) as pool:
        for values in pool.map(lambda _: model.predict(ROWS), range(40)):
            np.testing.assert_allclose(values, expected.values, atol=1e-6)


def test_it_pickles_as_the_directory_it_was_loaded_from(rendered: Path, expected: Any) -> None:
    copy = pickle.loads(pickle.dumps(mlflow.pyfunc.load_model(str(rendered)).unwrap_python_model()))
    np.testing.assert_allclose(copy.predict(None, ROWS), expected.values, atol=1e-6)


def test_a_bad_request_is_an_mlflow_exception_without_a_trace(rendered: Path) -> None:
    model = mlflow.pyfunc.load_model(str(rendered)).unwrap_python_model()
    with pytest.raises(MlflowException, match="x") as caught:
        model.predict(None, pd.DataFrame({"unit": ["a"]}))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "Traceback" not in caught.value.serialize_as_json()


def test_the_signature_has_the_sticky_key_the_inputs_and_the_parameter(rendered: Path) -> None:
    signature = mlflow.models.get_model_info(str(rendered)).signature
    assert signature is not None
    assert signature.params is not None
    columns = {column.name: (column.type.name, column.required) for column in signature.inputs}
    assert columns == {"x": ("double", True), "unit": ("string", False)}
    assert [spec.name for spec in signature.params] == ["lepton_decisions"]


class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:
        assert params is not None
        return model_input["x"].to_numpy() * params["scale"]


def test_parameters_of_the_versions_are_the_routers(tmp_path: Path) -> None:
    signature = mlflow.models.infer_signature(ROWS[["x"]], params={"scale": 2.0})
    mlflow.pyfunc.save_model(
        tmp_path / "m", python_model=Scaled(), signature=signature, pip_requirements=["numpy==2.0.0"]
    )
    plan = write_deployment(tmp_path / "deployment")
    backend, inspection = find_backend(tmp_path / "m")
    digest = place_version(tmp_path / "m", tmp_path / "deployment")
    known = {"backend": backend, "format": inspection.format, "trust": "pickle", "signature": inspection.signature}
    arms = [arm.model_copy(update={"artifact_digest": digest, **known}) for arm in plan.arms]
    assert inspection.signature is not None
    inputs = Signature(inputs=(*inspection.signature.inputs, *plan.signature.inputs[1:]))
    plan = plan.model_copy(update={"arms": tuple(arms), "signature": inputs})
    write_plan(plan, {}, tmp_path / "deployment")
    params = router_signature(plan).params
    assert params is not None
    assert [(spec.name, spec.dtype.name, spec.default) for spec in params] == [
        ("lepton_decisions", "boolean", False),
        ("scale", "double", None),
    ]
    model = RouterModel()
    model.load_context(PythonModelContext({"deployment": str(tmp_path / "deployment")}, {}))
    x = ROWS["x"].to_numpy()
    for scale, expected in ((None, 2 * x), (3.0, 3 * x)):
        answers = model.predict(None, ROWS, {"lepton_decisions": False, "scale": scale})
        np.testing.assert_allclose(answers, expected, atol=1e-6)
    with pytest.raises(MlflowException, match="Input 'scale': found it in `params` and among the inputs"):
        model.predict(None, ROWS.assign(scale=1.0), {"scale": 3.0})


def test_tensors_keep_their_shape_and_context_goes_beside_them() -> None:
    inputs = (Field(name="X", dtype="float32", shape=(-1, 4)), Field(name="carrier", dtype="str", required=False))
    with tempfile.TemporaryDirectory() as folder:
        plan = write_deployment(Path(folder)).model_copy(
            update={"signature": Signature(layout="tensors", inputs=inputs), "around": Around()}
        )
    schema = router_signature(plan).inputs
    assert [(spec.name, str(spec.type), spec.shape) for spec in schema] == [
        ("X", "float32", (-1, 4)),
        ("carrier", "object", (-1,)),
    ]
    x = np.zeros((2, 4), dtype=np.float32)
    for text in (np.array(["AA", "UA"]), np.array(["AA", "UA"], dtype=object)):
        _enforce_schema({"X": x, "carrier": text}, schema)  # MLflow's own check, before it calls the model.
    body = {"inputs": {"X": x.tolist(), "carrier": ["AA", "UA"]}}
    parsed = infer_and_parse_data(body, schema)
    _enforce_schema(parsed, schema)


def test_mlmodel_says_nothing_that_changes_by_itself(rendered: Path) -> None:
    content = yaml.safe_load((rendered / "MLmodel").read_text())
    assert not {"utc_time_created", "model_uuid", "model_id", "run_id"} & content.keys()
    lines = (rendered / "requirements.txt").read_text().splitlines()
    assert lines == sorted(lines)
    assert all("==" in line for line in lines)
    assert not any("lepton" in line for line in lines)


def test_a_process_that_has_loaded_it_still_finds_every_plugin(rendered: Path) -> None:
    """MLflow puts the model's code first on sys.path; it holds the plugins of its plan alone."""
    code = (
        "import sys, mlflow.pyfunc; mlflow.pyfunc.load_model(sys.argv[1])\n"
        "from lepton_plugins.plugins import plugins\n"
        "assert all(status.error is None for status in plugins().statuses.values()), plugins().statuses\n"
        "print(*plugins().offers('solver'))\n"
        "from mlflow.models.evaluation.evaluator_registry import _model_evaluation_registry\n"
        "assert _model_evaluation_registry.is_registered('lepton')\n"
        "from importlib.metadata import distribution\n"
        "assert any(entry.name == 'kserve' for entry in distribution('lepton-plugins').entry_points)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(rendered)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()


def test_lepton_may_be_a_requirement_instead(deployment: Path, tmp_path: Path) -> None:
    generate(deployment, "mlflow", tmp_path / "to", {"lepton_requirement": "lepton-plugins==0.1.0"})
    assert "lepton-plugins==0.1.0" in (tmp_path / "to" / "requirements.txt").read_text().splitlines()
    assert not (tmp_path / "to" / "code").exists()
    assert "code" not in yaml.safe_load((tmp_path / "to" / "MLmodel").read_text())["flavors"]["python_function"]


@pytest.mark.parametrize("line", ["numpy", "acme-lepton==1.0", "", "# none"])
def test_a_requirement_that_would_not_install_lepton_is_refused(line: str, deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(LeptonNotRequired, match=r"expected lepton-plugins, such as lepton-plugins==0\.1\.0"):
        generate(deployment, "mlflow", tmp_path / "to", {"lepton_requirement": line})
    assert not (tmp_path / "to").exists()


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the example's distribution of a policy is installed."""
    site = tmp_path / "site"
    example = Path(__file__).parents[3] / "examples" / "third_party_policy"
    shutil.copytree(example / "acme_office_hours", site / "acme_office_hours")
    info = site / "acme_office_hours-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: acme-office-hours\nVersion: 1.0.0\n")
    (info / "entry_points.txt").write_text("[lepton_plugins]\nacme_office_hours = acme_office_hours.plugin\n")
    monkeypatch.syspath_prepend(str(site))
    plugins.cache_clear()
    yield site
    plugins.cache_clear()


_WITHOUT_LEPTON = """
import importlib.util, sys
sys.path.insert(0, sys.argv[2])
assert importlib.util.find_spec("lepton_plugins") is None
import mlflow, pandas as pd
rows = pd.DataFrame({"x": [1.0, 1.0], "hour": [12.0, 23.0]})
told = mlflow.pyfunc.load_model(sys.argv[1]).predict(rows, params={"lepton_decisions": True})
print(*told["lepton_version"], *told["lepton_reason"])
"""


def test_a_strangers_policy_goes_in_as_a_pinned_requirement(
    stranger: Path, bare_environment: Any, tmp_path: Path
) -> None:
    """And works where that is installed and Lepton isn't."""
    plan = write_deployment(tmp_path / "deployment")
    policy = PolicyDocument(kind="office_hours", params={"day": "2", "night": "1"}, features=("hour",))
    inputs = (*plan.signature.inputs, Field(name="hour", dtype="float64", required=False))
    changed = {"policy": policy, "signature": plan.signature.model_copy(update={"inputs": inputs})}
    write_plan(plan.model_copy(update=changed), {}, tmp_path / "deployment")
    generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})
    assert "acme-office-hours==1.0.0" in (tmp_path / "to" / "requirements.txt").read_text().splitlines()
    (points,) = (tmp_path / "to" / "code").glob("*.dist-info/entry_points.txt")
    assert "selection" not in points.read_text(), "Lepton's own policies aren't needed"
    printed = bare_environment.run(_WITHOUT_LEPTON, str(tmp_path / "to"), str(stranger), cwd=tmp_path)
    assert printed.strip() == "2 1 hour 12 is within 8 to 18 hour 23 is outside 8 to 18"


def test_a_column_whose_type_is_not_known_is_told(deployment: Path, tmp_path: Path) -> None:
    """MLflow's server reads no CSV where a column may be anything."""
    assert "note" not in generate(deployment, "mlflow", tmp_path / "typed", {}).told
    plan = write_deployment(tmp_path / "deployment")
    inputs = (*plan.signature.inputs, Field(name="customer", dtype="object", required=False))
    signature = plan.signature.model_copy(update={"inputs": inputs})
    write_plan(plan.model_copy(update={"signature": signature}), {}, tmp_path / "deployment")
    told = generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {}).told
    assert told["note"].startswith("the type of customer isn't known, so MLflow's server takes JSON but no CSV")


# --- requirements --------------------------------------------------------------------------------


def with_sklearn(path: Path, *requirements: list[str] | None) -> DeploymentPlan:
    """A deployment whose versions are scikit-learn models with these requirements, made from the small one."""
    from sklearn.linear_model import LinearRegression

    plan = write_deployment(path)
    x = pd.DataFrame({"x": np.array([0.0, 1.0, 2.0], dtype=np.float32)})
    arms = []
    for arm, lines, slope in zip(plan.arms, requirements, (2.0, 3.0), strict=True):
        model = LinearRegression().fit(x, slope * x["x"])
        staged = path / f"staged-{arm.version}"
        signature = mlflow.models.infer_signature(x, model.predict(x))
        mlflow.sklearn.save_model(
            model, staged, signature=signature, serialization_format="skops", pip_requirements=lines or []
        )
        if lines is None:
            (staged / "requirements.txt").unlink()
        digest = place_version(staged, path)
        changed = {"artifact_digest": digest, "backend": "pyfunc", "format": "skops", "framework": "sklearn"}
        arms.append(arm.model_copy(update=changed))
    plan = plan.model_copy(update={"arms": tuple(arms)})
    write_plan(plan, {}, path)
    return plan


def test_requirements_of_the_versions_are_merged_and_mlflow_is_this_one(tmp_path: Path) -> None:
    import sklearn
    import skops

    here, saves = f"scikit-learn=={sklearn.__version__}", f"skops=={skops.__version__}"
    with_sklearn(tmp_path / "deployment", ["mlflow==3.4.0", here, saves], ["mlflow-skinny==3.9.0", here, "skops>=0.1"])
    generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})
    lines = (tmp_path / "to" / "requirements.txt").read_text().splitlines()
    assert {here, saves} <= set(lines)
    assert [line for line in lines if line.startswith("mlflow")] == [f"mlflow=={mlflow.__version__}"]
    model = mlflow.pyfunc.load_model(str(tmp_path / "to"))
    answers = model.predict(ROWS, params={"lepton_decisions": True})
    slopes = answers["lepton_version"].map({"1": 2.0, "2": 3.0})
    np.testing.assert_allclose(answers["prediction"], slopes * ROWS["x"], atol=1e-5)


def test_a_conflict_names_both_sides_and_the_packages(tmp_path: Path) -> None:
    with_sklearn(
        tmp_path / "deployment", ["scikit-learn==1.5.2", "numpy<2"], ["scikit-learn==1.6.1", "numpy>=2.1,<3", "skops"]
    )
    with pytest.raises(RequirementsConflict) as caught:
        generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})
    text = str(caught.value)
    assert "scikit-learn: version 1 wants ==1.5.2, version 2 wants ==1.6.1" in text
    assert "numpy: version 2 wants >=2.1, version 1 wants <2" in text
    assert not (tmp_path / "to").exists()


def test_a_requirement_that_nobody_can_pin_is_refused(tmp_path: Path) -> None:
    elsewhere = "pywin32>=300; sys_platform == 'win32'"
    with_sklearn(tmp_path / "deployment", ["no-such-package>=1", "skops", elsewhere], ["skops"])
    with pytest.raises(RequirementsUnpinned, match=r"found no-such-package>=1, which no side pins"):
        generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})
    assert not (tmp_path / "to").exists()


def test_a_requirement_with_an_address_is_refused(tmp_path: Path) -> None:
    with_sklearn(tmp_path / "deployment", ["--index-url https://u:p@host/simple", "skops"], ["a @ https://h/a.whl"])
    with pytest.raises(RequirementInvalid, match="version 2"):
        generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})


def test_a_version_that_does_not_say_what_it_needs(tmp_path: Path) -> None:
    with_sklearn(tmp_path / "deployment", None, ["skops"])
    with pytest.raises(EnvironmentUnknown, match="Version 1"):
        generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {})
    generate(tmp_path / "deployment", "mlflow", tmp_path / "to", {"requirements": "scikit-learn, skops"})
    assert "scikit-learn==" in (tmp_path / "to" / "requirements.txt").read_text()


def test_an_unknown_option_is_told_with_the_nearest(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="register_as"):
        generate(deployment, "mlflow", tmp_path / "to", {"registeras": "x"})


def test_it_registers_the_router_once(deployment: Path, sqlite_uri: str, expected: Any, tmp_path: Path) -> None:
    registry = ModelRegistry(sqlite_uri)
    for number, options in enumerate(({"register": True}, {"register": "true"}, {"register_as": "line-router"})):
        registry.generate(deployment, "mlflow", tmp_path / f"to-{number}", options)
    assert [version.version for version in registry.list_versions("line-router")] == ["1"]
    registry.generate(deployment, "mlflow", tmp_path / "to", {"register": True, "requirements": "attrs==23.2.0"})
    assert [version.version for version in registry.list_versions("line-router")] == ["1", "2"]
    mlflow.set_tracking_uri(sqlite_uri)
    model = mlflow.pyfunc.load_model("models:/line-router/1")
    np.testing.assert_allclose(model.predict(ROWS), expected.values, atol=1e-6)
