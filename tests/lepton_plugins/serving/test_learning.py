"""A served plan that learns, from the outside: it goes on after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.directory import write_plan
from lepton_plugins.testing import write_deployment


@pytest.fixture
def learning_plan(tmp_path: Path) -> Path:
    directory = tmp_path / "deployment"
    plan = write_deployment(directory)
    start = {"live": ["1", "2"], "metric": "mse", "baseline": 1.0, "start": {"1": 0.5, "2": 0.5}}
    policy = PolicyDocument(kind="thompson", params={"prior": 0}, document=start)
    write_plan(plan.model_copy(update={"policy": policy}), {}, directory)
    return directory


def propensities(client: Any) -> dict[str, float]:
    explained = client.post("/lepton/explain", json={"context": {}}).json()
    return {candidate["version"]: candidate["propensity"] for candidate in explained["candidates"]}


def test_a_server_learns_and_remembers(learning_plan: Path, start_server: Any, tmp_path: Path) -> None:
    settings = {"learning": str(tmp_path / "learning"), "decisions": str(tmp_path / "log")}
    with start_server(learning_plan, tmp_path, **settings) as server, server.client() as client:
        assert propensities(client) == pytest.approx({"1": 0.5, "2": 0.5})
        items = []
        for number in range(60):
            body = {"dataframe_records": [{"x": 1.0, "unit": f"u{number}"}]}
            response = client.post("/invocations", json=body)
            version = response.headers["x-lepton-version"]
            items.append({"decision": response.headers["x-lepton-decision"], "reward": float(version == "2")})
        receipt = client.post("/lepton/feedback", json=items).json()
        assert receipt == {"stored": 60, "duplicates": 0, "unknown": [], "learned": 60, "waiting": 0}
        assert 'lepton_feedback_total{model="line",result="learned"} 60.0' in client.get("/metrics").text
        learned = propensities(client)
        assert learned["2"] > 0.99
        refused = client.post("/lepton/feedback", json={"decision": items[0]["decision"], "reward": 7})
        assert (refused.status_code, refused.json()["code"]) == (400, "reward_invalid")
    with start_server(learning_plan, tmp_path, **settings) as server, server.client() as client:
        assert propensities(client) == pytest.approx(learned)
        again = client.post("/lepton/feedback", json=items).json()
        assert (again["stored"], again["duplicates"], again["learned"]) == (0, 60, 0)
