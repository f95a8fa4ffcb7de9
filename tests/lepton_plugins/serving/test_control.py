"""Feedback, explanations, the plan and metrics, over HTTP from a real server."""

from __future__ import annotations

import json
import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0, "x3": 0.25}


def predict(client, carrier="UA", rows=1):
    response = client.post("/invocations", json={"dataframe_records": [{**ROW, "carrier": carrier}] * rows})
    assert response.status_code == 200, response.text
    return response


def samples(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def sample(client, name, **labels):
    return samples(client).get((name, frozenset(labels.items())), 0.0)


def test_feedback_is_stored_with_its_decision(client):
    decision = predict(client).headers["x-lepton-decision"]
    receipt = client.post("/lepton/feedback", json={"decision": decision, "reward": 1.0})
    assert receipt.status_code == 200, receipt.text
    assert receipt.json() == {"stored": 1, "duplicates": 0, "unknown": []}
    again = client.post(
        "/lepton/feedback", json=[{"decision": decision, "label": "1"}, {"decision": "x/0", "reward": 0}]
    )
    assert again.json() == {"stored": 0, "duplicates": 1, "unknown": ["x/0"]}


def test_feedback_finds_each_row_of_a_request(client):
    request = predict(client, rows=3).headers["x-lepton-decision"]
    items = [{"decision": f"{request}/{row}", "label": "0"} for row in (0, 1, 2, 3)]
    assert client.post("/lepton/feedback", json=items).json() == {
        "stored": 3,
        "duplicates": 0,
        "unknown": [f"{request}/3"],
    }


def test_feedback_that_says_nothing_is_refused(client):
    for body in (
        {"decision": "x/0"},
        {"reward": 1.0},
        {"decision": "x/0", "reward": "a"},
        {"decision": "x/0", "rewrad": 1},
        [],
    ):
        response = client.post("/lepton/feedback", json=body)
        assert response.status_code == (200 if body == [] else 400), body


def test_feedback_without_a_log_says_so(tensor_server):
    with tensor_server.client() as client:
        response = client.post("/lepton/feedback", json={"decision": "x/0", "reward": 1.0})
    assert (response.status_code, response.json()["code"]) == (409, "feedback_unavailable")


def test_explain_names_every_candidate(client):
    response = client.post("/lepton/explain", json={"context": {"carrier": "UA"}})
    assert response.status_code == 200, response.text
    text = json.dumps(response.json())
    assert "best in UA" in text
    assert {candidate["version"] for candidate in response.json()["candidates"]} == {"1", "2", "3"}


def test_the_plan_is_shown_without_where_its_files_are(client, deployment):
    response = client.get("/lepton/plan")
    assert response.json()["digest"] == deployment.plan.digest
    assert response.json()["plan"]["default"] == "1"
    assert response.json()["reload"]["error"] is None
    assert "/somewhere/secret" not in response.text
    assert str(deployment.path) not in response.text


def test_metrics_count_requests_by_version_and_role(client):
    labels = {"model": "flights", "version": "2", "role": "challenger"}
    before = samples(client)
    predict(client)
    client.post("/invocations", json={})
    after = samples(client)

    def grown(name, **of):
        key = (name, frozenset(of.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("lepton_requests_total", code="200", **labels) == 1
    assert grown("lepton_rows_total", **labels) == 1
    assert grown("lepton_requests_total", model="flights", version="", role="", code="400") == 1
    assert grown("lepton_request_duration_seconds_count", model="flights") == 2
    assert after["lepton_version_weight_ratio", frozenset(labels.items())] == 1 / 3
    assert grown("lepton_decision_log_dropped_total", model="flights") == 0
    assert any(name == "lepton_build_info" for name, _ in after)


def test_decisions_are_on_disk_when_the_server_has_ended(make_deployment, start_server, tmp_path):
    made = make_deployment(tmp_path / "flights")
    decisions = tmp_path / "decisions"
    with start_server(made.path, tmp_path, decisions=decisions.as_uri()) as server, server.client() as client:
        ids = [predict(client, carrier).headers["x-lepton-decision"] for carrier in ("AA", "UA", "WN", "XX")]
        client.post("/lepton/feedback", json=[{"decision": ids[0], "reward": 0.5}])
    text = "".join(path.read_text() for path in Path(decisions).rglob("*.jsonl"))
    assert all(identity.partition("/")[0] in text for identity in ids)
    assert "UA" in text
    assert time.time() > 0
