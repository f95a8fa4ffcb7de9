"""What is installed, what answers, what is missing for what: the checks of `lepton doctor`."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from lepton_plugins import __version__
from lepton_plugins.errors import LeptonError
from lepton_plugins.plugins import plugins
from lepton_plugins.records.record import Record
from lepton_plugins.registry import Registry, open_registry

_DISTRIBUTION = "lepton-plugins"
#: What each extra is for; test and bench are for Lepton's own development.
_EXTRAS = {
    "mlflow": "the MLflow registry, evaluation and planning",
    "onnx": "running ONNX models without MLflow",
    "serve": "lepton serve",
    "evidently": "evaluate --html",
    "bentoml": "the BentoML target",
    "kserve": "the KServe target",
    "torch": "running PyTorch models",
    "redis": "sharing decisions and learning state",
    "rules": "rule expressions in policies",
    "quickstart": "lepton quickstart",
}


class Finding(Record):
    """One thing looked at. `missing` is optional and absent; `warning` and `failed` want attention."""

    what: str
    state: Literal["ok", "missing", "warning", "failed"]
    found: str
    advice: str = ""
    """What to run, or do."""


class Diagnosis(Record):
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.state in ("ok", "missing") for finding in self.findings)


def diagnose(uri: str | None = None, *, fix: bool = False) -> Diagnosis:
    """Look at everything; with `fix`, repair what Lepton derives in the registry. Never raises LeptonError."""
    findings = [
        Finding(what="lepton", state="ok", found=f"{__version__}, Python {platform.python_version()}"),
        *_registry(uri, fix),
        *_plugins(),
        *_targets(),
        *(_extra(name, purpose) for name, purpose in _EXTRAS.items()),
    ]
    return Diagnosis(findings=tuple(findings))


def _registry(uri: str | None, fix: bool) -> Iterator[Finding]:
    try:
        registry = open_registry(uri)
    except LeptonError as error:
        yield Finding(what="registry", state="failed", found=str(error))
        return
    status = registry.status()
    if not status.reachable:
        advice = "Check the address (--registry, or MLFLOW_TRACKING_URI) and that the server runs."
        yield Finding(what="registry", state="failed", found=f"{status.uri}: {status.detail}", advice=advice)
        return
    rights = {True: "writable", False: "read-only", None: "unknown whether writable"}[status.writable]
    models = "" if status.models is None else f", {status.models} model{'' if status.models == 1 else 's'}"
    release = f", version {status.version}" if status.version else ""
    about = f". {status.detail}" if status.detail else ""
    yield Finding(what="registry", state="ok", found=f"{status.uri}: {rights}{models}{release}{about}")
    yield from _repairs(registry, fix)


def _repairs(registry: Registry, fix: bool) -> Iterator[Finding]:
    """Models whose derived state (the champion's alias) isn't what the plan says."""
    try:
        found = [line for known in registry.list_models() for line in registry.repair(known.model, dry_run=not fix)]
    except LeptonError as error:
        yield Finding(what="derived state", state="warning", found=str(error))
        return
    for line in found:
        if fix:
            yield Finding(what="derived state", state="ok", found=f"repaired: {line}")
        else:
            yield Finding(what="derived state", state="warning", found=line, advice="lepton doctor --fix")


def _plugins() -> Iterator[Finding]:
    loaded = plugins()
    good = [status for status in loaded.statuses.values() if status.error is None]
    offers = sum(len(offers) for status in good for offers in status.offers.values())
    seconds = sum(status.seconds for status in loaded.statuses.values())
    found = f"{len(good)} loaded in {seconds * 1000:.0f} ms, {offers} offers"
    yield Finding(what="plugins", state="ok", found=found)
    for status in loaded.statuses.values():
        if status.error is not None:
            yield Finding(what=f"plugin {status.name}", state="failed", found=f"{status.provider}: {status.error}")
    for clash in loaded.clashes():
        yield Finding(what="plugins", state="failed", found=str(clash))


def _targets() -> Iterator[Finding]:
    try:
        names = list(plugins().offers("target"))
    except LeptonError:
        return  # A clash: told among the plugins.
    if not names:
        yield Finding(what="targets", state="missing", found="no plugin offers a target for `lepton generate`")
    for name in names:
        try:
            missing = plugins().load("target", name)().missing()
        except LeptonError as error:
            yield Finding(what=f"target {name}", state="missing", found=str(error))
            continue
        if missing:
            yield Finding(
                what=f"target {name}",
                state="missing",
                found="not installed: " + ", ".join(sorted(missing)),
                advice="; ".join(dict.fromkeys(missing.values())),
            )
        else:
            yield Finding(what=f"target {name}", state="ok", found="everything it needs is installed")


def _extra(name: str, purpose: str) -> Finding:
    """An extra's packages: those here with their versions, those missing or too old."""
    here: list[str] = []
    wanting: list[str] = []
    for package, minimum in _requirements(name):
        try:
            found = version(package)
        except PackageNotFoundError:
            wanting.append(package)
            continue
        if _older(found, minimum):
            wanting.append(f"{package} {found} (expected {minimum} or newer)")
        else:
            here.append(f"{package} {found}")
    if not wanting:
        return Finding(what=f"[{name}]", state="ok", found=", ".join(here) or purpose)
    return Finding(
        what=f"[{name}]",
        state="missing",
        found=f"for {purpose}; not installed: {', '.join(wanting)}",
        advice=f"pip install '{_DISTRIBUTION}[{name}]'",
    )


def extra_with(module: str) -> str | None:
    """The first of Lepton's extras that installs a module; None where none does."""
    wanted = {module, module.replace("_", "-"), *(("scikit-learn",) if module == "sklearn" else ())}
    return next((name for name in _EXTRAS if wanted & {package for package, _ in _requirements(name)}), None)


def _requirements(extra: str) -> Iterator[tuple[str, str]]:
    """The packages of an extra and their lowest versions, from the installed distribution's own metadata."""
    for line in requires(_DISTRIBUTION) or ():
        requirement, _, marker = line.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
        if match is None or match[1] == _DISTRIBUTION or not re.search(rf"extra\s*==\s*['\"]{extra}['\"]", marker):
            continue
        if "win32" in marker and platform.system() == "Windows":
            continue
        lowest = re.search(r">=\s*([0-9.]+)", requirement)
        yield match[1], lowest[1] if lowest else "0"


def _older(found: str, minimum: str) -> bool:
    return _numbers(found) < _numbers(minimum)


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in re.findall(r"\d+", text)[:4]]
    return numbers + [0] * (4 - len(numbers))
