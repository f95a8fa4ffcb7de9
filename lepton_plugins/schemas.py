"""The JSON Schemas of what users write and read: the plan file, reports, decisions."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel

from lepton_plugins.errors import InvalidInput, LeptonError, nearest
from lepton_plugins.listing import Column, Listing
from lepton_plugins.plugins import plugins
from lepton_plugins.records.decision import Decision, Feedback
from lepton_plugins.records.event import Event
from lepton_plugins.records.plan import Activation, DeploymentPlan
from lepton_plugins.records.report import EvaluationReport
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.records.version import ModelVersion

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_RECORDS: dict[str, type[BaseModel]] = {
    "plan": PlanSpec,
    "deployment": DeploymentPlan,
    "report": EvaluationReport,
    "version": ModelVersion,
    "decision": Decision,
    "feedback": Feedback,
    "activation": Activation,
    "event": Event,
}


class SchemaName(NamedTuple):
    """A schema that `lepton schema` prints."""

    name: str
    summary: str


def schemas_listing() -> Listing[SchemaName]:
    """The schemas by name."""
    found = [SchemaName(name, (record.__doc__ or "").partition("\n")[0]) for name, record in _RECORDS.items()]
    return Listing(found, [Column("name", lambda entry: entry.name), Column("what", lambda entry: entry.summary)])


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a record; the plan file's knows the installed policies' parameters."""
    record = _RECORDS.get(name)
    if record is None:
        raise InvalidInput(f"There is no schema {name!r}.{nearest(name, _RECORDS)}")
    schema = {"$schema": _DIALECT, **record.model_json_schema(mode="validation")}
    if record is PlanSpec:
        _add_policies(schema)
    return schema


def _add_policies(schema: dict[str, Any]) -> None:
    """For each installed policy: its name as a choice, and what its `params` may hold."""
    kinds: list[str] = []
    rules: list[dict[str, Any]] = []
    for name in plugins().offers("policy"):
        kinds.append(name)
        try:
            params = plugins().load("policy", name).Params.model_json_schema(ref_template=f"#/$defs/{name}-{{model}}")
        except LeptonError:
            continue  # Its package isn't installed here: the name is still known.
        schema["$defs"] |= {f"{name}-{inner}": value for inner, value in params.pop("$defs", {}).items()}
        rules.append({"if": {"properties": {"kind": {"const": name}}}, "then": {"properties": {"params": params}}})
    policy = schema["$defs"]["PolicySpec"]
    policy["properties"]["kind"] |= {"examples": kinds}
    if rules:
        policy["allOf"] = rules
