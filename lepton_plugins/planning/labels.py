"""Labels in a plan file: resolved to version numbers once, by what the registry lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from lepton_plugins.errors import SpecInvalid, nearest
from lepton_plugins.planning.findings import UNKNOWN_VERSION, Place, dotted, findings
from lepton_plugins.records.record import Numbering
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.records.version import ModelVersion


def with_numbers(spec: PlanSpec, params: BaseModel, known: Sequence[ModelVersion]) -> tuple[PlanSpec, BaseModel]:
    """The plan file and the policy's parameters with a number wherever a version is named.

    A number stands above a label of the same text. SpecInvalid lists, with its place, each name that is neither
    or that several versions carry as their label, and each version that one mapping names twice.
    """
    names = _Names(known)
    context = Numbering(names.number)
    data = spec.model_dump(mode="json", exclude_unset=True)
    found: list[tuple[Place, str]] = []
    numbered, numbered_params = spec, params
    try:
        numbered = PlanSpec.model_validate(data, context=context)
    except ValidationError as error:
        found += findings(error, PlanSpec, data)
    accepted, place = type(params), ("policy", "params")
    try:
        numbered_params = accepted.model_validate(spec.policy.params, context=context)
    except ValidationError as error:
        found += findings(error, accepted, spec.policy.params, place)
    # Where two names became one key, what else was found there follows from it.
    twice = dict(names.twice(spec.objective.weights, ("objective", "weights")))
    twice |= dict(names.twice(_written(params), place))
    if spec.around.degrade is not None:
        twice |= dict(names.twice(spec.around.degrade.concurrency, ("around", "degrade", "concurrency")))
    found = [*twice.items(), *(item for item in found if item[0] not in twice)]
    if found:
        raise SpecInvalid([f"{dotted(at)}: {text}" if at else text for at, text in found])
    if _written(numbered_params) != _written(params):
        policy = numbered.policy.model_copy(update={"params": _written(numbered_params)})
        numbered = numbered.model_copy(update={"policy": policy})
    return numbered, numbered_params


def _written(params: BaseModel) -> dict[str, Any]:
    """Parameters as they stand in a plan file."""
    return params.model_dump(mode="json", by_alias=True, exclude_unset=True)


class _Names:
    """The versions' numbers and labels, and which labels were met."""

    def __init__(self, known: Sequence[ModelVersion]) -> None:
        self._known = {version.version for version in known}
        self._labelled: dict[str, list[str]] = {}
        for version in known:
            if version.label is not None:
                self._labelled.setdefault(version.label, []).append(version.version)
        self._met: dict[str, str] = {}

    def number(self, name: str) -> str:
        """The number of the version that is named by number or label."""
        if name in self._known:
            return name
        carried = self._labelled.get(name, [])
        if len(carried) == 1:
            self._met[name] = carried[0]
            return carried[0]
        if carried:
            text = (
                f"found the label {name!r}, which versions {', '.join(carried)} carry; expected a number, or a label "
            )
            raise _error(text + "that one version carries")
        known = nearest(name, [*self._known, *self._labelled]) or " The model has no versions."
        raise _error(f"found {name!r}, expected a version's number or label.{known}")

    def twice(self, value: object, place: Place) -> Iterator[tuple[Place, str]]:
        """Mappings that name a version by number and by label."""
        if isinstance(value, Mapping):
            for label in self._met.keys() & value.keys():
                if self._met[label] in value:
                    yield place, f"found version {self._met[label]} twice, also as {label!r}; expected it once"
            for key, item in value.items():
                yield from self.twice(item, (*place, key))
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                yield from self.twice(item, (*place, index))


def _error(text: str) -> PydanticCustomError:
    # Braces would be read as places for values.
    return PydanticCustomError(UNKNOWN_VERSION, "{text}", {"text": text})
