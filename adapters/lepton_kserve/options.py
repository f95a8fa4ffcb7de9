"""Options of the target `kserve`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict, Field

from lepton_plugins.records.record import Record
from lepton_plugins.records.spec import Bytes, Cores


class KserveOptions(Record):
    """What the flags of `lepton generate --target kserve` say."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str | None = None
    """The InferenceService's (default: the model's name)."""
    namespace: str | None = None
    """Where it is to run."""
    service_account: str | None = None
    """The one that may read the versions' storage."""
    manifest: Path | None = Field(default=None, alias="from")
    """An InferenceService of yours: what the router doesn't need to change stays."""
    models: str | None = None
    """Where the deployment directory's models are already, such as s3://bucket/models or pvc://claim/models."""
    upload: str | None = None
    """Copy the versions' files there, s3://bucket/models or pvc://claim/models, and let the cluster pull them."""
    mount: Path | None = None
    """Where the claim of --upload pvc://… is mounted on this machine."""
    image: str | None = None
    """What image/ is built and pushed as (default: the name, tagged with the digest of image/)."""
    base_image: str | None = None
    """What image/Dockerfile builds on (default: python:VERSION-slim)."""
    token_secret: str | None = None
    """A Secret with the key `token`, for admin routes (default: NAME-token, where there is one)."""
    decisions: str = "file:///var/lib/lepton/decisions"
    """Where decisions and feedback go; in files they end with the pod."""
    learning: str = "file:///var/lib/lepton/learning"
    """Where a policy keeps what it learns; replicas share it in redis://…, in files each has its own."""
    env_secret: str | None = None
    """A Secret whose keys become variables, for a password: --learning 'redis://:$(PASSWORD)@host:6379/0'."""
    cpu: Cores | None = Field(default=None, gt=0)
    """Of one replica (default: the plan's, else 1 core)."""
    memory: Bytes | None = Field(default=None, gt=0)
    """Of one replica (default: the plan's, else 1Gi)."""
    min_replicas: int | None = Field(default=None, ge=0)
    """At least so many (default: the plan's)."""
    max_replicas: int | None = Field(default=None, ge=1)
    """At most so many (default: the plan's)."""
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""
