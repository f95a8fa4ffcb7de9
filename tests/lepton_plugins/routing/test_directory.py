"""Pulling a plan into a deployment directory, and opening one: every digest is checked, nothing is half there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from lepton_plugins.canonical import canonical_json, digest_bytes, digest_tree
from lepton_plugins.errors import DigestMismatch, DirectoryInvalid, FormatUnknown, PlanNotFound, TrustRequired
from lepton_plugins.records.plan import DeploymentPlan, FileDigest, PlanRevision
from lepton_plugins.records.version import ModelVersion
from lepton_plugins.routing.directory import DeploymentDirectory, digest_hex, pull, write_plan
from lepton_plugins.routing.router import Router


class FolderRegistry:
    """What `pull` needs of a registry, over a deployment directory that stands for the stored plan."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.plan = DeploymentPlan.model_validate_json((source / "plan.json").read_bytes())
        self.files = {
            str(file.relative_to(source / "policy")): file.read_bytes()
            for file in (source / "policy").rglob("*")
            if file.is_file()
        }
        self.fetched: list[str] = []

    def plan_in_force(self, model: str) -> PlanRevision | None:
        if model != self.plan.model:
            return None
        return PlanRevision(model=model, digest=self.plan.digest, run_id="run", number=1)

    def get_plan(self, revision: PlanRevision) -> tuple[DeploymentPlan, dict[str, bytes]]:
        return self.plan, self.files

    def get_version(self, model: str, version: str) -> ModelVersion:
        return ModelVersion(model=model, version=version, uri=f"models:/{model}/{version}")

    def fetch(self, version: ModelVersion, to: Path) -> str:
        self.fetched.append(version.version)
        arm = self.plan.arm(version.version)
        assert arm is not None
        shutil.copytree(self.source / "models" / arm.artifact_digest.removeprefix("sha256:"), to, dirs_exist_ok=True)
        return digest_tree(to)


@pytest.fixture
def source(build_directory, linear_files, weighted_policy, tmp_path):
    return build_directory(
        tmp_path / "source",
        {version: linear_files[version] for version in "123"},
        policy=weighted_policy({"1": 1.0}),
        files={"table.json": b'{"a": 1}', "onnx/learned.onnx": b"\x00\x01"},
    )


@pytest.fixture
def registry(source):
    return FolderRegistry(source)


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_a_pulled_directory_holds_the_plan_its_models_and_its_policys_files(registry, source, tmp_path):
    to = pull(registry, "flights", tmp_path / "a" / "deployment")
    assert snapshot(to) == snapshot(source)
    opened = DeploymentDirectory.open(to, registry.plan.digest)
    assert opened.plan == registry.plan
    assert opened.policy_files == {"table.json": b'{"a": 1}', "onnx/learned.onnx": b"\x00\x01"}
    assert all(opened.check_model(arm) == opened.model_path(arm) for arm in opened.plan.arms)
    assert [path.name for path in to.parent.iterdir()] == ["deployment"]


def test_models_that_are_there_are_not_fetched_again(
    registry, source, tmp_path, build_directory, linear_files, weighted_policy
):
    to = pull(registry, "flights", tmp_path / "deployment")
    assert registry.fetched == ["1", "2", "3"]
    pull(registry, "flights", to)
    assert registry.fetched == ["1", "2", "3"]
    new = FolderRegistry(
        build_directory(
            tmp_path / "new", {"1": linear_files["1"], "4": linear_files["nan"]}, policy=weighted_policy({"1": 1.0})
        )
    )
    beside = pull(new, "flights", tmp_path / "beside", share=[to])
    assert new.fetched == ["4"]
    pull(new, "flights", to)
    assert new.fetched == ["4", "4"]
    assert snapshot(to) == snapshot(beside)


def test_a_spoilt_model_is_fetched_again(registry, tmp_path):
    to = pull(registry, "flights", tmp_path / "deployment")
    arm = registry.plan.arms[1]
    file = next((to / "models" / arm.artifact_digest.removeprefix("sha256:")).iterdir())
    file.unlink()
    file.write_bytes(b"spoilt")
    with pytest.raises(DigestMismatch, match="Version 2"):
        Router.load(to)
    pull(registry, "flights", to)
    assert registry.fetched == ["1", "2", "3", "2"]
    Router.load(to).close()


def test_a_pull_that_fails_leaves_what_was_there(registry, tmp_path):
    to = pull(registry, "flights", tmp_path / "deployment")
    before = snapshot(to)
    registry.fetch = lambda version, to: "sha256:" + "0" * 64
    shutil.rmtree(to / "models" / registry.plan.arms[0].artifact_digest.removeprefix("sha256:"))
    broken = snapshot(to)
    with pytest.raises(DigestMismatch, match="Version 1"):
        pull(registry, "flights", to)
    assert snapshot(to) == broken != before
    with pytest.raises(DigestMismatch):
        pull(registry, "flights", tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deployment", "source"]


def test_pull_refuses_to_replace_anything_else(registry, tmp_path):
    other = tmp_path / "home"
    other.mkdir()
    pull(registry, "flights", other)  # Empty is fine.
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "thesis.tex").write_text("years of work")
    with pytest.raises(DirectoryInvalid, match="holds something else"):
        pull(registry, "flights", thesis)
    assert (thesis / "thesis.tex").read_text() == "years of work"
    with pytest.raises(PlanNotFound):
        pull(registry, "other", tmp_path / "x")


@pytest.mark.parametrize(
    "digest", ["sha256:../../../etc", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "../" + "a" * 64, "", "a" * 64]
)
def test_a_digest_cannot_name_another_place(digest, tmp_path):
    with pytest.raises(DirectoryInvalid, match="64 hex digits"):
        digest_hex(digest, tmp_path)


@pytest.mark.parametrize("name", ["../plan.json", "/etc/passwd", "a/../../b", "", ".hidden", "a//../b", "C:\\x"])
def test_a_policys_file_cannot_lie_elsewhere(registry, tmp_path, name):
    policy = registry.plan.policy.model_copy(update={"files": (FileDigest(path=name, digest=digest_bytes(b"x")),)})
    plan = registry.plan.model_copy(update={"policy": policy})
    with pytest.raises(DirectoryInvalid):
        write_plan(plan, {name: b"x"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _rewrite(directory: Path, **update: object) -> None:
    plan = DeploymentPlan.model_validate_json((directory / "plan.json").read_bytes())
    (directory / "plan.json").write_bytes(canonical_json(plan.model_copy(update=update)))


def test_what_is_wrong_with_a_directory_is_said(source, tmp_path):
    with pytest.raises(DirectoryInvalid, match="no such directory"):
        DeploymentDirectory.open(tmp_path / "nowhere")
    with pytest.raises(DirectoryInvalid, match=r"no plan\.json"):
        DeploymentDirectory.open(source / "models")
    with pytest.raises(DirectoryInvalid, match="expected sha256:0000"):
        DeploymentDirectory.open(source, "sha256:" + "0" * 64)

    content = (source / "plan.json").read_bytes()
    (source / "plan.json").write_text(json.dumps(json.loads(content), indent=1))
    with pytest.raises(DirectoryInvalid, match="changed by hand"):
        DeploymentDirectory.open(source)
    (source / "plan.json").write_bytes(content.replace(b'"salt"', b'"sult"'))
    with pytest.raises(DirectoryInvalid, match="sult"):
        DeploymentDirectory.open(source)
    (source / "plan.json").write_bytes(content)

    kind = DeploymentPlan.model_validate_json(content).policy.model_copy(update={"kind": "segment_best"})
    _rewrite(source, policy=kind)
    with pytest.raises(DirectoryInvalid, match="the policy segment_best can't read its part of the plan: by: ") as told:
        Router.load(source)
    assert "\n" not in str(told.value)
    (source / "plan.json").write_bytes(content)

    _rewrite(source, default="9")
    with pytest.raises(DirectoryInvalid, match="version 9 as default"):
        DeploymentDirectory.open(source)
    (source / "plan.json").write_bytes(content)

    (source / "policy" / "table.json").write_bytes(b'{"a": 2}')
    with pytest.raises(DirectoryInvalid, match="changed after it was planned"):
        DeploymentDirectory.open(source)
    (source / "policy" / "table.json").unlink()
    with pytest.raises(DirectoryInvalid, match="missing"):
        DeploymentDirectory.open(source)
    (source / "policy" / "table.json").symlink_to("/etc/hostname")
    with pytest.raises(DirectoryInvalid, match="missing"):
        DeploymentDirectory.open(source)


def test_a_link_out_of_a_model_is_refused(source):
    opened = DeploymentDirectory.open(source)
    folder = opened.model_path(opened.plan.arms[0])
    (folder / "extra").symlink_to("/etc/hostname")
    with pytest.raises(DirectoryInvalid, match="leads out"):
        opened.check_model(opened.plan.arms[0])


def test_a_format_that_carries_code_needs_the_plans_leave(build_directory, weighted_policy, tmp_path):
    import pickle

    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    model = tmp_path / "model.pkl"
    model.write_bytes(pickle.dumps(Payload()))
    untrusted = build_directory(tmp_path / "untrusted", {"1": model}, policy=weighted_policy({"1": 1.0}))
    with pytest.raises(TrustRequired, match=r"Version 1 .* pickle"):
        Router.load(untrusted)
    assert not marker.exists()
    trusted = build_directory(
        tmp_path / "trusted", {"1": model}, policy=weighted_policy({"1": 1.0}), trust={"1": "pickle"}
    )
    router = Router.load(trusted)  # It does run the code: that is what trust means.
    assert marker.exists()
    # What was loaded with leave doesn't serve a plan without.
    with pytest.raises(TrustRequired):
        Router.load(untrusted)
    router.close()


def test_files_that_no_backend_runs_are_named(build_directory, weighted_policy, tmp_path):
    model = tmp_path / "model.bin"
    model.write_bytes(b"?")
    with pytest.raises(FormatUnknown, match=r"model\.bin"):
        build_directory(tmp_path / "d", {"1": model}, policy=weighted_policy({"1": 1.0}))


def test_the_routers_answers_survive_a_pull(registry, tmp_path):
    with Router.load(pull(registry, "flights", tmp_path / "deployment")) as router:
        values = router.predict({f"x{i}": np.ones(2) for i in range(3)}).values
    assert values.shape == (2, 2)
