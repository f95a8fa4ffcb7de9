"""Options of the target `kserve`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from lepton_plugins.needs import REQUEST_SECONDS
from lepton_plugins.records.quantity import Bytes, Cores
from lepton_plugins.records.record import Record


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
    """What image/ is built and pushed as (default: the name, tagged with the digest of image/); those of versions
    with packages of their own have -vVERSION behind it."""
    base_image: str | None = None
    """What image/Dockerfile builds on (default: python:VERSION-slim)."""
    allowed_hosts: str = ""
    """Further hosts at which admin routes (feedback, explain) are reached, separated by commas: the ingress's."""
    token_secret: str | None = None
    """A Secret with the key `token`, for admin routes (default: NAME-token, where there is one)."""
    decisions: str = "file:///var/lib/lepton/decisions"
    """Where decisions and feedback go; in files they end with the pod."""
    learning: str = "file:///var/lib/lepton/learning"
    """Where a policy keeps what it learns; replicas share it in redis://…, in files each has its own."""
    env_secret: str | None = None
    """A Secret whose keys become variables, for a password: --learning 'redis://:$(PASSWORD)@host:6379/0'."""
    mode: Literal["Standard", "Knative"] | None = None
    """KServe's deployment mode (default: your manifest's, else Standard)."""
    cpu: Cores | None = Field(default=None, gt=0)
    """Of one replica (default: the plan's, else 1 core); with topology distributed, the router's."""
    memory: Bytes | None = Field(default=None, gt=0)
    """Of one replica (default: the plan's, else 1Gi); with topology distributed, the router's."""
    min_replicas: int | None = Field(default=None, ge=0)
    """At least so many (default: the plan's); with topology distributed, of the router."""
    max_replicas: int | None = Field(default=None, ge=1)
    """At most so many (default: as many as the plan's pools hold); with topology distributed, of the router."""
    autoscaler: Literal["hpa", "keda", "none"] | None = None
    """What starts and ends replicas in Standard mode (default: hpa where the plan leaves room)."""
    scale_on: Literal["cpu", "memory", "rps", "concurrency"] | None = None
    """What it looks at: cpu or memory (hpa, keda), rps (keda, Knative), concurrency (Knative)."""
    scale_target: int | None = Field(default=None, ge=1)
    """How much of that a replica is to have (default: from the measured throughput and the head-room)."""
    request_seconds: float = Field(default=REQUEST_SECONDS, ge=0)
    """What a request of a version's service takes beside the model, whose throughput was measured alone; with it
    the requests a second of --scale-target are found."""
    prometheus: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    """The address that KEDA asks for requests a second, such as http://prometheus.monitoring:9090."""
    gpu_key: str | None = Field(default=None, pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")
    """The resource of a device, such as nvidia.com/mig-1g.10gb (default: the pool's, else nvidia.com/gpu)."""
    accelerator: str | None = None
    """The kind of device, such as nvidia-a100-40gb: a whole one or a MIG profile by the memory that was measured."""
    device_class: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    """Claim devices of this class (DRA), such as gpu.nvidia.com (default: the pool's)."""
    fallback: Literal["service", "local"] = "service"
    """Topology distributed: the version that answers when others can't is a service too, or runs in the router."""
    service_url: str | None = None
    """Topology distributed: a version's address, with {service}, {version}, {namespace} in it (default:
    http://{service}-predictor). Headless Services need http://{service}-predictor:8080."""
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""
