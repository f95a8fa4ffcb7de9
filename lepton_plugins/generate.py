"""Rendering a deployment directory for a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from pydantic import ValidationError

from lepton_plugins.errors import InvalidInput, UnknownPlugin, nearest
from lepton_plugins.plugins import plugins, validation_lines
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
    """Render `directory` into the empty directory `to`.

    `registry` is the URI of the one in use: a target with an option of that name is told. All or nothing: what
    a failing target wrote doesn't stay. UnknownPlugin, DirectoryInvalid, InvalidInput.
    """
    renderer = open_target(target)
    if registry is not None and "registry" in renderer.Options.model_fields:
        options = {"registry": registry, **options}
    checked = _options(renderer, target, options)
    plan = DeploymentDirectory.open(directory).plan
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInput(
            f"--to {to}: found something there already, expected an empty directory or a new one. Name another, or "
            "remove what was rendered there before."
        )
    with TemporaryDirectory(prefix="lepton-") as folder:
        rendered = Path(folder) / "rendered"
        rendered.mkdir()
        files = list(renderer.render(plan, directory, rendered, checked))
        was_there = to.exists()
        try:
            copytree(rendered, to, dirs_exist_ok=True)
            told = dict(renderer.finish(plan, to, checked)) if isinstance(renderer, FinishingTarget) else {}
        except BaseException:
            for path in to.iterdir() if was_there else ():  # It was empty: all that is there is ours.
                rmtree(path) if path.is_dir() else path.unlink()
            if not was_there:
                rmtree(to, ignore_errors=True)
            raise
    return Generated(plan.model, files, told)


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
        raise InvalidInput(f"The target {name!r}: {validation_lines(error)}") from error
