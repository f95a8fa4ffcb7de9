"""Where a cluster gets the versions' files from."""

from __future__ import annotations

from urllib.parse import urlsplit

from lepton_plugins.errors import SourceNotPullable
from lepton_plugins.records.plan import Arm, DeploymentPlan

#: Schemes of KServe's storage initializer that name a folder. Azure's are https addresses.
SCHEMES = ("gs", "s3", "pvc", "hdfs", "webhdfs", "hf", "oci")
_AZURE = (".blob.core.windows.net", ".dfs.core.windows.net")


def folders(plan: DeploymentPlan) -> dict[str, Arm]:
    """The folders below `models`, by name, each with an arm whose files they are; sorted."""
    return {arm.artifact_digest.removeprefix("sha256:"): arm for arm in sorted(plan.arms, key=_digest)}


def storage_uri(arm: Arm, folder: str, models: str | None) -> str:
    """The address of an arm's files: `folder` below `models` where that is given, else the registry's own store.

    SourceNotPullable says what to do about an address that only one machine or MLflow can read.
    """
    address = f"{models.rstrip('/')}/{folder}" if models else (arm.source or arm.uri)
    if not is_pullable(address):
        raise SourceNotPullable(arm.version, address)
    return address


def is_pullable(address: str) -> bool:
    """Whether KServe's storage initializer pulls from there without a secret in the address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    if "@" in parts.netloc or parts.query:
        return False  # A signed or password-carrying address is a secret.
    if parts.scheme == "https":
        return (parts.hostname or "").endswith(_AZURE)
    return parts.scheme in SCHEMES and bool(parts.netloc)


def _digest(arm: Arm) -> str:
    return arm.artifact_digest
