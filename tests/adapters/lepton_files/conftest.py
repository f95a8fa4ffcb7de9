"""Blocks of decisions as logs get them."""

from __future__ import annotations

import numpy as np

from lepton_plugins.routing.store import DecisionBlock


def block(request: str, rows: int = 3, **more: object) -> DecisionBlock:
    """Decisions with values of every kind in their context; `more` replaces what the block holds."""
    random = np.random.default_rng(len(request))
    context = {
        "carrier": np.array(["AA", None, "Ünï"] * rows, dtype=object)[:rows],
        "mixed": np.array([True, 7, "7"] * rows, dtype=object)[:rows],
        "distance": np.array([0.1, np.nan, np.inf] * rows)[:rows],
        "single": np.array([0.1, 0.2, 0.3] * rows, dtype=np.float32)[:rows],
        "count": np.arange(rows),
        "flag": np.arange(rows) % 2 == 0,
        "when": np.array(["2026-01-02T03:04:05.123456789", "NaT", "2026-01-03"] * rows, dtype="M8[ns]")[:rows],
    }
    values: dict[str, object] = {
        "request": request,
        "time": 1_700_000_000.1,
        "plan": "sha256:" + "a" * 64,
        "arms": ("1", "2", "3"),
        "keys": ["k" * 32, None, "l" * 32][:rows] + [None] * max(rows - 3, 0),
        "context": context,
        "chosen": random.integers(0, 3, rows),
        "served": random.integers(0, 3, rows),
        "cells": np.array([4, 1, 4] * rows)[:rows],
        "vectors": random.dirichlet([1, 1, 1], 6),
        "draws": random.integers(0, 2**64, rows, dtype=np.uint64),
        "reasons": [f"reason {i}" for i in range(6)],
        "segments": ["a", None, "c", "d", "e", "f"],
        "fallback": [None, "model_failed", None][:rows] + [None] * max(rows - 3, 0),
        "shadows": ("3",),
        "model": "flights",
    }
    return DecisionBlock(**(values | more))  # type: ignore[arg-type]
