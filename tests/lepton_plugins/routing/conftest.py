"""Rows and columns of the linear models, and a router that sends each carrier to a version of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.signature import Field
from lepton_plugins.routing.router import Router

CARRIER = Field(name="carrier", dtype="str", required=False)
TABLE = {"AA": "1", "UA": "2", "WN": "3"}


def rows_of(n: int, seed: int = 0) -> np.ndarray:
    """Rows (n, 3)."""
    return np.random.default_rng(seed).normal(size=(n, 3))


def columns(rows: np.ndarray, **more: object) -> dict[str, Any]:
    """The inputs x0, x1, x2 by name, and more of them."""
    return {f"x{i}": rows[:, i] for i in range(3)} | more


def bandit(kind: str = "epsilon_greedy", **params: Any) -> PolicyDocument:
    arms = ["1", "2", "3"]
    start = {"live": arms, "metric": "log_loss", "baseline": 0.7, "start": dict.fromkeys(arms, 0.5)}
    return PolicyDocument(kind=kind, params=params, document=start)


@pytest.fixture
def by_carrier(make_router: Callable[..., Router], segments_policy: Callable[..., Any]) -> Router:
    return make_router(policy=segments_policy("carrier", TABLE), context=[CARRIER])
