"""The rows of a V1 or MLflow request, in whichever form they come."""

from __future__ import annotations

from typing import Any

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.serving.reader import InputReader


def read_instances(reader: InputReader, instances: Any) -> tuple[Columns, int]:
    """Rows: objects by name, lists in the signature's order, or the values of a lone input."""
    if not isinstance(instances, list):
        raise RequestInvalid("`instances` isn't a list", field="instances", expected="a list of rows")
    if instances and isinstance(instances[0], dict):
        return reader.records(instances)
    return reader.rows(instances)


def read_inputs(reader: InputReader, inputs: Any) -> tuple[Columns, int]:
    """Columns: an object of lists by name, or the values of a lone input; a list of lists is rows."""
    if isinstance(inputs, dict):
        return reader.columns(inputs)
    if not isinstance(inputs, list):
        raise RequestInvalid(
            "`inputs` is neither an object nor a list", field="inputs", expected="columns by name, or a list"
        )
    return read_instances(reader, inputs)
