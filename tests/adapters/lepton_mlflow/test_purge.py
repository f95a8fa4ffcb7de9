"""Purging removes what Lepton wrote and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, ViewType


def _seen(client: MlflowClient, model: str) -> dict:
    registered = client.get_registered_model(model)
    version = client.get_model_version(model, "1")
    return {
        "tags": registered.tags,
        "aliases": registered.aliases,
        "description": registered.description,
        "version tags": version.tags,
        "version description": version.description,
        "source": version.source,
    }


def test_everything_of_leptons_goes_and_nothing_else(
    registry, client, register, report_of, plan_of, activation_of, tmp_path
):
    version = register()
    model = version.model
    for key in [key for key in client.get_model_version(model, "1").tags if key.startswith("lepton.")]:
        client.delete_model_version_tag(model, "1", key)
    client.set_model_version_tag(model, "1", "stage", "prod")
    client.set_model_version_tag(model, "1", "leptonic", "mine")
    client.update_model_version(model, "1", "My own words.")
    client.update_registered_model(model, "My model.")
    client.set_registered_model_tag(model, "team", "air")
    client.set_registered_model_alias(model, "champion", "1")
    before = _seen(client, model)

    saved = registry.save_report(report_of(version), {})
    plan, files = plan_of(model)
    registry.save_plan(plan, files, "")
    registry.activate(activation_of(plan, 1), None, force=False)
    assert _seen(client, model) != before

    told = registry.purge(model, dry_run=True)
    assert any("experiment" in line for line in told)
    assert registry.plan_in_force(model) is not None
    assert list(registry.purge(model)) == list(told)
    assert _seen(client, model) == before
    assert client.get_run(saved.run_id).info.lifecycle_stage == "deleted"
    assert not client.search_experiments(filter_string=f"name LIKE 'lepton/{model}%'")
    assert list(registry.purge(model)) == []

    # The version and its files are the user's, and Lepton can start anew.
    fresh = type(registry)(registry.uri)
    assert fresh.fetch(fresh.get_version(model, "1"), tmp_path / "copy") == version.artifact_digest
    assert fresh.get_report(model, "1") is None
    assert fresh.save_plan(plan, files, "").number == 1
    fresh.activate(activation_of(plan, 1), None, force=False)
    assert fresh.plan_in_force(model).number == 1


def test_without_a_name_all_models_are_purged(sqlite_uri, onnx_file):
    from lepton_mlflow.registry import MlflowRegistry

    registry = MlflowRegistry(sqlite_uri)
    for name in ("a", "b's"):
        registry.register(name, onnx_file, framework=None, label="v1", metadata={"k": "v"})
    registry.purge()
    client = MlflowClient(sqlite_uri, sqlite_uri)
    for name in ("a", "b's"):
        assert client.get_model_version(name, "1").tags == {}
        assert registry.list_versions(name)[0].framework == "onnx"


def _plain(value: Any, *left_out: str) -> dict[str, Any]:
    return {name: found for name, found in dict(value).items() if name not in left_out}


def _dump(client: MlflowClient, folder: Path) -> dict[str, Any]:
    """All that a registry shows of everybody, by what it is: deleted things and the files' bytes too.

    Left out are the times of the last change, which MLflow moves whenever a tag is set or deleted.
    """
    found: dict[str, Any] = {}
    experiments = list(client.search_experiments(ViewType.ALL))
    for experiment in experiments:
        found[f"experiment {experiment.name}"] = _plain(experiment, "last_update_time")
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            metrics = {
                key: list(map(dict, client.get_metric_history(run.info.run_id, key))) for key in run.data.metrics
            }
            inputs = [item.to_dictionary() for item in (run.inputs.dataset_inputs if run.inputs else [])]
            found[f"run {run.info.run_id}"] = [
                dict(run.info),
                dict(run.data.params),
                dict(run.data.tags),
                metrics,
                inputs,
            ]
            if experiment.lifecycle_stage == "active":
                found[f"files of run {run.info.run_id}"] = _files(client, run.info.run_id, folder)
        for model in client.search_logged_models([experiment.experiment_id]):
            figures = sorted((metric.key, metric.value, metric.step, metric.run_id) for metric in model.metrics or [])
            found[f"logged model {model.model_id}"] = [model.name, str(model.status), model.params, model.tags, figures]
    for registered in client.search_registered_models():
        found[f"model {registered.name}"] = [registered.description, registered.tags, registered.aliases]
        for version in client.search_model_versions(f"name='{registered.name}'"):
            whole = client.get_model_version(registered.name, version.version)
            known = _plain(whole, "last_updated_timestamp", "metrics", "params")
            found[f"version {version.version} of {registered.name}"] = known
    return found


def _files(client: MlflowClient, run: str, folder: Path) -> dict[str, bytes]:
    if not client.list_artifacts(run):
        return {}
    to = folder / f"{len(list(folder.iterdir()))}"
    to.mkdir()
    root = Path(download_artifacts(run_id=run, artifact_path="", dst_path=str(to), tracking_uri=client.tracking_uri))
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def _users_own(client: MlflowClient, data: pd.DataFrame, folder: Path) -> None:
    """Runs, metrics, files, logged and registered models, tags, aliases, descriptions of somebody who has no Lepton."""
    import mlflow
    from sklearn.linear_model import LogisticRegression

    mlflow.set_tracking_uri(client.tracking_uri)
    try:
        mlflow.set_experiment("delays")
        for number in range(2):
            with mlflow.start_run(run_name=f"try {number}") as run:
                mlflow.log_params({"C": number + 1, "lepton": "a word of mine"})
                for step in range(3):
                    mlflow.log_metric("auc", 0.5 + step / 10, step=step)
                mlflow.set_tags({"stage": "dev", "leptonic": "mine", "mlflow.note.content": "# What I tried"})
                mlflow.log_input(mlflow.data.from_pandas(data.head(5), name="june"), "training")
                mlflow.log_text("lepton wrote none of this", "notes/lepton/report.json")
                model = LogisticRegression(C=number + 1).fit(data[["a", "b"]], data.late)
                mlflow.sklearn.log_model(
                    model,
                    name="model",
                    registered_model_name="late",
                    serialization_format="cloudpickle",
                    pip_requirements=["scikit-learn"],
                )
        client.log_batch(run.info.run_id, metrics=[Metric("lepton/auc", 0.9, 0, 0)])
    finally:
        mlflow.set_tracking_uri(None)
    client.create_experiment("lepton/notes of mine", tags={"mine": "yes"})
    client.update_registered_model("late", "Predicts delays.\n\n<!-- a comment -->\n\nBy *me*.  \n")
    client.set_registered_model_tag("late", "team", "air")
    client.set_registered_model_alias("late", "champion", "1")
    client.set_registered_model_alias("late", "lepton", "2")
    client.update_model_version("late", "1", "  First.\n\n| a | b |\n|---|---|\n")
    client.set_model_version_tag("late", "1", "validated", "by hand")
    client.create_registered_model("other", tags={"owner": "somebody"}, description="Nothing to do with it")


def test_on_a_server_what_is_the_users_is_as_it_was_byte_for_byte(start_mlflow_server, model_folder, tmp_path):
    from lepton_plugins import ModelRegistry
    from lepton_plugins.evaluation.options import EvaluationOptions

    random = np.random.default_rng(0)
    data = pd.DataFrame(random.normal(size=(400, 2)), columns=["a", "b"])
    data["late"], data["carrier"] = (data.a + random.normal(size=400) > 0).astype(int), np.where(data.b > 0, "AA", "UA")
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with start_mlflow_server(tmp_path / "server") as uri:
        client = MlflowClient(uri, uri)
        _users_own(client, data, tmp_path)
        before = _dump(client, downloads)

        registry = ModelRegistry(uri)
        options = EvaluationOptions(cost=False, trust="pickle")
        reports = registry.evaluate(
            "late", data, target="late", task="classification", slices=["carrier"], options=options
        )
        assert all(report.ok for report in reports)
        registry.plan({"model": "late", "policy": "weighted"}, trust="pickle")
        registry.promote("late", why="test")
        registry.pin("late", "2", why="test")
        registry.rollback("late", why="test")
        registry.register_model("other", model_folder / "model.onnx", model_framework="onnx", model_version="v1")
        between = _dump(client, downloads)
        assert {key for key in before if between[key] != before[key]} >= {"model late", "version 1 of late"}

        assert registry.purge()
        after = _dump(client, downloads)
        for key in before:
            if key.startswith("logged model"):
                # MLflow can't delete these: they go with their runs, which are deleted, when `mlflow gc` is run.
                mine = [figure for figure in after[key][-1] if figure[-1] in str(before)]
                others = [figure for figure in after[key][-1] if figure not in mine]
                assert all(name.startswith("lepton/") for name, *_ in others)
                assert all(after[f"run {run}"][0]["lifecycle_stage"] == "deleted" for *_, run in others)
                assert [*after[key][:-1], mine] == before[key]
            else:
                assert after[key] == before[key], key
        kept = [name for key in before if key.startswith("logged model") for name, *_ in after[key][-1]]
        assert any(name.startswith("lepton/") for name in kept), "they are seen until then, and purge says so"
        left = {key: value for key, value in after.items() if key not in before}
        visible = {
            key: value
            for key, value in left.items()
            if not (key.startswith("experiment") and value["lifecycle_stage"] == "deleted")
            and not (key.startswith("run") and value[0]["lifecycle_stage"] == "deleted")
        }
        assert set(visible) == {
            key for key in visible if key.startswith(("version 1 of other", "logged model", "experiment other"))
        }
        assert "lepton." not in str(visible), "of what Lepton registered the model stays, for it is the user's"
        assert list(registry.purge()) == []
        assert _dump(client, downloads) == after
