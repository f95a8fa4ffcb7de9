"""Options of the target `kserve`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from lepton_plugins.records.record import Record
from lepton_plugins.records.spec import Bytes, Cores


class KserveOptions(Record):
    """What `--option key=value` may say."""

    name: str | None = None
    """The InferenceService's; default: the model's name."""
    namespace: str | None = None
    service_account: str | None = None
    """The one that may read the versions' storage."""
    image: str | None = None
    """What `image/` is built and pushed as; default: the name, tagged with the digest of `image/`."""
    models: str | None = None
    """Where the deployment directory's `models` was copied to, such as s3://bucket/models or pvc://claim/models."""
    manifest: Path | None = None
    """An InferenceService of yours: what the router doesn't need to change stays."""
    token_secret: str | None = None
    """A Secret with the key `token`, for admin routes."""
    cpu: Cores | None = Field(default=None, gt=0)
    memory: Bytes | None = Field(default=None, gt=0)
    """Of one replica; default: the plan's, else 1 core and 1Gi."""
    min_replicas: int | None = Field(default=None, ge=0)
    max_replicas: int | None = Field(default=None, ge=1)
    base_image: str | None = None
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""
