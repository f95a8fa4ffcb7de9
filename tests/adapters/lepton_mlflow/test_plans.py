"""Plans are frozen revisions: stored once, numbered, and checked when they are read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.errors import DigestMismatch, InvalidInput, ModelNotFound
from lepton_plugins.records.plan import DeploymentPlan, FileDigest, PolicyDocument
from lepton_plugins.routing.directory import write_plan


@pytest.fixture
def model(registry, model_name) -> str:
    MlflowClient(registry.uri, registry.uri).create_registered_model(model_name)
    return model_name


def test_a_plan_comes_back_with_its_files(registry, model, plan_of):
    plan, files = plan_of(model)
    revision = registry.save_plan(plan, files, "two arms, segment_best")
    assert (revision.number, revision.digest, revision.summary) == (1, plan.digest, "two arms, segment_best")
    assert registry.get_plan(revision) == (plan, files)
    assert registry.list_plans(model) == [revision]
    assert registry.plan_in_force(model) is None


def test_plans_are_numbered_and_the_same_plan_is_stored_once(registry, model, plan_of):
    first = registry.save_plan(*plan_of(model, "00"), "first")
    second = registry.save_plan(*plan_of(model, "01", parent=first.digest), "second")
    assert registry.save_plan(*plan_of(model, "00"), "again") == first
    assert [(found.number, found.parent) for found in registry.list_plans(model)] == [(1, None), (2, first.digest)]
    assert second.number == 2


def test_plans_stored_at_once_get_numbers_of_their_own(registry_uri, model, plan_of):
    from lepton_mlflow.registry import MlflowRegistry

    def save(salt: str) -> int:
        return MlflowRegistry(registry_uri).save_plan(*plan_of(model, salt), salt).number

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(save, ["00", "01", "02", "00"]))
    assert numbers[0] == numbers[3]
    assert sorted({*numbers}) == [1, 2, 3]
    assert len(MlflowRegistry(registry_uri).list_plans(model)) == 3
    names = [
        experiment.name
        for experiment in MlflowClient(registry_uri, registry_uri).search_experiments()
        if model in experiment.name
    ]
    assert names == [f"lepton/{model}"]


def test_a_plan_that_was_changed_is_refused(registry, model, plan_of, tmp_path):
    plan, files = plan_of(model)
    revision = registry.save_plan(plan, files, "")
    client = MlflowClient(registry.uri, registry.uri)
    file = Path(client.download_artifacts(revision.run_id, "lepton/policy/tables/cells.json", str(tmp_path)))
    file.write_bytes(b'{"AA": [1.0, 0.0]}')
    client.log_artifact(revision.run_id, str(file), "lepton/policy/tables")
    with pytest.raises(DigestMismatch, match=r"cells\.json"):
        registry.get_plan(revision)


def test_policy_files_that_lead_out_of_their_folder_are_refused(registry, model, plan_of):
    plan, files = plan_of(model)
    digest = plan.policy.files[0].digest
    bad = plan.model_copy(update={"policy": PolicyDocument(kind="x", files=(FileDigest(path="../a", digest=digest),))})
    with pytest.raises(InvalidInput, match=r"\.\./a"):
        registry.save_plan(bad, {"../a": files["tables/cells.json"]}, "")


def test_a_plan_of_a_model_that_is_not_there(registry, plan_of):
    with pytest.raises(ModelNotFound):
        registry.save_plan(*plan_of("no-such-model"), "")


def test_a_plan_of_an_earlier_lepton_keeps_its_identity(registry, model, plan_of, tmp_path):
    # Written before the field `per` was there: today's Lepton gives it its default, not another digest.
    plan, files = plan_of(model)
    content = canonical_json({key: value for key, value in json.loads(plan.content).items() if key != "per"})
    earlier = DeploymentPlan.read(content)
    assert earlier == plan
    assert earlier.digest == digest_bytes(content) != plan.digest
    revision = registry.save_plan(earlier, files, "")
    assert revision.digest == earlier.digest
    read, read_files = registry.get_plan(revision)
    assert read.digest == revision.digest
    write_plan(read, read_files, tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == content
    changed = read.model_copy(update={"default": "2"})
    assert changed.digest not in (read.digest, plan.digest)
    assert json.loads(changed.content)["default"] == "2"
