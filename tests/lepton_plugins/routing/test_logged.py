"""A router with a decision log: what is logged replays, and feedback finds its decision."""

from __future__ import annotations

import numpy as np
import pytest

from lepton_files.jsonl import JsonLinesDecisionLog, read_blocks, read_feedback
from lepton_plugins.errors import RequestInvalid
from lepton_plugins.records.decision import Feedback
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.router import Router

CONTEXT = [Field(name="carrier", dtype="str", required=False), Field(name="customer", dtype="str", required=False)]


@pytest.fixture
def logging(make_router, segments_policy, tmp_path):
    log = JsonLinesDecisionLog(tmp_path / "log")
    policy = segments_policy("carrier", {"AA": "1", "UA": "2", "WN": "3"})
    around = {"sticky": {"key": "customer"}, "holdout": 0.2}
    router = make_router(policy=policy, context=CONTEXT, around=around, log=log, default="3")
    yield router
    log.close()


def request(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    data = {f"x{i}": random.normal(size=rows) for i in range(3)}
    data["carrier"] = random.choice(np.array(["AA", "UA", "WN", "ZZ", None], dtype=object), rows)
    data["customer"] = np.array([f"customer-{i}" for i in random.integers(0, 50, rows)], dtype=object)
    return data


def test_the_logged_lines_alone_replay_every_decision(logging, tmp_path):
    answers = [logging.predict(request(rows, seed), request=f"r{seed}") for seed, rows in enumerate((1, 200, 1, 7))]
    answers.append(logging.predict(request(5), request="forced", version="1"))
    logging.settle()
    blocks = list(read_blocks(tmp_path / "log"))
    with Router.load(tmp_path / "deployment0") as fresh:
        for block, answer in zip(blocks, answers, strict=True):
            assert fresh.replay(block).tolist() == answer.block.chosen.tolist() == block.chosen.tolist()
            assert [str(d) for d in block.rows()] == [str(d) for d in answer.decisions]
        for decision, customer in zip(answers[1].decisions[:20], request(200, 1)["customer"], strict=False):
            again = fresh.decide(decision.context, key=customer)
            assert (again.chosen, again.draw, again.propensity) == (decision.chosen, decision.draw, decision.propensity)
    text = "".join(file.read_text() for file in (tmp_path / "log").iterdir())
    assert "customer-" not in text


def test_decisions_of_another_plan_are_not_replayed(logging, make_router, weighted_policy):
    other = make_router(policy=weighted_policy({"1": 1.0}))
    with pytest.raises(RequestInvalid, match="decisions of the plan"):
        other.replay(logging.predict(request(2)).block)


def test_feedback_joins_its_decision(logging, tmp_path):
    answer = logging.predict(request(3), request="mine")
    ids = [decision.id for decision in answer.decisions]
    assert ids == ["mine/0", "mine/1", "mine/2"]
    receipt = logging.feedback([{"decision": ids[0], "reward": 1.0}, Feedback(decision="other/0", label=1)])
    assert (receipt.stored, receipt.unknown) == (1, ["other/0"])
    ((feedback, decision),) = read_feedback(tmp_path / "log")
    assert feedback.reward == 1.0
    assert str(decision) == str(answer.decisions[0])
    with pytest.raises(RequestInvalid, match="rewrad"):
        logging.feedback([{"decision": ids[0], "rewrad": 1.0}])
