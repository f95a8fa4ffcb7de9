"""Reading a plan file: every finding at once, each with its place and the nearest known name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from lepton_plugins.errors import LeptonError, PathMissing, PlanFileTooLarge, SpecInvalid
from lepton_plugins.planning.findings import Place, dotted, findings
from lepton_plugins.planning.yaml_tree import read_tree
from lepton_plugins.plugins import plugins
from lepton_plugins.records.spec import PlanSpec

#: Far beyond any plan written by hand.
LIMIT = 2**20


def spec_of(given: PlanSpec | Mapping[str, Any] | str | Path) -> PlanSpec:
    """A plan file as its path, its content as a mapping, or read already. Raises as `read_spec` does."""
    if isinstance(given, PlanSpec):
        return given
    return parse_spec(given) if isinstance(given, Mapping) else read_spec(Path(given))


def read_spec(path: Path) -> PlanSpec:
    """The plan file at `path` (YAML, or JSON, which is YAML), checked down to the policy's own parameters.

    SpecInvalid lists every finding with its line; PathMissing, PlanFileTooLarge.
    """
    if not path.is_file():
        raise PathMissing(path, "The plan file")
    size = path.stat().st_size
    if size > LIMIT:
        raise PlanFileTooLarge(path, size, LIMIT)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecInvalid(
            [f"byte {error.start}: found {error.object[error.start]:#04x}, expected UTF-8"], path
        ) from None
    try:
        data, lines, found = read_tree(text)
    except yaml.YAMLError as error:
        raise SpecInvalid([_syntax(error)], path) from None
    if not isinstance(data, Mapping):
        given = "nothing" if data is None else f"a {type(data).__name__}"
        raise SpecInvalid([f"found {given}, expected keys such as model and policy"], path)
    spec, more = _validated(data)
    found = [*found, *more]
    if found:
        numbered = sorted(((_line(place, lines), place, text) for place, text in found), key=lambda item: item[0] or 0)
        raise SpecInvalid([_told(line, place, text) for line, place, text in numbered], path)
    assert spec is not None
    return spec


def parse_spec(data: Mapping[str, Any]) -> PlanSpec:
    """A plan file given as a mapping; the same checks, without lines."""
    spec, found = _validated(data)
    if spec is None or found:
        raise SpecInvalid([_told(None, place, text) for place, text in found])
    return spec


def check_plugins(spec: PlanSpec) -> BaseModel:
    """The policy's parameters, checked by its own `Params`; SpecInvalid where policy or solver don't know them."""
    params, found = _of_plugins(spec)
    if params is None or found:
        raise SpecInvalid([_told(None, place, text) for place, text in found])
    return params


def _validated(data: Mapping[str, Any]) -> tuple[PlanSpec | None, list[tuple[Place, str]]]:
    """The spec, and what is wrong; the policy's parameters are checked even where the rest isn't valid."""
    try:
        spec = PlanSpec.model_validate(data)
    except ValidationError as error:
        found = findings(error, PlanSpec, data)
        policy = data.get("policy")
        if isinstance(policy, str) or (isinstance(policy, Mapping) and isinstance(policy.get("kind"), str)):
            try:
                rest = PlanSpec.model_validate({"model": "-", "policy": policy})
            except ValidationError:
                return None, found
            found += _of_plugins(rest)[1]
        return None, found
    return spec, _of_plugins(spec)[1]


def _of_plugins(spec: PlanSpec) -> tuple[BaseModel | None, list[tuple[Place, str]]]:
    found: list[tuple[Place, str]] = []
    params: BaseModel | None = None
    try:
        accepted: type[BaseModel] = plugins().load("policy", spec.policy.kind).Params
    except LeptonError as error:
        found.append((("policy", "kind"), str(error)))
    else:
        try:
            params = accepted.model_validate(spec.policy.params)
        except ValidationError as error:
            found += findings(error, accepted, spec.policy.params, ("policy", "params"))
    try:
        plugins().offer("solver", spec.solver.name)
    except LeptonError as error:
        found.append((("solver", "name"), str(error)))
    return params, found


def _line(place: Place, lines: Mapping[Place, int]) -> int | None:
    """The line of a place, or of the nearest one above it that the file has."""
    while place not in lines:
        if not place:
            return None
        place = place[:-1]
    return lines[place]


def _told(line: int | None, place: Sequence[str | int], text: str) -> str:
    where = ": ".join(part for part in (f"line {line}" if line else "", dotted(tuple(place))) if part)
    # A model's own validator names the keys itself.
    if text.startswith(f"{dotted(tuple(place))}:"):
        return f"line {line}: {text}" if line else text
    return f"{where}: {text}" if where else text


def _syntax(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark is not None else str(problem)
