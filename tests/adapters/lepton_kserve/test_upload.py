"""Copying versions to where a cluster pulls them: a real S3 server, and a claim that is mounted here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_kserve.upload import upload
from lepton_plugins.canonical import digest_tree
from lepton_plugins.errors import ClaimNotMounted, InvalidInput, PackageMissing, UploadFailed
from lepton_plugins.generate import generate
from lepton_plugins.routing.directory import DeploymentDirectory


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that speaks S3, with a bucket; found as MLflow's users let it be found."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "of-the-test",
        "AWS_SECRET_ACCESS_KEY": "of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3
    from mlflow.store.artifact import s3_artifact_repo

    s3_artifact_repo._cached_get_s3_client.cache_clear()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="bucket")
    yield client
    server.stop()


def _folders(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "models").iterdir())


def test_versions_are_uploaded_and_pulled_from_there(s3: Any, deployment: Path, tmp_path: Path) -> None:
    generate(deployment, "kserve", tmp_path / "to", {"upload": "s3://bucket/teams/models"})
    for folder in _folders(deployment):
        to = tmp_path / "pulled" / folder
        to.mkdir(parents=True)
        for item in s3.list_objects_v2(Bucket="bucket", Prefix=f"teams/models/{folder}/")["Contents"]:
            s3.download_file("bucket", item["Key"], str(to / item["Key"].rpartition("/")[2]))
        assert digest_tree(to) == f"sha256:{folder}"
    manifest = yaml.safe_load((tmp_path / "to" / "inferenceservice.yaml").read_text())
    uris = [item["uri"] for item in manifest["spec"]["predictor"]["storageUris"]]
    assert uris == [f"s3://bucket/teams/models/{folder}" for folder in _folders(deployment)]
    generate(deployment, "kserve", tmp_path / "named", {"models": "s3://bucket/teams/models"})
    assert (tmp_path / "named" / "inferenceservice.yaml").read_bytes() == (
        tmp_path / "to" / "inferenceservice.yaml"
    ).read_bytes()


def test_what_is_there_is_not_copied_again_and_what_is_broken_is(s3: Any, deployment: Path) -> None:
    opened = DeploymentDirectory.open(deployment)
    one, two = _folders(deployment)
    assert upload(opened, "s3://bucket/models/", None) == [one, two]
    assert upload(opened, "s3://bucket/models", None) == []
    s3.put_object(Bucket="bucket", Key=f"models/{two}/model.onnx", Body=b"half")
    assert upload(opened, "s3://bucket/models", None) == [two]


def test_a_bucket_that_is_not_there_is_one_line(s3: Any, deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(UploadFailed, match=r"copying to s3://nowhere/models/\w+ failed: .*bucket does not exist"):
        generate(deployment, "kserve", tmp_path / "to", {"upload": "s3://nowhere/models"})
    assert not (tmp_path / "to").exists()


def test_a_mounted_claim_gets_real_files(deployment: Path, tmp_path: Path) -> None:
    mount = tmp_path / "claim"
    mount.mkdir()
    options = {"upload": "pvc://claim/teams/models", "mount": str(mount)}
    generate(deployment, "kserve", tmp_path / "to", options)
    for folder in _folders(deployment):
        assert digest_tree(mount / "teams" / "models" / folder) == f"sha256:{folder}"
    manifest = yaml.safe_load((tmp_path / "to" / "inferenceservice.yaml").read_text())
    uris = [item["uri"] for item in manifest["spec"]["predictor"]["storageUris"]]
    assert uris == [f"pvc://claim/teams/models/{folder}" for folder in _folders(deployment)]
    assert str(mount) not in (tmp_path / "to" / "inferenceservice.yaml").read_text()

    opened = DeploymentDirectory.open(deployment)
    assert upload(opened, options["upload"], mount) == []
    broken = _folders(deployment)[0]
    (mount / "teams" / "models" / broken / "model.onnx").write_bytes(b"half")
    assert upload(opened, options["upload"], mount) == [broken]
    assert sorted(path.name for path in (mount / "teams" / "models").iterdir()) == _folders(deployment)


def test_a_claim_that_is_not_mounted_says_what_to_run(deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(ClaimNotMounted, match=r"--mount DIR.*kubectl cp deployment/models .*--models pvc://claim/m"):
        generate(deployment, "kserve", tmp_path / "to", {"upload": "pvc://claim/m"})
    with pytest.raises(ClaimNotMounted, match="which is no folder"):
        generate(deployment, "kserve", tmp_path / "to", {"upload": "pvc://claim/m", "mount": str(tmp_path / "no")})


@pytest.mark.parametrize("to", ["/srv/models", "mlflow-artifacts:/models", "s3://key:secret@bucket/m", "hf://a/b"])
def test_where_nothing_can_be_copied_to(to: str, deployment: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected s3://bucket/folder"):
        generate(deployment, "kserve", tmp_path / "to", {"upload": to})


def test_contradictions_and_missing_packages_are_told(
    deployment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, told in (
        ({"upload": "s3://bucket/m", "models": "s3://bucket/m"}, "Found --models and --upload"),
        ({"upload": "s3://bucket/m", "mount": str(tmp_path)}, "--mount is where a claim is mounted"),
        ({"upload": "pvc://claim/../m", "mount": str(tmp_path)}, "without .."),
    ):
        with pytest.raises(InvalidInput, match=told):
            generate(deployment, "kserve", tmp_path / "to", options)
    with pytest.raises(PackageMissing, match="pip install 'google-cloud-storage'"):
        generate(deployment, "kserve", tmp_path / "to", {"upload": "gs://bucket/m"})
