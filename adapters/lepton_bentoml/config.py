"""The service's configuration: BentoML drops the keys that it doesn't know without a word, so they are checked here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import ValidationError
from typing_extensions import is_typeddict

from lepton_bentoml.options import BentomlOptions
from lepton_plugins.errors import ConfigKeyUnknown, InvalidInput, PathMissing
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.spec import parse_bytes, parse_cpu


def service_config(plan: DeploymentPlan, name: str, o: BentomlOptions) -> dict[str, Any]:
    """The arguments of `bentoml.service`: the user's file, then the options, then the plan's figures.

    ConfigKeyUnknown names a key that BentoML would drop, InvalidInput a value that it would misread.
    """
    config = _yours(o.config)
    check(config)
    resources = config.setdefault("resources", {})
    for key, value in _resources(plan, o).items():
        resources[key] = value if getattr(o, key) is not None else resources.get(key, value)
    if not resources:
        del config["resources"]
    traffic = config.setdefault("traffic", {})
    given = {"timeout": o.timeout, "max_concurrency": o.max_concurrency, "concurrency": o.concurrency}
    traffic |= {key: value for key, value in given.items() if value is not None}
    traffic.setdefault("timeout", 60.0)
    if o.workers is not None:
        config["workers"] = o.workers
    config.setdefault("workers", 1)
    check(config)
    return {"name": name, **config}


def check(config: Mapping[str, Any]) -> None:
    """Whether BentoML keeps every key of a configuration, and reads every value as it is meant."""
    from _bentoml_sdk.service.config import ServiceConfig, validate  # type: ignore[import-untyped]

    for place, known in _dropped(config, ServiceConfig):
        raise ConfigKeyUnknown("BentoML's service configuration", place, known)
    try:
        validate(dict(config))
    except ValidationError as error:
        raise InvalidInput(f"BentoML's service configuration: {validation_lines(error)}") from None
    for finding in _misread(config.get("resources", {}), config.get("workers")):
        raise InvalidInput(f"BentoML's service configuration: {finding}")


def _dropped(config: Mapping[str, Any], schema: type, place: str = "") -> Iterator[tuple[str, list[str]]]:
    """Keys that the schema, a TypedDict, doesn't have, each with those that it has in that place."""
    known = get_type_hints(schema)
    for key, value in config.items():
        if key not in known:
            yield f"{place}{key}", [f"{place}{name}" for name in known]
        elif is_typeddict(known[key]) and isinstance(value, Mapping):
            yield from _dropped(value, known[key], f"{place}{key}.")


def _misread(resources: Mapping[str, Any], workers: object) -> Iterator[str]:
    """Values that the schema lets pass and BentoML takes for something else."""
    memory, cpu, gpu = resources.get("memory"), resources.get("cpu"), resources.get("gpu")
    if isinstance(memory, int | float):
        yield f"resources.memory: found {memory}, which BentoML takes for Gi; expected a size such as {memory}Gi"
    for key, value, parse in (("memory", memory, parse_bytes), ("cpu", cpu, parse_cpu)):
        try:
            parse(value)
        except ValueError as error:
            yield f"resources.{key}: {error}"
    if gpu is not None and gpu > 1 and gpu != int(gpu):
        yield f"resources.gpu: found {gpu}, expected a whole number, or a part of one below 1"
    if gpu is not None and workers == "cpu_count":
        yield "workers: found cpu_count beside resources.gpu; BentoML gives such workers no GPU, expected a number"


def _resources(plan: DeploymentPlan, o: BentomlOptions) -> dict[str, Any]:
    """Of one replica. Without a figure a key is left out: BentoML refuses `gpu: 0`."""
    replicas = max(arm.resources.replicas for arm in plan.arms)
    cpu = o.cpu or sum(arm.resources.cpu or 0 for arm in plan.arms) / replicas
    memory = o.memory or sum(arm.resources.memory or 0 for arm in plan.arms) / replicas
    gpu = o.gpu or ceil(sum(arm.resources.gpu or 0 for arm in plan.arms) / replicas)
    found = {
        "cpu": f"{ceil(cpu * 1000)}m" if cpu else None,
        "memory": f"{ceil(memory / 2**20)}Mi" if memory else None,  # A bare number would be read as Gi.
        "gpu": gpu or None,
        "gpu_type": o.gpu_type,
    }
    return {key: value for key, value in found.items() if value is not None}


def _yours(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    if not file.is_file():
        raise PathMissing(file, "--config")
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInput(f"--config {file}: it isn't YAML: {str(error)[:300]}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InvalidInput(f"--config {file}: found no mapping, expected keys such as resources and traffic.")
    return found
