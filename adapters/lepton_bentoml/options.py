"""Options of the target `bentoml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from lepton_plugins.records.quantity import Bytes, Cores, Seconds
from lepton_plugins.records.record import Record


def _with_unit(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and value.strip().replace(".", "", 1).isdigit()):
        raise ValueError(f"found {value} without a unit, which BentoML takes for Gi; expected {value}Gi or {value}Mi")
    return value


class BentomlOptions(Record):
    """What the flags of `lepton generate --target bentoml` say."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str | None = Field(default=None, pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
    """The bento's and the service's (default: the model's name with -router)."""
    cpu: Cores | None = Field(default=None, gt=0)
    """Of one replica, all workers together (default: the plan's); with topology distributed, the router's."""
    memory: Annotated[Bytes | None, BeforeValidator(_with_unit)] = Field(default=None, gt=0)
    """Of one replica, all workers together (default: the plan's)."""
    gpu: int | None = Field(default=None, ge=1)
    """Of one replica (default: the plan's)."""
    gpu_type: str | None = None
    """BentoCloud's name for it, such as nvidia-l4; with topology distributed, for the versions that have one."""
    base_image: str | None = Field(default=None, pattern=r"^[^\s'\"\\\\]+$")
    """What the bento's image builds on, such as one with CUDA (default: BentoML's, Python alone)."""
    workers: Annotated[int, Field(ge=1)] | Literal["cpu_count"] | None = Field(default=None, union_mode="left_to_right")
    """Processes of one replica, a number or cpu_count (default: 1)."""
    timeout: Seconds | None = Field(default=None, gt=0)
    """Of one request (default: 60s)."""
    max_concurrency: int | None = Field(default=None, ge=1)
    """Requests at once; the next is refused."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests at once that BentoCloud aims at when it scales (default: by the plan's pools)."""
    fallback: Literal["service", "local"] = "service"
    """Topology distributed: the version that answers when others can't is a service too, or runs in the router."""
    config: Path | None = None
    """A YAML file with more of BentoML's service configuration; the other flags go before it. With topology
    distributed it is the router's, and the key `services` has the versions': {services: {1: {workers: 2}}}."""
    lepton_requirement: str | None = None
    """A requirement such as lepton-plugins==0.1.0, instead of embedding Lepton's packages."""
    requirements: str = ""
    """Further requirements, separated by commas."""
