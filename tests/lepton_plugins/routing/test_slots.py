"""Units and draws: alike from a column and a header, in one row and in a batch."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.routing.slots import Slots, canonical_key, holdout_rows, in_holdout

SALT = "00112233445566778899aabbccddeeff"


@pytest.mark.parametrize(
    "same",
    [
        [7, 7.0, "7", "7.0", b"7", np.int64(7), np.float32(7), np.str_("7"), np.uint8(7)],
        [-3, -3.0, "-3", "-3.0", np.int16(-3)],
        [True, np.bool_(True), "true"],
        [0.5, "0.5", np.float64(0.5)],
        ["Zoë", "Zoë".encode(), np.str_("Zoë")],
        [2**63, str(2**63)],
        [np.datetime64("2026-01-02T03:04:05"), "2026-01-02T03:04:05"],
    ],
)
def test_one_unit_has_one_canonical_form(same):
    assert len({canonical_key(key) for key in same}) == 1


@pytest.mark.parametrize("key", [None, float("nan"), np.float32("nan"), "", b"", pd.NA, pd.NaT, np.datetime64("NaT")])
def test_nothing_is_no_key(key):
    assert canonical_key(key) is None


def test_different_units_stay_apart():
    keys = ["7", "07", "7.5", "true", True, 1, "a", "A", " a", 1e300, float("inf"), b"\xff\xfe", datetime(2026, 1, 1)]
    assert len({canonical_key(key) for key in keys}) == len(keys) - 1  # True and "true"


@pytest.mark.parametrize("key", [{"a": 1}, ["a"], ("a",), np.zeros(2)])
def test_what_cannot_be_a_key_is_refused(key):
    with pytest.raises(RequestInvalid, match="string or a number"):
        canonical_key(key)


KEYS = st.one_of(
    st.none(), st.text(max_size=12), st.just("\ud800"), st.integers(), st.floats(), st.booleans(), st.binary(max_size=8)
)


@settings(max_examples=150)
@given(st.lists(KEYS, min_size=1, max_size=30))
def test_a_batch_gives_what_rows_give_one_by_one(keys):
    slots = Slots(SALT)
    draws, logged = slots.units(keys, "request", len(keys))
    for row, key in enumerate(keys):
        unit = slots.unit(key)
        expected = unit if unit is not None else (slots.row("request", row), None)
        assert (int(draws[row]), logged[row]) == expected


def test_columns_of_any_dtype_agree_with_headers():
    slots = Slots(SALT)
    for column in (np.arange(5), np.arange(5.0), np.arange(5).astype(str), np.arange(5).astype(object)):
        draws, _ = slots.units(column, "r", 5)
        assert draws.tolist() == [slots.unit(str(i))[0] for i in range(5)]


def test_draws_depend_on_salt_and_key_alone():
    assert Slots(SALT).unit("a") == Slots(SALT).unit("a")
    assert Slots(SALT).unit("a") != Slots(SALT[::-1]).unit("a")
    # Pinned: a change here would move every unit of every deployment.
    assert Slots(SALT).unit("customer-1") == (8229310101877109537, "a366d9a6a77ee42fd9bd6eb3d941f322")
    assert Slots(SALT).row("request", 3) == 16956842345592607144


def test_draws_are_uniform_and_the_holdout_is_independent_of_them():
    slots = Slots(SALT)
    n = 100_000
    for draws in (slots.units(np.arange(n), "r", n)[0], slots.rows("r", n)):
        counts = np.bincount((draws >> np.uint64(58)).astype(int), minlength=64)
        # Chi-square with 63 degrees of freedom: beyond 110 about once in 4,000 salts; this salt is fixed.
        assert ((counts - n / 64) ** 2 / (n / 64)).sum() < 110
        held = holdout_rows(draws, 0.3)
        assert held.mean() == pytest.approx(0.3, abs=0.006)
        for arm in range(4):
            assert held[(draws >> np.uint64(62)) == arm].mean() == pytest.approx(0.3, abs=0.012)
        assert [in_holdout(int(draw), 0.3) for draw in draws[:200]] == held[:200].tolist()
