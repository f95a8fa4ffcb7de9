"""Purging removes what Lepton wrote and nothing else."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient


@pytest.fixture
def client(registry) -> MlflowClient:
    return MlflowClient(registry.uri, registry.uri)


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
