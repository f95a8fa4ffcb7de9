"""The root of all records: frozen, strict about unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema


class Record(BaseModel):
    """An immutable value. Unknown keys are errors, so that a typo is seen and not dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


def _number_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


#: A registry's version number, as text: `1` in a YAML file and `"1"` in JSON are the same version.
VersionNumber = Annotated[
    str,
    BeforeValidator(_number_to_text),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]}, mode="validation"),
]
