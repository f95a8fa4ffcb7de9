"""What the decision log must not hold: the plan says, and the bytes are looked at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lepton_files.jsonl import read_blocks
from lepton_plugins.errors import ContextNotLogged
from lepton_plugins.records.signature import Field
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.store import open_log

SECRET, KEY, OTHER = "plutonium-tier", "customer-4711", "berlin-mitte"
CONTEXT = [Field(name=name, dtype="str", required=False) for name in ("tier", "customer", "city")]


def rows(count: int) -> dict[str, np.ndarray]:
    data = {f"x{i}": np.linspace(-1, 1, count) for i in range(3)}
    values = {"tier": SECRET, "customer": KEY, "city": OTHER}
    return data | {name: np.array([value] * count, dtype=object) for name, value in values.items()}


def logged(make_router, segments_policy, place: str, folder: Path, **settings) -> bytes:
    log = open_log(place)
    policy = segments_policy("tier", {SECRET: "2", "gold": "3"})
    router = make_router(policy=policy, context=CONTEXT, around={"sticky": {"key": "customer"}}, log=log, **settings)
    answers = [router.predict(rows(count), request=f"r{count}") for count in (1, 5)]
    assert {version for answer in answers for version in answer.versions} == {"2"}
    assert answers[0].decisions[0].context["tier"] == SECRET, "the caller sees what he sent"
    router.feedback([{"decision": "r5/3", "reward": 1.0}])
    log.close()
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize("scheme", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("settings", "hidden", "shown"),
    [
        ({}, [KEY, OTHER], [SECRET]),
        ({"decisions": {"columns": ["city"]}}, [KEY], [SECRET, OTHER]),
        ({"decisions": {"redact": ["tier"]}}, [KEY, SECRET, OTHER], ["tier"]),
        ({"decisions": {"drop": ["tier"]}}, [KEY, SECRET, OTHER], []),
        ({"decisions": {"columns": ["city", "customer"], "redact": ["customer", "city"]}}, [KEY, OTHER], [SECRET]),
        ({"log_context": False, "decisions": {"columns": ["city"]}}, [KEY, SECRET, OTHER], []),
    ],
)
def test_the_bytes_hold_what_the_plan_lets_them(
    make_router, segments_policy, tmp_path, scheme, settings, hidden, shown
):
    found = logged(make_router, segments_policy, f"{scheme}:{tmp_path / 'log'}", tmp_path / "log", **settings)
    if scheme == "parquet":
        blocks = list(read_blocks(tmp_path / "log"))
        found += "".join(str(decision) for block in blocks for decision in block.rows()).encode()
    for secret in hidden:
        assert secret.encode() not in found
    for word in shown:
        assert word.encode() in found


def test_redacted_values_stay_apart_and_equal(make_router, segments_policy, tmp_path):
    logged(make_router, segments_policy, f"jsonl:{tmp_path / 'log'}", tmp_path / "log", decisions={"redact": ["tier"]})
    hashes = {decision.context["tier"] for block in read_blocks(tmp_path / "log") for decision in block.rows()}
    segments = {decision.segment for block in read_blocks(tmp_path / "log") for decision in block.rows()}
    keys = {decision.key for block in read_blocks(tmp_path / "log") for decision in block.rows()}
    assert len(hashes) == len(segments) == len(keys) == 1
    assert len(hashes | segments | keys) == 3
    with Router.load(tmp_path / "deployment0") as router:
        blocks = list(read_blocks(tmp_path / "log"))
        assert router.replay(blocks[0]).tolist() != blocks[0].chosen.tolist(), "a hash isn't the value"


def test_dropped_columns_cannot_be_replayed(make_router, segments_policy, tmp_path):
    logged(make_router, segments_policy, f"jsonl:{tmp_path / 'log'}", tmp_path / "log", decisions={"drop": ["tier"]})
    with Router.load(tmp_path / "deployment0") as router, pytest.raises(ContextNotLogged, match="reads tier"):
        router.replay(next(iter(read_blocks(tmp_path / "log"))))


def test_a_column_is_logged_or_dropped():
    with pytest.raises(ValidationError, match="in columns and in drop"):
        PlanSpec.model_validate({"model": "m", "decisions": {"columns": ["a"], "drop": ["a"]}})
