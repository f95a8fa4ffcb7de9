"""Reports are stored in MLflow's own places, within its limits, and believed only when they prove their subject."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lepton_plugins.errors import DigestMismatch, RecordMismatch
from lepton_plugins.records.report import Estimate, Failure


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    named = {name: tmp_path / name for name in ("predictions.parquet", "chart.png", "evidently.html")}
    for name, path in named.items():
        path.write_bytes(name.encode() * 10)
    return named


def test_a_report_comes_back_as_it_was_stored(registry, register, report_of, files, tmp_path):
    version = register("v1")
    report = report_of(version)
    saved = registry.save_report(report, files)
    assert saved.run_id
    assert saved == report.model_copy(update={"run_id": saved.run_id})
    assert registry.get_report(version.model, version.version) == saved
    assert registry.get_report(version.model, "v1") == saved

    copy = registry.get_report_file(saved, "predictions.parquet", tmp_path / "out")
    assert copy == tmp_path / "out" / "predictions.parquet"
    assert copy.read_bytes() == files["predictions.parquet"].read_bytes()
    assert sorted(copy.parent.iterdir()) == [copy]
    assert registry.get_report_file(saved, "nothing.txt", tmp_path / "out") is None


def test_a_version_without_report_has_none(registry, register):
    assert registry.get_report(register().model, "1") is None


def test_metrics_are_on_the_run_and_on_the_logged_model(registry, register, report_of, client):
    version = register()
    saved = registry.save_report(report_of(version), {})
    run = client.get_run(saved.run_id)
    assert run.data.metrics["lepton/flights-2013/log_loss"] == 0.431
    assert run.data.metrics["lepton/flights-2013/log_loss/low"] == pytest.approx(0.421)
    assert run.info.status == "FINISHED"
    source = client.get_model_version(version.model, version.version).source
    logged = client.get_logged_model(source.removeprefix("models:/"))
    found = {metric.key: (metric.value, metric.dataset_name) for metric in logged.metrics}
    assert found["lepton/flights-2013/roc_auc"] == (0.712, "flights-2013")
    experiment = client.get_experiment_by_name(version.model)
    best = client.search_logged_models(
        [experiment.experiment_id], filter_string="metrics.`lepton/flights-2013/log_loss` < 0.5"
    )
    assert [model.model_id for model in best] == [logged.model_id]


def test_flat_tags_can_be_searched_by(registry, register, report_of, client):
    version = register()
    registry.save_report(report_of(version), {})
    found = client.search_model_versions(f"name='{version.model}' and tags.`lepton.dataset`='flights-2013'")
    assert found[0].tags["lepton.metric.log_loss"] == "0.431 [0.421, 0.441]"
    assert len(found[0].tags["lepton.report"]) < 1000


def test_a_new_report_replaces_the_old_ones_tags(registry, register, report_of, client):
    version = register("v1", stage="prod")
    registry.save_report(report_of(version), {})
    second = report_of(version, log_loss=0.4)
    second = second.model_copy(update={"metrics": {"log_loss": second.metrics["log_loss"]}})
    registry.save_report(second, {})
    tags = client.get_model_version(version.model, "1").tags
    assert [key for key in tags if key.startswith("lepton.metric.")] == ["lepton.metric.log_loss"]
    assert registry.get_report(version.model, "1").metrics["log_loss"].value == 0.4
    assert registry.get_version(version.model, "v1").metadata == {"stage": "prod"}


def test_a_failure_is_a_report_too(registry, register, report_of, client):
    version = register()
    failed = report_of(
        version, metrics={}, slices=(), latency=(), failure=Failure(stage="predict", code="nan", reason="NaN in 3 rows")
    )
    saved = registry.save_report(failed, {})
    assert registry.get_report(version.model, "1").failure.reason == "NaN in 3 rows"
    assert client.get_run(saved.run_id).info.status == "FAILED"
    assert client.get_model_version(version.model, "1").description.startswith("Failed to predict")


def test_undefined_figures_are_stored(registry, register, report_of):
    version = register()
    undefined = Estimate(value=None, low=0.0, high=1.0, method="undefined: one class", n=5, greater_is_better=True)
    report = report_of(version, metrics={"roc_auc": undefined})
    registry.save_report(report, {})
    assert registry.get_report(version.model, "1").metrics["roc_auc"].value is None


def test_copied_tags_are_noticed_and_not_believed(registry, register, report_of, client):
    version = register("v1")
    registry.save_report(report_of(version), {})
    copied = client.copy_model_version(version.uri, f"{version.model}-prod")
    found = registry.get_version(copied.name, "1")
    assert found.artifact_digest is None
    assert found.label is None
    assert found.signature == version.signature
    with pytest.raises(RecordMismatch, match=f"version 1 of '{version.model}'"):
        registry.get_report(copied.name, "1")
    # A report of its own makes it right.
    registry.save_report(report_of(found, artifact_digest=version.artifact_digest), {})
    assert registry.get_report(copied.name, "1").model == copied.name
    assert registry.get_version(copied.name, "1").artifact_digest == version.artifact_digest
    assert registry.get_report(version.model, "1").model == version.model


def test_a_report_that_was_changed_is_refused(registry, register, report_of, client, tmp_path):
    version = register()
    saved = registry.save_report(report_of(version), {})
    body = json.loads(Path(client.download_artifacts(saved.run_id, "lepton/report.json", str(tmp_path))).read_text())
    body["metrics"]["log_loss"]["value"] = 0.001
    (tmp_path / "report.json").write_text(json.dumps(body))
    client.log_artifact(saved.run_id, str(tmp_path / "report.json"), "lepton")
    fresh = type(registry)(registry.uri)
    with pytest.raises(DigestMismatch):
        fresh.get_report(version.model, "1")


def test_a_report_on_other_files_than_the_recorded_ones_is_refused(registry, register, report_of, client):
    version = register()
    with pytest.raises(DigestMismatch):
        registry.save_report(report_of(version, artifact_digest="sha256:" + "0" * 64), {})
    assert registry.get_report(version.model, "1") is None


def test_a_report_whose_run_was_deleted_is_gone(registry, register, report_of, client):
    version = register()
    saved = registry.save_report(report_of(version), {})
    client.delete_run(saved.run_id)
    assert type(registry)(registry.uri).get_report(version.model, "1") is None


def test_what_a_run_measured_is_read(registry, client, model_name):
    experiment = client.create_experiment(model_name)
    run = client.create_run(experiment)
    client.log_metric(run.info.run_id, "val_loss", 0.3)
    found = registry.measured(run.info.run_id)
    assert found.metrics == {"val_loss": 0.3}


def test_a_long_metric_list_stays_within_mlflows_limits(registry, register, report_of, client):
    version = register()
    report = report_of(version)
    many = {f"precision@class {number} / é": report.metrics["accuracy"] for number in range(150)}
    registry.save_report(report.model_copy(update={"metrics": many}), {})
    found = client.get_model_version(version.model, "1")
    assert len(found.description) <= 5000
    assert len(registry.get_report(version.model, "1").metrics) == 150
