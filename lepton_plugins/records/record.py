"""The roots of all records: frozen, strict about unknown keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

from lepton_plugins.records.key_docs import describe_keys


class Record(BaseModel):
    """An immutable value. Unknown keys are errors, so that a typo is seen and not dropped."""

    # Built when first used: a server starts without most of them.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", defer_build=True)


class SpecRecord(Record):
    """A part of the plan file. Its keys' docstrings are the descriptions in `lepton schema plan`."""

    model_config = ConfigDict(json_schema_extra=describe_keys)


class Numbering:
    """A validation context in which versions may be named by label: `number` gives a name's number, or raises."""

    def __init__(self, number: Callable[[str], str]) -> None:
        self.number = number


def _number_to_text(value: object, info: ValidationInfo) -> object:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return info.context.number(text) if isinstance(text, str) and isinstance(info.context, Numbering) else text


#: A registry's version number, as text: `1` in a YAML file and `"1"` in JSON are the same version. In a plan file
#: and a policy's parameters a label may stand for it, until planning asks the registry (`Numbering`).
VersionNumber = Annotated[
    str,
    BeforeValidator(_number_to_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}, mode="validation"),
]


def _unique(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError(f"found {list(values)}, expected each version once")
    return values


Versions = Annotated[tuple[VersionNumber, ...], AfterValidator(_unique)]
