"""The flights: what is known before departure, in periods that don't overlap."""

from __future__ import annotations

import pandas as pd

from lepton_plugins.quickstart.flights import EVALUATION, INPUTS, TARGET, TRAFFIC, Period, in_period
from lepton_plugins.quickstart.versions import RECIPES


def test_every_flight_that_arrived_is_there_in_the_order_of_the_timetable(flights: pd.DataFrame) -> None:
    assert len(flights) == 327_346
    assert flights["month"].is_monotonic_increasing
    assert set(flights[TARGET].unique()) == {0, 1}
    assert not flights.isna().any().any()


def test_nothing_is_known_that_only_the_departure_tells(flights: pd.DataFrame) -> None:
    assert set(flights.columns) == {*INPUTS, TARGET, "month"}
    assert not [name for name in INPUTS if "delay" in name or "air_time" in name]


def test_times_are_minutes_after_midnight(flights: pd.DataFrame) -> None:
    for name in ("departure", "arrival"):
        assert flights[name].between(0, 24 * 60).all()
    assert (flights["departure"] // 60 == flights["hour"]).all()


def test_no_version_has_seen_the_evaluation_and_nothing_has_seen_the_traffic() -> None:
    assert max(recipe.period.last for recipe in RECIPES) < EVALUATION.first
    assert all(period.first > EVALUATION.last for period in TRAFFIC)


def test_a_period_holds_whole_months(flights: pd.DataFrame) -> None:
    november = in_period(flights, Period(11, 11))
    assert len(november) == (flights["month"] == 11).sum()
    assert "month" not in november.columns
    assert str(Period(11, 11)) == "November"
    assert str(Period(1, 4)) == "January–April"
