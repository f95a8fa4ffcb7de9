"""How an evaluation is to be made, beyond what is evaluated on what."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lepton_plugins.records.record import Record


class EvaluationOptions(Record):
    """Everything has a default that suits a first look."""

    cost: bool = True
    """Measure latency, memory and size: each version in a fresh process of its own, whose end costs the others
    nothing. Without, they are loaded in this process."""
    cost_seconds: Annotated[float, Field(gt=0)] = 2.0
    """Time for the latency measurements of one version, all batch sizes together."""
    evaluators: tuple[str, ...] = ()
    """Plugins of the family "evaluator" that add files, such as "evidently" (its HTML report)."""
    trust: Literal["pickle"] | None = None
    """Leave to load formats that carry code."""
    dataset_name: str | None = None
    """What the data is called in the registry; default: the file's name."""
    group: str | None = None
    """Column of the units (users, queries) that a ranking is scored by, and that intervals cluster by."""
    positive: str | None = None
    """The positive class of two; default: the greater value."""
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the confidence intervals."""
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()
    """Levels of the columns of a regression that gives quantiles; default: the names of its outputs."""
    chunk_rows: Annotated[int, Field(ge=1)] = 10_000
    """Rows that a version is given at once."""
    time_limit: Annotated[float, Field(gt=0)] = 600.0
    """Seconds after which a load, or a call with one chunk, is given up."""
