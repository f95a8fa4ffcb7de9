"""A policy that reads the request's headers, behind the real application."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest

from lepton_plugins.evaluation.paired import PairedPredictions
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.app import create_app

ROW = {"x0": 0.5, "x1": -1.0, "x2": 2.0}
RULES = {
    "rules": [
        {"when": 'header["x-tenant"] == "gold"', "use": 2},
        {"when": "x0 > 1.0 && distance < 100", "use": 3},
    ]
}


@pytest.fixture
def directory(tmp_path, build_directory, linear_files):
    from lepton_selection.rules import Rules

    params = Rules.Params.model_validate(RULES)
    none = PairedPredictions.without_rows(["1", "2", "3"], "1")
    made = Rules.compile(params, none, None, None, ["1", "2", "3"], None)
    policy = PolicyDocument(
        kind="rules", params=params.model_dump(mode="json"), features=made.features, document=dict(made.document)
    )
    context = [Field(name=name, dtype="object", required=False) for name in ("header:x-tenant", "distance")]
    models = {version: linear_files[version] for version in ("1", "2", "3")}
    return build_directory(tmp_path / "rules", models, policy=policy, context=context)


def test_rules_choose_by_column_and_header(directory):
    with Router.load(directory) as router:
        columns = {f"x{i}": np.array([0.5, 1.5, 1.5, 1.5]) for i in range(3)}
        columns["header:x-tenant"] = np.array([None, "gold", None, None], dtype=object)
        columns["distance"] = np.array([1, 1, 1, None], dtype=object)
        answer = router.predict(columns)
        assert [d.served for d in answer.decisions] == ["1", "2", "3", "1"]
        assert router.replay(answer.block).tolist() == answer.block.chosen.tolist()
        assert router.missing["rule 1"] == 3 * 2
        shown = router.explain({"x0": 1.5, "header:x-tenant": "gold"})
        assert shown.chosen == "2"
        assert shown.stack[3].outcome == 'rules: rule 1: header["x-tenant"] == "gold"'


def test_headers_reach_the_policy_and_the_body_cannot_stand_in(directory):
    app = create_app(directory)

    async def talk():
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
        ):
            plain = await client.post("/invocations", json={"dataframe_records": [ROW, ROW]})
            gold = await client.post(
                "/invocations", json={"dataframe_records": [ROW, ROW]}, headers={"X-Tenant": "gold"}
            )
            forged = await client.post("/invocations", json={"dataframe_records": [{**ROW, "header:x-tenant": "gold"}]})
            return plain, gold, forged, (await client.get("/metrics")).text

    plain, gold, forged, metrics = asyncio.run(talk())
    versions = [answer.headers["x-lepton-version"] for answer in (plain, gold, forged)]
    assert versions == ["1", "2", "1"]
    assert 'lepton_policy_missing_total{model="flights",name="rule 1"} 3.0' in metrics
