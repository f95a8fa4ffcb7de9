"""Rendering a deployment directory for a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pydantic import ValidationError

from lepton_plugins.errors import InvalidInput, UnknownPlugin, nearest
from lepton_plugins.events import tell
from lepton_plugins.planning.findings import dotted, findings
from lepton_plugins.plugins import plugins
from lepton_plugins.rendered import in_place_of, put, rendered_before, write_record
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.target import FinishingTarget, Target


class Generated(NamedTuple):
    """What was rendered of which model: the files, relative and sorted, and what the target tells of them."""

    model: str
    files: list[Path]
    told: dict[str, str]


def generate(
    directory: Path, target: str, to: Path, options: Mapping[str, Any], *, registry: str | None = None
) -> Generated:
    """As `render`, and the plugins are told."""
    made = render(directory, target, to, options, registry=registry)
    tell("generated", made.model, target=target, files=len(made.files), **made.told)
    return made


def render(
    directory: Path, target: str, to: Path, options: Mapping[str, Any], *, registry: str | None = None
) -> Generated:
    """Render `directory` into `to`: a new directory, an empty one, or what was rendered there before, unchanged.

    `registry` is the URI of the one in use: a target with an option of that name is told. All or nothing: what
    a failing target wrote doesn't stay, what was rendered before does, until all of the new is there. UnknownPlugin,
    DirectoryInvalid, InvalidInput, PlaceTaken, PlaceUnwritable.
    """
    renderer = open_target(target)
    if registry is not None and "registry" in renderer.Options.model_fields:
        options = {"registry": registry, **options}
    checked = _options(renderer, target, options)
    plan = DeploymentDirectory.open(directory).plan
    rendered_before(to)
    with TemporaryDirectory(prefix="lepton-") as folder:
        rendered = Path(folder) / "rendered"
        rendered.mkdir()
        files = list(renderer.render(plan, directory, rendered, checked))
        with in_place_of(to) as made:
            put(rendered, made)
            told = dict(renderer.finish(plan, made, to, checked)) if isinstance(renderer, FinishingTarget) else {}
            record = write_record(made, files)  # Not before: what is registered is what was rendered.
    return Generated(plan.model, sorted([*files, record]), told)


def open_target(name: str) -> Target:
    """The target of this name; UnknownPlugin says so where none is installed at all."""
    offers = plugins().offers("target")
    if not offers:
        raise UnknownPlugin("target", name, ())
    made: Target = plugins().load("target", name)()
    return made


def _options(target: Target, name: str, options: Mapping[str, Any]) -> Any:
    known = [field.alias or name for name, field in target.Options.model_fields.items()]
    for option in options:
        if option not in known:
            raise InvalidInput(f"The target {name!r} has no option {option!r}.{nearest(option, known)}")
    try:
        return target.Options.model_validate(dict(options))
    except ValidationError as error:
        found = findings(error, target.Options, dict(options))
        lines = [f"{dotted(place)}: {text}" if place else text for place, text in found]
        raise InvalidInput(f"The target {name!r}: {'; '.join(lines)}") from error
