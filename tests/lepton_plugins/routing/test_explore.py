"""`around.explore`: some units draw their arm from all alike, and every propensity says so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_plugins.records.signature import Field
from lepton_plugins.routing.slots import explored_arm, explored_arms

CONTEXT = [Field(name="carrier", dtype="str", required=False), Field(name="customer", dtype="str", required=False)]


def rows(count: int, carrier: str = "AA") -> dict[str, np.ndarray]:
    data = {f"x{i}": np.zeros(count) for i in range(3)}
    data["carrier"] = np.array([carrier] * count, dtype=object)
    data["customer"] = np.array([f"c{i}" for i in range(count)], dtype=object)
    return data


@pytest.fixture
def exploring(make_router, segments_policy):
    policy = segments_policy("carrier", {"AA": "1", "UA": "2"})
    around = {"sticky": {"key": "customer"}, "holdout": 0.1, "explore": 0.3, "shadow": ["3"]}
    return make_router(policy=policy, context=CONTEXT, around=around, default="2")


def test_arms_are_chosen_as_often_as_their_propensities_say(exploring):
    block = exploring.predict(rows(20_000)).block
    vectors = block.vectors[block.cells]
    # 10 % held out for 2, else 30 % of either, 15 % each: the shadow gets nothing.
    np.testing.assert_allclose(vectors, np.broadcast_to([0.9 * 0.85, 0.1 + 0.9 * 0.15, 0.0], vectors.shape))
    shares = np.bincount(block.chosen, minlength=3) / 20_000
    assert np.abs(shares - vectors[0]).max() < 4 * np.sqrt(0.25 / 20_000)
    reasons = np.array(block.reasons, dtype=object)[block.cells]
    assert abs((reasons == "explore").mean() - 0.9 * 0.3) < 0.02
    assert abs((reasons == "holdout").mean() - 0.1) < 0.02


def test_one_row_is_decided_as_many_are_and_units_stay(exploring):
    data = rows(300)
    many = exploring.predict(data).decisions
    for index in range(0, 300, 7):
        one = exploring.predict({name: column[index : index + 1] for name, column in data.items()}).decisions[0]
        decided = exploring.decide({"carrier": "AA"}, key=f"c{index}")
        for found in (one, decided):
            assert (found.chosen, found.propensity, found.reason, found.draw, found.segment) == (
                many[index].chosen,
                many[index].propensity,
                many[index].reason,
                many[index].draw,
                many[index].segment,
            )


def test_replay_gives_the_arms_that_explored(exploring):
    answer = exploring.predict(rows(500))
    assert exploring.replay(answer.block).tolist() == answer.block.chosen.tolist()


def test_explain_shows_who_decided(exploring):
    reasons = {}
    for number in range(60):
        explanation = exploring.explain({"carrier": "AA"}, key=f"c{number}")
        reasons[explanation.reason] = {step.name: step for step in explanation.stack}
    assert reasons["explore"]["explore"].decides
    assert "30 % of the units try an arm" in reasons["explore"]["explore"].outcome
    assert not reasons["explore"]["policy"].decides
    assert reasons["best in AA"]["policy"].decides


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), st.floats(0, 0.999), st.integers(1, 2000))
def test_one_draw_and_many_agree(draws, share, arms):
    many = explored_arms(np.array(draws, dtype=np.uint64), share, arms)
    assert many.tolist() == [explored_arm(draw, share, arms) for draw in draws]
    assert ((many >= -1) & (many < arms)).all()


def test_exploring_is_independent_of_the_slot_and_uniform():
    draws = np.random.default_rng(1).integers(0, 2**64, 200_000, dtype=np.uint64)
    arms = explored_arms(draws, 0.25, 5)
    counts = np.bincount(arms + 1, minlength=6) / len(draws)
    assert np.abs(counts - [0.75, *[0.05] * 5]).max() < 0.004
    low = arms[draws < 2**63]
    assert abs((low >= 0).mean() - 0.25) < 0.005
