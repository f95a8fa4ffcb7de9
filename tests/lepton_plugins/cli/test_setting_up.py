"""plugins, schema, doctor."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jsonschema
import pytest
import yaml

from lepton_plugins.records.spec import PlanSpec


def test_plugins_are_listed_with_where_they_come_from(lepton: Callable[..., Any]) -> None:
    ran = lepton("plugins", "-o", "json")
    assert ran.code == 0
    entries = {entry["name"]: entry for entry in json.loads(ran.out)}
    assert entries["selection"]["distribution"] == "lepton-plugins"
    assert entries["selection"]["version"] == version("lepton-plugins")
    assert ("policy", "weighted") in [(offer["family"], offer["name"]) for offer in entries["selection"]["offers"]]
    table = lepton("plugins").out
    assert "policy segment_best" in table
    assert max(map(len, table.splitlines())) <= 80


def plan_schema(lepton: Callable[..., Any]) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(lepton("schema", "plan").out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return schema


GOOD_PLANS = [
    "model: m",
    "{model: m, versions: [1, 3], policy: weighted}",
    "{model: m, versions: {tag: {stage: prod}}, output: proba}",
    "{model: m, policy: {kind: weighted, params: {shares: {'1': 0.5, '2': 0.5}}}}",
    "{model: m, policy: {kind: segment_best, params: {by: [carrier]}}, around: {shadow: [2], fallback: 1}}",
    "{model: m, resources: {budget: {cpu: 500m, memory: 8Gi}, load: 200/s, slo: {p99: 50ms}}}",
    "{model: m, solver: {name: auto, time_limit: 10s, gap: 0.001}, topology: distributed}",
    "{model: m, policy: {kind: somebody_elses, params: {anything: 1}}}",
]


@pytest.mark.parametrize("text", GOOD_PLANS)
def test_the_plan_files_schema_takes_what_lepton_takes(lepton: Callable[..., Any], text: str) -> None:
    plan = yaml.safe_load(text)
    jsonschema.validate(plan, plan_schema(lepton))
    PlanSpec.model_validate(plan)


@pytest.mark.parametrize(
    "text",
    [
        "versions: all",
        "{model: m, polcy: weighted}",
        "{model: m, policy: {kind: segment_best, params: {bye: [carrier]}}}",
        "{model: m, policy: {kind: segment_best, params: {}}}",
        "{model: m, around: {guard: maybe}}",
        "{model: m, resources: {budget: {memory: lots}}}",
    ],
)
def test_the_plan_files_schema_refuses_what_lepton_refuses(lepton: Callable[..., Any], text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), plan_schema(lepton))


def test_the_designs_plan_file_fits_its_schema(lepton: Callable[..., Any]) -> None:
    plan = yaml.safe_load(
        """
        model: flights
        versions: all
        output: proba
        objective: {metric: log_loss, weights: {1: 0.7, 2: 1, 3: 0.3}, form: mixture}
        policy: {kind: segment_best, params: {by: [carrier]}}
        around: {sticky: {key: customer_id}, shadow: [2], fallback: 1}
        resources:
          budget: {cpu: 4, memory: 8Gi, gpu: 1, gpu_memory: 20Gi}
          load: 200/s
          slo: {p99: 50ms}
        solver: {name: auto, time_limit: 10s, gap: 0.001}
        topology: embedded
        """
    )
    PlanSpec.model_validate(plan)
    # A JSON document's keys are text; so does an editor see them.
    jsonschema.validate(json.loads(json.dumps(plan)), plan_schema(lepton))


@pytest.mark.parametrize("name", ["deployment", "report", "version", "decision", "feedback", "activation", "event"])
def test_schemas_of_records(lepton: Callable[..., Any], name: str) -> None:
    schema = json.loads(lepton("schema", name).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert yaml.safe_load(lepton("schema", name, "-o", "yaml").out) == schema


def test_schema_without_a_name_lists_them(lepton: Callable[..., Any]) -> None:
    ran = lepton("schema")
    assert ran.code == 0
    assert "decision" in ran.out


def test_doctor_tells_what_is_there_and_what_is_missing(lepton: Callable[..., Any], sqlite_uri: str) -> None:
    ran = lepton("doctor", "--registry", sqlite_uri, "-o", "json")
    findings = {finding["what"]: finding for finding in json.loads(ran.out)["findings"]}
    assert ran.code == 0, findings
    assert findings["registry"]["state"] == "ok"
    assert "writable" in findings["registry"]["found"]
    assert f"mlflow {version('mlflow')}" in findings["[mlflow]"]["found"]
    for finding in findings.values():
        if finding["state"] == "missing" and finding["what"].startswith("["):
            assert finding["advice"] == f"pip install 'lepton-plugins{finding['what']}'"


def test_doctor_on_a_registry_that_does_not_answer(lepton: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ran = lepton("doctor", "--registry", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "✗   registry" in ran.out
    assert "--registry" in ran.out
