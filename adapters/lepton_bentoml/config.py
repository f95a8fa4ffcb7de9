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
from lepton_plugins.needs import Need
from lepton_plugins.planning.findings import dotted, findings
from lepton_plugins.records.quantity import parse_bytes, parse_cpu

#: Where a configuration file has what is said of the services of single versions, by version.
SERVICES = "services"


def service_config(need: Need, name: str, o: BentomlOptions) -> dict[str, Any]:
    """The arguments of `bentoml.service`: the user's file, then the options, then the plan's figures.

    ConfigKeyUnknown names a key that BentoML would drop, InvalidInput a value that it would misread.
    """
    return _config(need, name, _yours(o.config), o)


def service_configs(
    router: tuple[str, Need], versions: Mapping[str, tuple[str, Need]], o: BentomlOptions
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The router's configuration, and those of the services of single versions, by version; names with needs.

    The options are the router's, but for the kind of device, which is that of the versions that have one. In the file
    `services` has what is said of a version.
    """
    yours = _yours(o.config)
    of_versions = yours.pop(SERVICES, None) or {}
    if not isinstance(of_versions, dict):
        raise InvalidInput(f"--config {o.config}: found {of_versions!r} as services, expected a mapping by version.")
    of_versions = {str(version): given for version, given in of_versions.items()}
    for version, given in of_versions.items():
        if version not in versions:
            known = ", ".join(versions)
            raise InvalidInput(f"--config {o.config}: services: found {version}, expected one of {known}.")
        if not isinstance(given, dict):
            raise InvalidInput(f"--config {o.config}: services: found {given!r} for {version}, expected a mapping.")
    found = {}
    for version, (name, need) in versions.items():
        plain = BentomlOptions(gpu_type=o.gpu_type if need.gpu else None)
        found[version] = _config(need, name, of_versions.get(version, {}), plain)
    name, need = router
    if not need.gpu and any(item.gpu for _, item in versions.values()):
        o = o.model_copy(update={"gpu_type": None})
    return _config(need, name, yours, o), found


def _config(need: Need, name: str, yours: dict[str, Any], o: BentomlOptions) -> dict[str, Any]:
    config = dict(yours)
    check(config)
    resources = config["resources"] = dict(config.get("resources") or {})
    for key, value in _resources(need, o).items():
        resources[key] = value if getattr(o, key) is not None else resources.get(key, value)
    if not resources:
        del config["resources"]
    traffic = config["traffic"] = dict(config.get("traffic") or {})
    given = {"timeout": o.timeout, "max_concurrency": o.max_concurrency, "concurrency": o.concurrency}
    traffic |= {key: value for key, value in given.items() if value is not None}
    traffic.setdefault("timeout", 60.0)
    if need.pools and need.at_once is not None:  # What BentoCloud scales by; without pools nothing says that it may.
        traffic.setdefault("concurrency", max(ceil(need.at_once), 1))
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
        found = [f"{dotted(place)}: {text}" for place, text in findings(error, data=config)]
        raise InvalidInput(f"BentoML's service configuration: {'; '.join(found)}") from None
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
    if isinstance(memory, int | float) or (isinstance(memory, str) and memory.strip().isdigit()):
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


def _resources(need: Need, o: BentomlOptions) -> dict[str, Any]:
    """Of one replica. Without a figure a key is left out: BentoML refuses `gpu: 0`."""
    cpu, memory, gpu = o.cpu or need.cpu, o.memory or need.memory, o.gpu or need.gpu
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
