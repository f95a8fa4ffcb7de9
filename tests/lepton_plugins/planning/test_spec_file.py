"""Plan files: every finding at once, with its line, what was found and the nearest name."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from lepton_plugins.errors import PathMissing, PlanFileTooLarge, SpecInvalid
from lepton_plugins.planning.spec_file import LIMIT, parse_spec, read_spec
from lepton_plugins.records.spec import PlanSpec

COMPLETE = """\
model: flights
versions: all
output: proba
objective:
  metric: log_loss
  weights: {1: 0.7, 2: 1, 3: 0.3}
  form: mixture
policy: {kind: segment_best, params: {by: [carrier]}}
around:
  sticky: {key: customer_id}
  shadow: [2]
  fallback: 1
resources:
  budget: {cpu: 4, memory: 8Gi, gpu: 1, gpu_memory: 20Gi}
  load: 200/s
  slo: {p99: 50ms}
solver: {name: auto, time_limit: 10s, gap: 0.001}
topology: embedded
"""


@pytest.fixture
def read(tmp_path: Path):
    def reading(text: str | bytes) -> PlanSpec:
        path = tmp_path / "plan.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_spec(path)

    return reading


def findings_of(read, text: str | bytes) -> tuple[str, ...]:
    with pytest.raises(SpecInvalid) as caught:
        read(text)
    return caught.value.findings


def test_a_complete_file(read):
    spec = read(COMPLETE)
    assert spec.objective.weights == {"1": 0.7, "2": 1.0, "3": 0.3}
    assert spec.around.shadow == ("2",)
    assert spec.around.fallback == "1"
    assert spec.resources.budget.memory == 8 * 2**30
    assert spec.resources.load == 200
    assert spec.resources.slo.p99 == 0.05
    assert spec.policy.params == {"by": ["carrier"]}


def test_the_schema_accepts_what_is_accepted():
    schema = PlanSpec.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(COMPLETE.replace("{1: 0.7, 2: 1, 3: 0.3}", "{'1': 1}")), schema)
    jsonschema.validate({"model": "m", "policy": "weighted", "versions": [1, "3"], "default": 3}, schema)
    jsonschema.validate({"model": "m", "solver": "genetic"}, schema)
    assert parse_spec({"model": "m", "solver": "genetic"}).solver.name == "genetic"
    jsonschema.validate({"model": "m", "versions": {"tag": {"stage": "prod"}}}, schema)
    for wrong in ({"model": "m", "polcy": "weighted"}, {"model": "m", "resources": {"budget": {"memory": "8 gigs"}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_the_schema_describes_every_key():
    schema = PlanSpec.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, field in model.get("properties", {}).items():
            described = field.get("description") or "$ref" in field
            assert described, f"{model['title']}.{name}"


def test_all_findings_at_once_in_the_order_of_lines(read):
    found = findings_of(
        read,
        "model: flights\n"
        "versons: all\n"
        "objective:\n"
        "  metrc: log_loss\n"
        "  form: mix\n"
        "policy:\n"
        "  kind: segment_best\n"
        "  params:\n"
        "    bye: [carrier]\n"
        "around: {holdout: 1.5}\n",
    )
    assert found == (
        "line 2: versons: unknown key 'versons'. Did you mean 'versions'?",
        "line 4: objective.metrc: unknown key 'metrc'. Did you mean 'metric'?",
        "line 5: objective.form: found 'mix', expected 'mixture' or 'select'",
        "line 8: policy.params.by: found nothing, expected the key 'by'",
        "line 9: policy.params.bye: unknown key 'bye'. Did you mean 'by'?",
        "line 10: around.holdout: found 1.5, expected less than 1",
    )


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "model: m\nmodel: n\n",
            "line 1: model: found the key 'model' a second time in line 2, expected each key once",
        ),
        ("model: m\nversions: al\n", "line 2: versions: found 'al', expected all, a list of versions such as [1, 3], "),
        ("model: m\nversions: [1, 1]\n", "line 2: versions: found ['1', '1'], expected each version once"),
        ("model: m\nversions: [1, [2]]\n", "line 2: versions[1]: found [2], expected a valid string"),
        ("model: m\nversions: {tags: {a: b}}\n", "line 2: versions.tags: unknown key 'tags'. Did you mean 'tag'?"),
        ("model: m\npolicy: segment_bst\n", "line 2: policy.kind: No plugin offers the policy 'segment_bst'. Did you"),
        (
            "model: m\nsolver: {name: mlip}\n",
            "line 2: solver.name: No plugin offers the solver 'mlip'. Did you",
        ),
        ("model: m\nresources: {budget: {memory: 8 gigs}}\n", "found '8 gigs', expected a size such as 512Mi, 8Gi"),
        ("model: m\nresources: {load: fast}\n", "line 2: resources.load: found 'fast', expected a rate such as 200/s"),
        (
            "model: m\nresources: {budget: {cpu: 2}}\n",
            "found a budget of cpu without load, expected load (such as",
        ),
        ("model: m\naround: weighted\n", "expected a mapping with the keys breaker, degrade, explore, fallback"),
        ("model: m\nobjective: {weights: {1: .nan}}\n", "found .nan, expected a finite number"),
        ("model: m\nversions: [1, 2]\nobjective: {weights: {1: 1}}\n", "none for ['2']; expected a weight for every"),
        ("versions: all\n", "line 1: model: found nothing, expected the key 'model'"),
        ("", "found nothing, expected keys such as model and policy"),
        ("[model]\n", "found a list, expected keys such as model and policy"),
        ("model: [m\n", "line 2, column 1: "),
        ("model: !!python/object/apply:os.system [ls]\n", "python/object/apply"),
        ("model: m\n? [a]\n: b\n", "found a key that isn't text or a number"),
        (b"model: \xff\n", "byte 7: found 0xff, expected UTF-8"),
        (
            "model: m\npolicy: {kind: weighted, params: {shares: {1: 0.7, 2: 0.2}}}\n",
            "shares that sum to 0.9",
        ),
    ],
)
def test_one_finding(read, text, finding):
    found = findings_of(read, text)
    assert any(finding in each for each in found), found


def test_aliases_cannot_blow_up(read):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert any("20,000 values" in each for each in findings_of(read, "\n".join(lines)))
    assert any("20,000 values" in each for each in findings_of(read, "a: &a [*a]\n"))


def test_a_file_that_is_not_there_or_too_large(read, tmp_path):
    with pytest.raises(PathMissing):
        read_spec(tmp_path / "nowhere.yaml")
    with pytest.raises(PlanFileTooLarge, match="at most 1,048,576 bytes"):
        read("#" * (LIMIT + 1))


def test_labels_that_look_like_dates_stay_text(read):
    assert read("model: 2024-01-01\n").model == "2024-01-01"


def test_a_mapping_gets_the_same_checks():
    with pytest.raises(SpecInvalid, match=r"objective\.metrc: unknown key 'metrc'\. Did you mean 'metric'\?"):
        parse_spec({"model": "m", "objective": {"metrc": "log_loss"}})
    assert parse_spec({"model": "m", "versions": [1, 2]}).versions == ("1", "2")
